"""`instructx eval study-form`: a page on which people rate the outputs of several editors, blind (the paper's A.3)."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation: items.jsonl and a folder of outputs an editor")
    parser.add_argument("--out", type=Path, required=True, help="the page (.html); its key goes beside it (.key.json)")
    parser.add_argument("--editors", nargs="+", default=[], metavar="NAME", help="whose outputs (default: all)")
    parser.add_argument("--count", type=int, help="items to draw by --seed (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, help="longest side of pictures and clips in pixels (default: as they are)")
    parser.add_argument("--title", default="Rating of edits")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.item_outputs import made_files
    from ...evaluation.items import ITEMS, read_items
    from ...evaluation.study.form import write_form
    from ...evaluation.study.plan import make_plan, write_key
    from ...pages.embed import Rendition

    if args.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{args.out}: the form is a page; use .html")
    items, outputs = read_items(args.folder / ITEMS), made_files(args.folder, args.editors)
    plan = make_plan(items, outputs, args.count, args.seed)
    key = args.out.with_suffix(".key.json")
    by_id = {item.id: item for item in items}
    size = write_form(args.out, plan, by_id, args.folder, outputs, args.title, Rendition(side=args.side))
    write_key(key, plan)
    print(f"{args.out}: {len(plan.codes)} items of {len(plan.editors)} editors, {size / 1e6:.1f} MB of media")
    print(f"{key}: which result is whose. Keep it; send the page alone.")
    for editor, missing in plan.left_out.items():
        print(f"left out, as {editor} has no output: {len(missing)} items")
    return 0
