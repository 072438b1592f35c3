"""`instructx study` as a user runs it, in a few steps: cost first, records, verdicts, the same bits after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.queue import RECORDS
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import all_runs
from instructx_core.training.trainer import FINAL

pytestmark = pytest.mark.slow
RUNS = all_runs(REHEARSAL, [EXPERIMENTS["fig15"]])


def study(*words: str, output: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words, output=output), capture_output=True, text=True, timeout=900, env=quiet())


def command(*words: str, output: Path) -> list[str]:
    return [sys.executable, "-m", "instructx_core", "study", *words, "--scale", "rehearsal", "--output", str(output)]


def quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fig15 from nothing, in two processes."""
    output = tmp_path_factory.mktemp("study") / "runs"
    ran = study("run", "fig15", "--processes", "2", output=output)
    assert ran.returncode == 0, ran.stderr
    cost, verdict = ran.stdout.index("CPU hours left"), ran.stdout.index("fig15       cannot tell")
    assert cost < verdict
    return output


def test_records_say_where_they_come_from(done: Path) -> None:
    for run in RUNS:
        if not run.measured:
            continue
        found = json.loads((done / run.name / RECORDS).read_text())
        assert found["commit"] and found["recipe"]["seed"] == 0 and found["cpu_seconds"]["train"] > 0
        records = found["records"]
        assert len(records) == REHEARSAL.images + REHEARSAL.clips
        assert {record["task"] for record in records if record["modality"] == "video"} >= {"style", "segment"}
        assert all(("flicker" in record) == (record["modality"] == "video") for record in records)
        assert all(record["loss"] > 0 and isinstance(record["success"], bool) for record in records)


def test_all_variants_are_measured_on_the_same_samples(done: Path) -> None:
    found = [json.loads((done / run.name / RECORDS).read_text())["records"] for run in RUNS if run.measured]
    assert len(found) == 2 and [r["id"] for r in found[0]] == [r["id"] for r in found[1]]


def test_nothing_is_done_twice(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    assert study("run", "fig15", output=done).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    assert "4 of 4 runs done" in study("list", "fig15", output=done).stdout


def test_a_killed_study_goes_on_to_the_same_bits(done: Path, tmp_path: Path) -> None:
    """Killed while it trains, then the same command again."""
    output = tmp_path / "runs"
    process = subprocess.Popen(
        command("run", "fig15", output=output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet()
    )
    deadline = time.monotonic() + 600
    while not list(output.glob("align-*/step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert study("run", "fig15", output=output).returncode == 0
    for run in RUNS:
        ours, theirs = load_file(output / run.name / FINAL), load_file(done / run.name / FINAL)
        assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    refused = study("run", "fig5", output=tmp_path)
    assert refused.returncode == 2 and "no experiment 'fig5'" in refused.stderr and not list(tmp_path.iterdir())
