"""`instructx eval box`, which `instructx eval` alone is: 140 drawn clips, edited, judged by their truth, reported.

No network and no key. The folder holds every link of the chain; run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..model import ModelOptions, ProgressLine, add_model_arguments, add_sampling_arguments, pick_device, pipeline_of
from . import report

if TYPE_CHECKING:
    from ...evaluation.editors.ours import Ours

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
    from ...evaluation.editors.processes import edit_in_processes
    from ...evaluation.item_outputs import collect_outputs
    from ...evaluation.judge.run import judge_outputs
    from ...evaluation.metrics.measure import Weights, cases_to_measure, measure_outputs
    from ...evaluation.run_folder import RunFolder
    from ...evaluation.table import score_table

    ModelOptions.of(args)  # what is wrong with it is said before anything is drawn
    started, folder = time.perf_counter(), RunFolder(args.out)
    counts = {task: min(count, args.limit or count) for task, count in VIE_COUNTS.items()}
    folder.prepare({"name": "box", **WORLD})
    folder.write(draw_box(folder.path, counts))
    items = folder.items()
    small = args.model is None and pick_device(args.device).type == "cpu"  # one a core has room in memory
    processes = (os.cpu_count() or 1) if small else 1
    make, progress = partial(box_editor, args), ProgressLine("edited")
    name, outputs = edit_in_processes(folder, make, items, args.seed, progress, processes)
    scores = judge_outputs(folder, TruthJudge(), [name], items, progress=ProgressLine("judged"))
    failed = sum(output.error is not None for output in outputs)
    cases = cases_to_measure(items, folder.path, collect_outputs(folder.path, [name]))
    measure_outputs(cases, folder.path, Weights(), ProgressLine("measured"))
    print(score_table(items, scores))
    seconds = time.perf_counter() - started
    print(f"\n{len(items)} items in {seconds:.0f} s, {failed} failed; everything is in {folder.path}")
    pages = argparse.ArgumentParser()
    report.add_arguments(pages)
    return report.run(pages.parse_args([str(folder.path)]))


def box_editor(args: argparse.Namespace) -> Ours:
    """InstructX with the model that the options name, if not the shipped one."""
    from ...evaluation.editors.ours import Ours

    return Ours(pipeline_of(args), args.name, args.steps, args.guidance)
