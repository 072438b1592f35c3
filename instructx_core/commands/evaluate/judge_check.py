"""`instructx eval judge-check`: a judge's scores of edits whose order is known; what of it a report can be trusted in.

The result goes beside the scores, where the report finds it: FOLDER/judge-check-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from ..judge_options import add_judge_arguments, asked_by
from ..model import ProgressLine
from .judge import check_judge_named

REMEDY = "delete that folder to begin anew (all cases are judged again), or give --sources or --records as before"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation that the judge scores, or a new folder")
    parser.add_argument("--sources", type=int, default=12, metavar="N", help="drawn edits, 11 to 16 cases each (12)")
    parser.add_argument("--records", type=Path, help="records of real edits (source, target, mask) instead")
    parser.add_argument("--samples", type=int, default=1, help="times that each case is judged (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="count the cases; send nothing")
    add_judge_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ...evaluation.benchmarks.truth import TruthJudge
    from ...evaluation.items import read_items
    from ...evaluation.judge.pictures import Viewing
    from ...evaluation.judge.run import judge_outputs
    from ...evaluation.judge.vie import Vie
    from ...evaluation.judge_check.cases import drawn_edits, plant_edits, real_edits, source_and_plant
    from ...evaluation.judge_check.check import check_judge
    from ...evaluation.run_folder import RunFolder
    from ...evaluation.scores import Score
    from ...media.outputs import atomic_path, make_folder

    folder = RunFolder(make_folder(args.folder) / "judge-check", REMEDY)
    by_truth = args.judge is None and args.records is None
    if not by_truth:
        check_judge_named(args)
    judge = TruthJudge() if by_truth else asked_by(args, Vie(), Viewing())
    if args.records is None:
        known = drawn_edits(folder.path, args.sources)
        benchmark = {"name": "judge-check", "sources": args.sources}
    else:
        known = real_edits(folder.path, read_items(args.records), args.records.parent)
        benchmark = {"name": "judge-check", "records": str(args.records.resolve())}
    of_plant = plant_edits(folder, benchmark, known)
    cases = sum(len(items) for items in of_plant.values())
    if args.dry_run:
        print(f"{cases} cases, each judged {args.samples} times; nothing was sent")
        return 0
    if not isinstance(judge, TruthJudge):
        folder.keep_judge(judge.name, judge.settings)
    scores: dict[tuple[str, str], list[Score]] = {}
    for plant, items in of_plant.items():
        line = ProgressLine(f"judged of {plant!r}")
        for score in judge_outputs(folder, judge, [plant], items, args.samples, line):
            scores.setdefault(source_and_plant(score.id, score.editor), []).append(score)
    result = check_judge(judge.name, scores)
    path = args.folder / f"judge-check-{re.sub(r'[^A-Za-z0-9.+-]+', '_', judge.name)}.json"
    with atomic_path(path) as temporary:
        values = {**result.as_dict(), "settings": dict(judge.settings)}
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(result.text())
    print(f"\n{cases} cases in {folder.path}; numbers in {path}")
    return 0
