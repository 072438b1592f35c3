"""`instructx eval items BENCHMARK DOWNLOAD`: what a benchmark's authors ship -> the items of an evaluation."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="vie, gedit, imgedit, openve or refvie")
    parser.add_argument("download", type=Path, help="its release: a folder or file, see docs/evaluation.md")
    parser.add_argument("--out", type=Path, required=True, help="folder of the evaluation, to be made")
    parser.add_argument("--partial", action="store_true", help="take a part of the benchmark, whatever its counts")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.benchmarks.known import benchmark_named
    from ...evaluation.benchmarks.reading import Download
    from ...evaluation.items import check_items, count_tasks
    from ...evaluation.run_folder import RunFolder

    benchmark, folder = benchmark_named(args.benchmark), RunFolder(args.out)
    folder.prepare({"name": args.benchmark, "download": str(args.download.absolute()), "partial": args.partial})
    items = benchmark.read(Download(args.download, args.out, args.partial))
    if not items:
        raise InputError(f"{args.download}: holds no item of {benchmark.title}; check the download")
    check_items(items, args.out)
    folder.write(items)
    print(f"{benchmark.title}: {len(items)} items in {args.out}")
    print("\n".join(f"  {task:<20}{count:>5}" for task, count in count_tasks(items).items()))
    return 0
