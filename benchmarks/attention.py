"""One run of everything a card can tell about the attention kernels, stopping at the first failure; JSON for the docs.

    python benchmarks/attention.py --json card.json [--quick]

Order: self-test; the same under compute-sanitizer (memcheck, racecheck) where the CUDA toolkit is installed; error at
8190 tokens, with tails in queries and keys; times of every attention present at Wan's sizes.
The times alone are `instructx kernels bench`. Needs an NVIDIA card; about ten minutes, --quick one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import results
import torch

from instructx_core.kernels import KernelError, bench, exact, int8, select, selftest
from instructx_core.kernels.loader import runtime

SANITIZER_SECONDS = 900
LONG = (1, 8190, 12, 128)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="no sanitizer, one size")
    args = parser.parse_args()
    device = torch.device("cuda", 0)
    try:
        card = runtime().card(device)
    except KernelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result: dict[str, Any] = {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda}
    print(card)
    for name, step in (
        ("selftest", lambda: self_test(device)),
        ("sanitizer", lambda: "not run (--quick)" if args.quick else sanitizer()),
        ("error_8190", lambda: long_errors(device)),
        ("times", lambda: times(device, args.quick)),
    ):
        result[name] = step()
        results.write_json(args.json, result)
        if isinstance(result[name], dict) and result[name].get("failed"):
            print(f"{name} failed: {result[name]}", file=sys.stderr)
            return 1
    verdict = select.verdict(device, again=True)
    result["judgement"] = {"problems": verdict.problems, "milliseconds": verdict.milliseconds}
    results.write_json(args.json, result)
    return 0


def self_test(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in selftest.LIMITS:
        errors = found[path] = selftest.attention_errors(path, device)
        passed = all(error <= selftest.limit(path, name) for name, error in errors.items())
        found["failed"] = found.get("failed", False) or not passed
    print("self-test", json.dumps(found))
    return found


def sanitizer() -> dict[str, Any] | str:
    """The self-test in another process under NVIDIA's checkers. A finding makes its exit code 1."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return "not run (no compute-sanitizer)"
    found: dict[str, Any] = {"failed": False}
    for check in ("memcheck", "racecheck"):
        command = [
            tool,
            "--tool",
            check,
            "--error-exitcode",
            "1",
            sys.executable,
            "-m",
            "instructx_core",
            "kernels",
            "selftest",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SANITIZER_SECONDS)
        found[check] = done.stdout.strip().splitlines()[-3:]
        found["failed"] = found["failed"] or done.returncode != 0
    print("sanitizer", json.dumps(found))
    return found


def long_errors(device: torch.device) -> dict[str, Any]:
    q, k, v = bench.random_qkv(LONG, device, torch.bfloat16)
    want = bench.reference_rows(q, k, v)
    found: dict[str, Any] = {"failed": False}
    for path, op in (("exact", exact.attention), ("int8", int8.attention_quantizing)):
        first, again = (op(q, k, v, bench.SCALE)[0] for _ in range(2))
        found[path] = selftest.relative_error(first[:, : want.shape[1], : want.shape[2]], want)
        bitwise = torch.equal(first, again)
        found["failed"] = found["failed"] or not bitwise or not found[path] <= selftest.LIMITS[path]
        found[f"{path} repeats bit for bit"] = bitwise
    print("error at 8190 tokens", json.dumps(found))
    return found


def times(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    rows = bench.timings(device, bench.SIZES[:1] if quick else bench.SIZES)
    print(bench.format_table(rows, [runtime().card(device), f"torch {torch.__version__}, bf16, median of 20"]))
    return bench.rows_json(rows)


if __name__ == "__main__":
    sys.exit(main())
