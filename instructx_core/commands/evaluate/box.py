"""`instructx eval box`, which `instructx eval` alone is: 140 drawn clips, edited, judged by their truth, reported.

No network and no key. The folder holds every link of the chain; run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..model import ProgressLine, add_model_arguments, add_sampling_arguments, pipeline_of
from . import report

FOLDER = Path("instructx-eval-box")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder of the evaluation (default: {FOLDER})")
    parser.add_argument("--name", help="of the editor, in tables (default: by model)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N items of each kind (default: all)")
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ...evaluation.benchmarks.box import WORLD, draw_box
    from ...evaluation.benchmarks.tasks import VIE_COUNTS
    from ...evaluation.benchmarks.truth import TruthJudge
    from ...evaluation.editors.ours import Ours
    from ...evaluation.editors.run import edit_items
    from ...evaluation.item_outputs import collect_outputs
    from ...evaluation.judge.run import judge_outputs
    from ...evaluation.metrics.measure import Weights, measure_all
    from ...evaluation.run_folder import RunFolder
    from ...evaluation.table import score_table

    started, folder = time.perf_counter(), RunFolder(args.out)
    counts = {task: min(count, args.limit or count) for task, count in VIE_COUNTS.items()}
    folder.prepare({"name": "box", **WORLD})
    folder.write(draw_box(folder.path, counts))
    items = folder.items()
    editor = Ours(pipeline_of(args), args.name, args.steps, args.guidance)
    outputs = edit_items(folder, editor, items, args.seed, ProgressLine("edited"))
    scores = judge_outputs(folder, TruthJudge(), [editor.name], items, progress=ProgressLine("judged"))
    failed = sum(output.error is not None for output in outputs)
    measured, progress = collect_outputs(folder.path, [editor.name]), ProgressLine("measured")
    for number, _ in enumerate(measure_all(items, folder.path, measured, Weights()), 1):
        progress(number, len(items))
    print(score_table(items, scores))
    seconds = time.perf_counter() - started
    print(f"\n{len(items)} items in {seconds:.0f} s, {failed} failed; everything is in {folder.path}")
    pages = argparse.ArgumentParser()
    report.add_arguments(pages)
    return report.run(pages.parse_args([str(folder.path)]))
