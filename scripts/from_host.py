"""Writes what a running ComfyUI says about our nodes: scripts/signatures.json and locales/en/nodeDefs.json.

    python scripts/from_host.py --url http://127.0.0.1:8188

Needed after a node's inputs, outputs or texts change; then run scripts/make_workflows.py, and translate what
tests/test_locales.py names.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

HOST_NODES = (
    "UNETLoader",
    "VAELoader",
    "LoadImage",
    "LoadVideo",
    "GetVideoComponents",
    "CreateVideo",
    "ImageScaleToTotalPixels",
    "SaveImage",
    "SaveVideo",
)
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
OWN_WIDGETS = ("INSTRUCTX_COMPARE_VIEW",)  # filled by the browser extension, in no file


def signature(info: dict[str, Any]) -> dict[str, Any]:
    """One entry of /object_info, cut to names, order, types and defaults."""
    inputs = []
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, options = ([*info["input"][group][name], {}])[:2]
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            if kind in OWN_WIDGETS:
                continue
            entry = {"name": name, "type": kind, "optional": group == "optional"}
            entry["widget"] = kind in WIDGET_TYPES and not options.get("forceInput", False)
            if entry["widget"]:
                entry["default"] = default(kind, options)
                entry |= {"control": True} if options.get("control_after_generate") else {}
                entry |= {"multiline": True} if options.get("multiline") else {}
            inputs.append(entry)
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    return {"display_name": info["display_name"], "inputs": inputs, "outputs": outputs}


def default(kind: str, options: dict[str, Any]) -> Any:
    if "default" in options:
        return options["default"]
    # no choice by file names: they are those of one machine
    return {"COMBO": None, "STRING": "", "BOOLEAN": False}.get(kind, 0)


def signatures(object_info: dict[str, Any]) -> dict[str, Any]:
    """All our nodes, and the host's that the workflows use."""
    ours = [name for name in object_info if name.startswith("InstructX")]
    return {name: signature(object_info[name]) for name in sorted([*ours, *HOST_NODES])}


def texts(info: dict[str, Any]) -> dict[str, Any]:
    """One entry of /object_info in the form of a locale: names and tooltips, outputs by number."""
    inputs: dict[str, Any] = {}
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            options = ([*info["input"][group][name], {}])[1]
            inputs[name] = {"name": options.get("display_name") or name, "tooltip": options.get("tooltip", "")}
    tooltips = info.get("output_tooltips") or [""] * len(info["output"])
    outputs = {
        str(slot): {"name": name, "tooltip": tooltip or ""}
        for slot, (name, tooltip) in enumerate(zip(info["output_name"], tooltips, strict=True))
    }
    found = {"display_name": info["display_name"], "description": info["description"], "inputs": inputs}
    return found | ({"outputs": outputs} if outputs else {})


def locale(object_info: dict[str, Any]) -> dict[str, Any]:
    """locales/en/nodeDefs.json: the nodes' own texts."""
    return {name: texts(object_info[name]) for name in sorted(object_info) if name.startswith("InstructX")}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="a running ComfyUI with this pack")
    url = parser.parse_args().url
    if not url.startswith(("http://", "https://")):
        sys.exit(f"error: {url} is no http address")
    with urllib.request.urlopen(f"{url}/object_info") as answer:  # noqa: S310
        object_info = json.load(answer)
    write(Path(__file__).with_name("signatures.json"), signatures(object_info))
    write(Path(__file__).parents[1] / "locales" / "en" / "nodeDefs.json", locale(object_info))


if __name__ == "__main__":
    main()
