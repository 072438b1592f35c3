"""Who does which run: one owner at a time, what waits for what, what a process leaves that dies, ranks that part."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.file_lock import Lock
from instructx_core.study import locks, queue
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.queue import leave_ranks, run_queue, take_runs
from instructx_core.study.running import RunEnd, Workplace
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import Run, all_runs
from instructx_core.training.machine import Machine

RUNS = all_runs(REHEARSAL, [EXPERIMENTS["fig4_right"]])


class Paper:
    """Runs that are only noted: who does one claims its folder, and it is done when its note is there."""

    def __init__(self, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.order = Workplace(output, Machine()), list[str]()
        monkeypatch.setattr(queue, "is_measured", lambda run, output: (output / run.name / "note").is_file())
        monkeypatch.setattr(queue, "do_run", self.do)
        monkeypatch.setattr(locks, "POLL", 0.01)

    def do(self, run: Run, place: Workplace) -> RunEnd:
        with locks.claim_folder(place.output / run.name) as free:
            if not free:
                return "taken"
            if (place.output / run.name / "note").is_file():  # by another, since this one looked
                return "done"
            self.order.append(run.name)
            (place.output / run.name / "note").touch()
        return "done"


def test_one_owner_of_a_folder(tmp_path: Path) -> None:
    with locks.claim_folder(tmp_path) as first, locks.claim_folder(tmp_path) as second:
        assert (first, second) == (True, False)
    with locks.claim_folder(tmp_path) as again:
        assert again


def test_a_process_that_is_killed_gives_its_folder_back(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from instructx_core.study.locks import claim_folder\n"
        "with claim_folder(Path(sys.argv[1])) as free:\n"
        "    print(free, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdout.readline() == "True\n"
    with locks.claim_folder(tmp_path) as free:
        assert not free
    owner.kill()
    owner.wait()
    with locks.claim_folder(tmp_path) as free:
        assert free


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process runs as well; several are refused before any of them starts."""
    monkeypatch.setattr(locks, "file_lock", lambda path, seconds=0.0: nullcontext(Lock.UNKNOWN))
    with locks.claim_folder(tmp_path) as free:
        assert free
    with pytest.raises(InputError, match="knows no locks"):
        run_queue(RUNS, Workplace(tmp_path, Machine()), processes=2)


def test_what_goes_on_from_a_run_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper(tmp_path, monkeypatch)
    assert take_runs(RUNS[::-1], paper.place)
    assert sorted(paper.order) == sorted(run.name for run in RUNS)
    for run in RUNS:
        assert run.before is None or paper.order.index(run.before) < paper.order.index(run.name)


def test_two_queues_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is done once, and both end when all are done."""
    paper = Paper(tmp_path, monkeypatch)
    ended = list[bool]()
    others = [threading.Thread(target=lambda: ended.append(take_runs(RUNS, paper.place))) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    assert ended == [True, True] and sorted(paper.order) == sorted(run.name for run in RUNS)


def test_what_another_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper(tmp_path, monkeypatch)
    with locks.claim_folder(tmp_path / RUNS[0].name):
        looks = iter(range(1000))
        assert not take_runs(RUNS[:1], paper.place, goes_on=lambda: next(looks) < 3)
        assert not paper.order
    assert take_runs(RUNS[:1], paper.place) and paper.order == [RUNS[0].name]


def test_a_signal_ends_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper(tmp_path, monkeypatch)
    monkeypatch.setattr(queue, "do_run", lambda run, place: "stopped")
    assert not take_runs(RUNS, paper.place)


def test_a_rank_of_torchrun_works_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert leave_ranks(tmp_path) == 3
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & os.environ.keys()
    assert leave_ranks(tmp_path) == 0
