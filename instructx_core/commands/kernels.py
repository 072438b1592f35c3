"""`instructx kernels report|bench|selftest`: what attention runs here, how fast it is, whether it is right."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    report = actions.add_parser("report", help="cards, what was tested and measured on them, and every reason")
    report.add_argument("--no-test", action="store_true", help="do not test cards that were not tested yet")
    selftest = actions.add_parser("selftest", help="test both kernels against float64 on this card, now")
    bench = actions.add_parser("bench", help="one table of every attention present, to paste into a report")
    bench.add_argument("--tokens", help="only this size: TOKENSxHEADS, e.g. 32760x40 (default: four of Wan's sizes)")
    bench.add_argument("--rounds", type=int, default=20, help="timed calls, of which the median is shown")
    bench.add_argument("--json", type=Path, help="also write the numbers to this file")
    for action in (selftest, bench):
        action.add_argument("--device", type=int, default=0, help="number of the card (default: 0)")


def run(args: argparse.Namespace) -> int:
    if args.action == "report":
        from ..kernels import report

        print(report(test=not args.no_test))
        return 0
    return _selftest(args) if args.action == "selftest" else _bench(args)


def _device(number: int) -> torch.device:
    """The card. Raises InputError with the reason why there is none."""
    from ..kernels import KernelError
    from ..kernels.report import devices

    found = devices()
    if not found:
        from ..kernels.loader import runtime

        try:
            runtime()
        except KernelError as error:
            raise InputError(f"no card to run on: {error}; the command needs an NVIDIA card and a CUDA torch") from None
    if not 0 <= number < len(found):
        raise InputError(f"--device {number}: there are {len(found)} cards; count from 0")
    return found[number]


def _selftest(args: argparse.Namespace) -> int:
    from ..kernels import KernelError, selftest
    from ..kernels.loader import runtime

    device = _device(args.device)
    print(runtime().card(device))
    passed = True
    for path in selftest.LIMITS:
        try:
            errors = selftest.attention_errors(path, device)
        except KernelError as error:
            print(f"{path}: does not run: {error}")
            passed = False
            continue
        for case, error in errors.items():
            limit = selftest.limit(path, case)
            good = error <= limit
            passed = passed and good
            print(f"{path:<6} {case:<20} error {error:9.4%}, allowed {limit:.2%}: {'ok' if good else 'FAILED'}")
    print("passed" if passed else "FAILED: attention falls back to torch; please report this output")
    return 0 if passed else 1


def _bench(args: argparse.Namespace) -> int:
    import torch

    from ..kernels import bench
    from ..kernels.loader import runtime

    if args.rounds < 1:
        raise InputError(f"--rounds {args.rounds}: give 1 or more")
    sizes = bench.SIZES if args.tokens is None else (parse_attention_size(args.tokens),)
    device = _device(args.device)
    if device.type != "cuda":
        raise InputError("timing needs a CUDA card")
    rows = bench.timings(device, sizes, args.rounds)
    head = [runtime().card(device), f"torch {torch.__version__}, bf16 random inputs, median of {args.rounds}"]
    print(bench.format_table(rows, head))
    if args.json is not None:
        args.json.write_text(
            json.dumps({"head": head, "rows": bench.rows_json(rows)}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


def parse_attention_size(text: str) -> tuple[int, int, int, int]:
    """'32760x40' -> (1, 32760, 40, 128). Raises InputError for anything else."""
    tokens, _, heads = text.lower().partition("x")
    if not (tokens.isdecimal() and heads.isdecimal() and int(tokens) and int(heads)):
        raise InputError(f"--tokens {text!r} is not a size; write TOKENSxHEADS, e.g. 32760x40")
    return 1, int(tokens), int(heads), 128
