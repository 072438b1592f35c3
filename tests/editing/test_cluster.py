"""`edit --jobs --runner ray` on a local cluster of two workers, which are killed: results, journal, repeated work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_ray import local_ray

from instructx_core.cli import main
from instructx_core.editing.cluster import TRIES, Model, Tally, Worker, _received
from instructx_core.editing.job_list import BadLine, Job, read_jobs
from instructx_core.editing.journal import Journal
from instructx_core.errors import InputError
from instructx_core.media.files import write_image

COUNT = 6
PATIENCE = 240.0  # seconds; workers start in six where nothing else runs


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with local_ray() as address:
        yield address


def write_list(folder: Path) -> Path:
    folder.mkdir()
    lines = []
    for number in range(COUNT):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(folder / f"in{number}.png", picture)
        job = {"input": f"in{number}.png", "instruction": "make it grayscale", "output": f"out{number}.png"}
        lines.append(json.dumps({**job, "seed": number}))
    (folder / "jobs.jsonl").write_text("\n".join(lines))
    return folder / "jobs.jsonl"


def command(jobs: Path, *options: str) -> list[str]:
    return ["edit", "--jobs", str(jobs), "--steps", "8", "--device", "cpu", *options]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What the loop in one process writes for the list, on one thread as the workers."""
    import torch

    threads, jobs = torch.get_num_threads(), write_list(tmp_path_factory.mktemp("plain") / "list")
    torch.set_num_threads(1)
    try:
        assert main(command(jobs)) == 0
    finally:
        torch.set_num_threads(threads)
    return written(jobs)


def written(jobs: Path) -> list[bytes]:
    return [(jobs.parent / f"out{number}.png").read_bytes() for number in range(COUNT)]


def finished(jobs: Path) -> int:
    journal = jobs.with_suffix(".done.jsonl")
    return journal.read_bytes().count(b"sha256") if journal.exists() else 0


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.02)
    return value


def workers() -> list[int]:
    """Processes of this test's cluster that edit; their parent is its raylet, which this process started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                grand = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
                found += [int(folder.name)] if grand == os.getpid() else []
        except (OSError, ValueError):
            continue
    return found


def test_a_worker_and_then_the_driver_are_killed(
    cluster: str, plain: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results are those of the plain loop, what was finished is not made anew, and either runner ends the list."""
    jobs = write_list(tmp_path / "list")
    driver = subprocess.Popen(
        [sys.executable, "-m", "instructx_core", *command(jobs, "--runner", "ray", "--workers", "2")],
        env={**os.environ, "RAY_ADDRESS": cluster},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def reached(count: int) -> bool:
        assert driver.poll() is None, driver.stderr and driver.stderr.read()
        return finished(jobs) >= count

    try:
        wait_for(lambda: reached(1))
        before = {path.name: path.stat().st_ino for path in jobs.parent.glob("out*.png")}
        os.kill(workers()[0], signal.SIGKILL)
        wait_for(lambda: reached(3))
    finally:
        driver.kill()
        driver.communicate()
    wait_for(lambda: not workers())
    done = finished(jobs)
    assert main(command(jobs, "--runner", "ray", "--workers", "1")) == 0
    text = capsys.readouterr().out
    assert 3 <= done and f"{COUNT - done} done, {done} skipped, 0 failed" in text, text
    assert [row.split()[0] for row in text.splitlines()[-COUNT - 1 : -1]] == [str(n + 1) for n in range(COUNT)]
    assert written(jobs) == plain and finished(jobs) == COUNT
    again = [name for name, inode in before.items() if (jobs.parent / name).stat().st_ino != inode]
    assert before and len(again) <= 1, "one that ended with its worker, before it was told"
    assert not list(jobs.parent.glob(".*")), "what the killed workers left is gone"
    assert main(command(jobs)) == 0 and f"{COUNT} skipped" in capsys.readouterr().out, "one journal for both"


def test_a_job_that_takes_every_worker_with_it_is_given_up(cluster: str, tmp_path: Path) -> None:
    import ray

    jobs = read_jobs(write_list(tmp_path / "list"), {})
    job = jobs[0]
    assert isinstance(job, Job)
    tally = ray.remote(num_cpus=0)(Tally).remote()
    for _ in range(TRIES):
        ray.get(tally.begin.remote(str(job.request.output)))
    model = Model(lambda: "model", lambda: pytest.fail("not tried again"))
    worker = Worker({1: job}, Journal(tmp_path / "jobs.jsonl"), model, str(Path.cwd()), tally)
    outcome = _received(worker.journal, json.loads(worker({"line": 1})["result"]))
    assert outcome.status == "failed" and f"its worker was lost {TRIES} times" in outcome.message


def test_a_model_that_cannot_be_loaded_stops_the_list(tmp_path: Path) -> None:
    job = read_jobs(write_list(tmp_path / "list"), {})[0]
    assert isinstance(job, Job)

    def refuse() -> Any:
        raise InputError("no such checkpoint")

    for folder, model, words in [
        (str(Path.cwd()), Model(refuse, refuse), "no such checkpoint"),
        (str(tmp_path / "none"), Model(lambda: "", refuse), "has no such folder"),
    ]:
        worker = Worker({1: job}, Journal(tmp_path / "jobs.jsonl"), model, folder, None)
        with pytest.raises(InputError, match=words):
            _received(worker.journal, json.loads(worker({"line": 1})["result"]))


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (["--workers", "2"], {}, "--workers without --runner ray"),
        (["--runner", "ray"], {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "--runner ray under torchrun"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(command(write_list(tmp_path / "list"), *options)) == 2
    assert words in capsys.readouterr().err
    assert main(["edit", "--runner", "ray", "--input", "a.png", "--instruction", "x", "--output", "b.png"]) == 2
    assert "give --jobs" in capsys.readouterr().err


def test_lines_that_read_what_others_write_need_an_order(tmp_path: Path) -> None:
    from instructx_core.editing.jobs import in_any_order

    jobs = write_list(tmp_path / "list")
    with jobs.open("a") as file:
        file.write('\n{"input": "out1.png", "instruction": "x", "output": "last.png"}')
    listed = in_any_order(read_jobs(jobs, {}))
    assert [type(job) for job in listed] == [Job] * COUNT + [BadLine]
    assert isinstance(listed[-1], BadLine) and "reads what line 2 writes" in listed[-1].problem
