"""Edits that are killed, run out of disk or memory, or meet another one: each in a process of its own (worker.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KILLS = 50

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker forks"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the worker found; "errors": what the processes said."""
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("worker.py")),
            str(tmp_path_factory.mktemp("place")),
            os.environ.get("RELIABILITY_KILLS", str(KILLS)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "errors": done.stderr}


def test_killed_at_any_point_leaves_the_old_or_the_new_file(results: dict[str, Any]) -> None:
    seen = results["killed"]
    assert seen["broken"] == 0 and seen["old"] > 0 and seen["killed when new"] > 0, seen
    assert set(seen["codes"]) <= {0, -9, 130} and {-9, 130} <= set(seen["codes"])
    assert seen["litter after SIGINT"] == 0
    assert seen["end"] == "new" and seen["litter at the end"] == [], "the next edit clears up after a killed one"


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(results: dict[str, Any]) -> None:
    assert len(results["full_disk"]) == 6
    for name, limit, code, state, litter in results["full_disk"]:
        assert (code, state, litter) == (2, "old", []), (name, limit, results["errors"])
    assert results["errors"].count("cannot be written") == 6 and "Traceback" not in results["errors"]


def test_two_jobs_cannot_write_one_output(results: dict[str, Any]) -> None:
    seen = results["one_output"]
    assert (seen["second"], seen["untouched"]) == (2, "old")
    assert "another process is writing this file" in results["errors"]
    assert (seen["third"], seen["after"], seen["litter"]) == (0, "new", []), "the claim of a killed one is void"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_short_memory_is_said(results: dict[str, Any]) -> None:
    seen = results["short_memory"]
    said = results["errors"].split("memory\n", 1)[1]
    assert seen["code"] in (0, 2) and seen["kept"] == (seen["code"] == 2) and seen["litter"] == []
    assert "out of memory while" in said and "Traceback" not in said
