"""`instructx eval export FOLDER --editor NAME --out DIR`: outputs in the layout of the benchmark's own scripts."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation, with outputs of editors")
    parser.add_argument("--editor", required=True, metavar="NAME", help="whose outputs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write NAME/ into")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.benchmarks.export import export_outputs
    from ...evaluation.run_folder import RunFolder

    done = export_outputs(RunFolder(args.folder), args.editor, args.out)
    print(f"{done.written} files in {args.out / args.editor}")
    if done.missing:
        more = f" and {len(done.missing) - 5} more" if len(done.missing) > 5 else ""
        print(f"no output of {', '.join(done.missing[:5])}{more}")
    return 1 if done.missing else 0
