"""`instructx data check|sheet|export|cache PATH`: what a mixture, a set or a folder of pairs holds (docs/data.md)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..data.records import Records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=list(_WHAT),
        help="check: count, and list what cannot be used; sheet: a picture "
        "of some samples; export: the records that are used, as records.jsonl or webdataset shards; cache: the latents "
        "and vision features that a recipe trains on, ahead of the run",
    )
    parser.add_argument(
        "path", help="a mixture (.toml), records.jsonl, folder of pairs, or FORMAT:PATH of a public set"
    )
    parser.add_argument("--json", action="store_true", help="check: print JSON instead, for programs")
    parser.add_argument("--decode", action="store_true", help="check: read every sample, not only heads of files")
    parser.add_argument(
        "--rejects",
        type=Path,
        default=Path("rejects.jsonl"),
        help="check: list of what cannot be used, written where there is any (default: rejects.jsonl)",
    )
    parser.add_argument("--to", type=Path, help="sheet: picture to write; export: records.jsonl, or folder of shards")
    parser.add_argument("--rows", type=int, default=24, help="sheet: samples on it (default: 24)")
    parser.add_argument("--form", choices=["records", "webdataset"], default="records", help="export: what is written")
    group = parser.add_argument_group("cache")
    group.add_argument("--recipe", help="the stage that will be trained, e.g. stage2")
    group.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    group.add_argument("--base", type=Path, metavar="FOLDER", help="as of `instructx train`")
    group.add_argument("--part", action="append", default=[], metavar="NAME=FILE", help="as of `instructx train`")
    group.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    group.add_argument("--workers", type=int, default=1, help="processes that decode; ray: workers (default: 1)")
    group.add_argument(
        "--runner", choices=["loop", "ray"], default="loop", help="ray: workers of a Ray cluster, each with a GPU"
    )


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return _WHAT[args.what](args)


def _open(path: str, strict: bool) -> Records:
    from ..data.opening import FORMATS, find_mixture, open_mixture

    form, _, rest = path.partition(":")
    if form not in FORMATS or Path(path).exists():
        form, rest = "", path
    return open_mixture(find_mixture(form, rest), strict)


def _check(args: argparse.Namespace) -> int:
    """1 where the bad records are too many to train on."""
    from ..data.check import take_inventory
    from ..data.record.rejects import write_rejects

    source = _open(args.path, strict=False)
    found = take_inventory(source, args.decode)
    print(json.dumps(found.as_json(), indent=1) if args.json else "\n".join(found.lines()))
    if found.rejects:
        write_rejects(args.rejects, found.rejects)
        logging.getLogger("instructx").info("%d that cannot be used are in %s", len(found.rejects), args.rejects)
    too_many = [each for each in found.sets.values() if each["rejects"] > source.max_rejects * each["read"]]
    return 1 if too_many else 0


def _sheet(args: argparse.Namespace) -> int:
    from ..data.sheet import write_sheet

    if args.to is None or args.rows < 1:
        raise InputError("sheet needs --to PICTURE.png and at least one of --rows")
    count = write_sheet(args.to, _open(args.path, strict=False), args.rows)
    logging.getLogger("instructx").info("wrote %s with %d samples", args.to, count)
    return 0


def _export(args: argparse.Namespace) -> int:
    from ..data.export import export_records, export_shards

    if args.to is None:
        raise InputError("export needs --to: a records.jsonl, or a folder for --form webdataset")
    source = _open(args.path, strict=True)
    count = (export_records if args.form == "records" else export_shards)(args.to, source)
    logging.getLogger("instructx").info("wrote %d records to %s", count, args.to)
    return 0


def _cache(args: argparse.Namespace) -> int:
    from ..config import preset
    from ..data.sources import open_data
    from ..formats.layouts.files import find_base
    from ..training.machine import find_machine
    from ..training.recipes.registry import find_stage
    from ..training.runs.caching import fill_cache
    from .model import parse_parts

    if args.recipe is None:
        raise InputError("cache needs --recipe NAME, the stage of edits that will be trained, e.g. stage2")
    recipe = find_stage(args.recipe, "--recipe")
    machine = find_machine(args.device, args.workers)
    on_ray = args.workers if args.runner == "ray" else 0
    if args.base is not None or args.part:
        machine = dataclasses.replace(machine, base=find_base(args.base, parse_parts(args.part)))
    made = fill_cache(recipe, preset(recipe.preset), open_data(args.path), args.output, machine, on_ray)
    for split, buckets in made.items():
        for bucket, count in buckets.items():
            print(f"{split:<6}{bucket!s:<58}{count:>9}")
    return 0


_WHAT = {"check": _check, "sheet": _sheet, "export": _export, "cache": _cache}
