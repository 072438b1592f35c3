"""`instructx eval [STAGE]`: measure an editor. Without a stage: the box, from the first item to the report, offline.

    items -> edit -> judge -> report        the links of a benchmark, each on a folder that the one before it wrote
    shapes, world                           success on the procedural world, versions 1 and 2

A new stage is a file in evaluate/ and a line of STAGES.
"""

from __future__ import annotations

import argparse
import importlib

# stage -> (module, its function that adds arguments, one line of help); the module has run(args) -> exit code
STAGES = {
    "box": (
        ".evaluate.box",
        "add_arguments",
        "the default: 140 drawn clips, judged by their truth, offline",
    ),
    "shapes": (".evaluate.drawn", "add_shapes", "the procedural world, version 1, of the shipped model"),
    "world": (
        ".evaluate.drawn",
        "add_world",
        "the procedural world, version 2, and real photos: the table of targets",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stages = parser.add_subparsers(dest="stage", metavar="STAGE")
    for name, (module, function, text) in STAGES.items():
        stage = stages.add_parser(name, help=text, description=text)
        getattr(importlib.import_module(module, __package__), function)(stage)
        stage.set_defaults(module=module)
    parser.set_defaults(module=None)


def run(args: argparse.Namespace) -> int:
    if args.module is None:  # the box, as if it had been named
        parser = argparse.ArgumentParser(prog="instructx eval box")
        box = importlib.import_module(STAGES["box"][0], __package__)
        box.add_arguments(parser)
        return int(box.run(parser.parse_args([])) or 0)
    return int(importlib.import_module(args.module, __package__).run(args) or 0)
