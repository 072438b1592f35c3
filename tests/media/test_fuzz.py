"""Hundreds of broken clips, in processes of their own, which libav may end: each is written as it was, or refused.

fuzz_worker.py breaks, reads, writes and judges them: pictures and every sound within 20 ms of the broken source's own,
what is left out or cannot be decoded said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("fuzz_worker.py")
CASES, PROCESSES = 330, 2


@pytest.mark.slow
def test_broken_clips(tmp_path: Path) -> None:
    bounds = [CASES * part // PROCESSES for part in range(PROCESSES + 1)]
    workers = list[subprocess.Popen[str]]()
    for first, last in pairwise(bounds):
        folder = tmp_path / str(first)
        folder.mkdir()
        command = [sys.executable, "-X", "faulthandler", str(WORKER), str(folder), str(first), str(last)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        workers.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
    cases = list[tuple[str, str, str]]()
    for worker in workers:
        out, err = worker.communicate(timeout=550)
        lines = [json.loads(line) for line in out.splitlines()]
        assert worker.returncode == 0, (lines[-1:], err[-3000:])
        cases += [(name, outcome, problem) for name, outcome, problem in (line for line in lines if len(line) == 3)]
    assert not [case for case in cases if case[2]]
    counts = Counter(outcome for _, outcome, _ in cases)
    assert sum(counts.values()) == CASES >= 300
    assert counts["written"] > 200 and counts["refused"] > 10, counts
