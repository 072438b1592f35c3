"""`instructx eval study-result`: means, agreement and differences out of the files that raters saved from the form."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("answers", type=Path, nargs="+", help="files that the raters saved")
    parser.add_argument("--key", type=Path, required=True, help=".key.json that study-form wrote beside the page")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.study.answers import read_answers
    from ...evaluation.study.plan import read_key
    from ...evaluation.study.result import study_result
    from ...media.outputs import atomic_path

    plan = read_key(args.key)
    result = study_result(plan, [read_answers(path, plan) for path in args.answers])
    print(result.text())
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    return 0
