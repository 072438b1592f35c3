"""What the chain of an evaluation costs beside editing, judging and decoding: milliseconds an item.

    python benchmarks/chain.py [--items 500] [--rounds 3] [--json OUT.json]

Items through an editor that writes one byte and a judge that gives one score, so that what is left is the chain:
finding files, lines on the disk, going on where it was. Wall seconds hold the disk's flushes, processor seconds do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import results

from instructx_core.data.record import EditRecord, Locator
from instructx_core.evaluation.editors.run import EditTask, edit_items
from instructx_core.evaluation.judge.run import JudgeCase, judge_outputs
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.evaluation.scores import Score


class OneByte:
    name = "one"
    settings: Mapping[str, Any] = {"kind": "one byte"}

    def edit(self, task: EditTask) -> None:
        task.output.write_bytes(b"x")


class OneScore:
    name = "one"
    concurrency = 1
    settings: Mapping[str, Any] = {"kind": "one score"}

    def judge(self, case: JudgeCase) -> tuple[Score, Mapping[str, Any] | None]:
        return Score(case.item.id, case.editor, self.name, {"quality": 5}), {"id": case.item.id, "reply": "x" * 500}


def timed(call: Callable[[], Any], items: int) -> tuple[float, float]:
    """Milliseconds an item: on the wall, of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    found = time.perf_counter() - wall, time.process_time() - processor
    return found[0] * 1000 / items, found[1] * 1000 / items


def once(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    run = RunFolder(folder)
    run.prepare({"name": "vie"})
    (folder / "in.png").write_bytes(b"x")
    run.write(EditRecord(f"item {n}", "add", "image", "make it blue", Locator("in.png")) for n in range(count))
    items = run.items()

    def edit() -> None:
        edit_items(run, OneByte(), items)

    def judge() -> None:
        judge_outputs(run, OneScore(), ["one"], items)

    first = {"edit": timed(edit, count), "judge": timed(judge, count)}
    return first | {"edit again": timed(edit, count), "judge again": timed(judge, count)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    results.add_options(parser)
    args = parser.parse_args()
    rounds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(once(Path(folder), args.items))
    found = {name: [min(each[name][n] for each in rounds) for n in (0, 1)] for name in rounds[0]}
    lines = ["| ms an item | wall | processor |", "| --- | --- | --- |"]
    lines += [f"| {name} | {wall:.2f} | {processor:.2f} |" for name, (wall, processor) in found.items()]
    results.report(args, found, "\n".join(lines))


if __name__ == "__main__":
    main()
