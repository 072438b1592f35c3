"""Writes workflows/, workflows/api/ and subgraphs/ from the descriptions in templates.py.

python scripts/make_workflows.py           write
python scripts/make_workflows.py --check   exit 1 and name the files that differ
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from blueprint import End, blueprint
from graph import ROOT, Graph
from templates import TEMPLATES, TINY, edit, edit_long, loaders
from templates import build as build_template

SETTINGS = (
    ("instruction", "STRING", "Make the circle blue."),
    ("seed", "INT", 0),
    ("steps", "INT", TINY.steps),
    ("shift", "FLOAT", TINY.shift),
    ("diffusion_model", "COMBO", TINY.diffusion_model),
    ("vae", "COMBO", TINY.vae),
    ("encoder", "COMBO", TINY.text_encoder),
    ("adapter", "COMBO", TINY.adapter),
)


def edit_blueprint(medium: str) -> dict[str, Any]:
    """ "Edit Image (InstructX)": image in, image out; "Edit Video (InstructX)": video in, video out, sound kept."""
    graph = Graph(f"Edit {medium.capitalize()} (InstructX)")
    kind = medium.upper()
    ends = [End("source", kind), End("reference", "IMAGE"), *(End(*setting) for setting in SETTINGS)]
    wires = {end.name: end.wire for end in ends}
    sampling = {name: wires[name] for name in ("seed", "steps", "shift")} | {"cfg": 1.0}  # above 1 needs a negative
    models = loaders(graph, TINY, lambda name, value: wires[name])
    asked = {"instruction": wires["instruction"]}
    result, applied = edit(graph, models, wires["source"], wires["reference"], asked, **sampling)
    if medium == "video":
        made = graph.add("5 Result", "CreateVideo", images=result, fps=applied.out("fps"), audio=applied.out("audio"))
        result = made.out("VIDEO")
    description = f"Edits {'an image' if medium == 'image' else 'a video'} by instruction, with an optional reference."
    return blueprint(graph, ends, [(medium, result)], description)


def long_blueprint() -> dict[str, Any]:
    """ "Edit Long Video (InstructX)": video in, video out, any length."""
    graph = Graph("Edit Long Video (InstructX)")
    settings = (*SETTINGS, ("cfg", "FLOAT", 1.0), ("window", "INT", 17))
    ends = [End("source", "VIDEO"), End("reference", "IMAGE"), *(End(*setting) for setting in settings)]
    wires = {end.name: end.wire for end in ends}
    sampling = {name: wires[name] for name in ("seed", "steps", "cfg", "shift", "window")}
    models = loaders(graph, TINY, lambda name, value: wires[name])
    asked = {"instruction": wires["instruction"]}
    node = edit_long(graph, models, wires["source"], wires["reference"], asked, **sampling)
    description = "Edits a video of any length by instruction, in windows that continue each other."
    return blueprint(graph, ends, [("video", node.out("video"))], description)


def files() -> dict[str, str]:
    """Path relative to the project's root -> contents, of every file this writes."""
    made: dict[str, Any] = {}
    for template in TEMPLATES:
        graph = build_template(template)
        made[f"workflows/{template.title}.json"] = graph.ui()
        made[f"workflows/api/{template.slug}.json"] = graph.api()
    for medium in ("image", "video"):
        made[f"subgraphs/Edit {medium.capitalize()} (InstructX).json"] = edit_blueprint(medium)
    made["subgraphs/Edit Long Video (InstructX).json"] = long_blueprint()
    return {name: json.dumps(value, indent=1, ensure_ascii=True) + "\n" for name, value in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    check = parser.parse_args().check
    wanted = files()
    found = {p.relative_to(ROOT).as_posix() for f in ("workflows", "workflows/api", "subgraphs") for p in on_disk(f)}
    differ = sorted(name for name, text in wanted.items() if name not in found or (ROOT / name).read_text() != text)
    extra = sorted(found - set(wanted))
    if check:
        if differ or extra:
            sys.exit(f"error: not as scripts/templates.py says: {', '.join(differ + extra)}; run {Path(__file__).name}")
        return
    for name in differ:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(wanted[name], encoding="utf-8")
    for name in extra:
        (ROOT / name).unlink()


def on_disk(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.json"))


if __name__ == "__main__":
    main()
