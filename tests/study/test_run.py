"""`instructx study` as a user runs it, in a few steps: cost first, records, verdicts, the same bits after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from instructx_core.cli import main
from instructx_core.study.cost import COST
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.records import RECORDS, samples_of
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import all_runs
from instructx_core.training.trainer import FINAL

pytestmark = pytest.mark.slow
RUNS = all_runs(REHEARSAL, [EXPERIMENTS["fig15"]])


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """`main` sets them for this process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def words_of(*words: str, output: Path) -> list[str]:
    return ["study", *words, "--scale", "rehearsal", "--output", str(output)]


def command(*words: str, output: Path, before: tuple[str, ...] = ()) -> list[str]:
    """before: a launcher's words."""
    launched = [sys.executable, "-m", *before, *("-m",) * bool(before), "instructx_core"]
    return [*launched, *words_of(*words, output=output)]


def quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fig15 from nothing, in two ranks of torchrun, of which one speaks."""
    output = tmp_path_factory.mktemp("study") / "runs"
    ranks = ("torch.distributed.run", "--nproc_per_node", "2")
    whole = command("run", "fig15", output=output, before=ranks)
    ran = subprocess.run(whole, capture_output=True, text=True, timeout=900, env=quiet())
    assert ran.returncode == 0, ran.stderr
    cost, verdict = ran.stdout.index("CPU hours left"), ran.stdout.index("fig15       cannot tell")
    assert cost < verdict and ran.stdout.count("fig15       cannot tell") == 1
    return output


def test_what_it_took_stands_beside_what_was_estimated(done: Path) -> None:
    """Of every run, measured or not; of so few steps the two may well differ."""
    for run in RUNS:
        found = json.loads((done / run.name / COST).read_text())
        assert found["estimate"].keys() == found["cpu_seconds"].keys() == {"open", "train", "measure"}
        ratio = sum(found["cpu_seconds"].values()) / sum(found["estimate"].values())
        assert 0.2 < ratio < 5, (run.name, found["estimate"], found["cpu_seconds"])


def assert_same_weights(first: Path, second: Path) -> None:
    for run in RUNS:
        ours, theirs = load_file(first / run.name / FINAL), load_file(second / run.name / FINAL)
        assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_records_say_where_they_come_from(done: Path) -> None:
    for run in RUNS:
        if not run.measured:
            continue
        found = json.loads((done / run.name / RECORDS).read_text())
        assert found["commit"] and found["recipe"]["seed"] == 0 and found["cpu_seconds"]["train"] > 0
        records = found["records"]
        assert len(records) == sum(samples_of(run).values())
        assert "style" in {record["task"] for record in records if record["modality"] == "video"}
        assert all(("flicker" in record) == (record["modality"] == "video") for record in records)
        assert all(record["loss"] > 0 and isinstance(record["success"], bool) for record in records)


def test_all_variants_are_measured_on_the_same_samples(done: Path) -> None:
    found = [json.loads((done / run.name / RECORDS).read_text())["records"] for run in RUNS if run.measured]
    usual = [[r["id"] for r in records if "drawn" not in r] for records in found]
    assert len(usual) == 2 and usual[0] == usual[1] and len(usual[0]) == REHEARSAL.images + REHEARSAL.clips
    assert sorted(len(records) for records in found) == [10, 12]  # fig14 asks for two zero-shot clips of InstructX


def test_nothing_is_done_twice(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    assert main(words_of("run", "fig15", output=done)) == 0
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    assert main(words_of("list", "fig15", output=done)) == 0
    assert "4 of 4 runs done" in capsys.readouterr().out


def test_a_killed_study_goes_on_in_two_processes_to_the_same_bits(done: Path, tmp_path: Path) -> None:
    """Killed while it trains, from the start that is there. Then two processes of one command share what is left: the
    same weights as ranks of torchrun gave that nobody killed."""
    output = tmp_path / "runs"
    for part in REHEARSAL.start:
        shutil.copytree(done / part, output / part)
    for name in ("tokenizer.json", "costs.json"):
        shutil.copyfile(done / name, output / name)
    process = subprocess.Popen(
        command("run", "fig15", output=output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet()
    )
    deadline = time.monotonic() + 600
    while not list(output.glob("align-*/step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not all((output / run.name / FINAL).is_file() for run in RUNS)
    again = command("run", "fig15", "--processes", "2", output=output)
    ran = subprocess.run(again, capture_output=True, text=True, timeout=900, env=quiet())
    assert ran.returncode == 0, ran.stderr
    assert_same_weights(output, done)


def test_unknown_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words_of("run", "fig5", output=tmp_path)) == 2
    assert "no experiment 'fig5'" in capsys.readouterr().err and not list(tmp_path.iterdir())
