"""`instructx eval [STAGE]`: measure an editor. Without a stage: the box, from the first item to the scores, offline.

    items -> edit -> judge -> report        the links of a benchmark, each on the folder that the one before it wrote
    shapes, world                           success on the procedural world, versions 1 and 2

A new stage is a file in evaluate/ with add_arguments and run, and a line of STAGES.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType

# stage -> (module, one line of help)
STAGES = {
    "box": (".evaluate.box", "what eval alone does: 140 drawn clips, edited and judged by their truth, offline"),
    "items": (".evaluate.items", "what a benchmark's authors ship -> the items of an evaluation"),
    "edit": (".evaluate.edit", "items -> outputs, by this model or another editor"),
    "judge": (".evaluate.judge", "outputs -> scores, by an MLLM behind an address or by the truth"),
    "export": (".evaluate.export", "outputs in the layout of the benchmark's own scripts"),
    "judge-check": (
        ".evaluate.judge_check",
        "how far a judge can be trusted: its scores of edits whose order is known",
    ),
    "report": (".evaluate.report", "tables in the paper's layout, plots and every output, as one page and Markdown"),
    "metrics": (".evaluate.metrics", "what can be measured of outputs without a judge"),
    "study-form": (".evaluate.study_form", "a page on which people rate outputs of several editors, blind"),
    "study-result": (".evaluate.study_result", "means, agreement and differences out of the raters' files"),
    "shapes": (".evaluate.shapes", "the procedural world, version 1, of the shipped model"),
    "world": (".evaluate.world", "the procedural world, version 2, and real photos: the table of targets"),
}
DEFAULT = "box"


def with_stage(given: Sequence[str]) -> list[str]:
    """What was given, where no stage is named as the default's: `instructx eval`, `instructx eval --limit 1`."""
    is_named = bool(given) and (not given[0].startswith("-") or given[0] in ("-h", "--help"))
    return list(given) if is_named else [DEFAULT, *given]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for name, (_, text) in STAGES.items():
        _module(name).add_arguments(stages.add_parser(name, help=text, description=text))


def run(args: argparse.Namespace) -> int:
    return int(_module(args.stage).run(args) or 0)


def _module(stage: str) -> ModuleType:
    return importlib.import_module(STAGES[stage][0], __package__)
