"""`synthesize --runner ray` gives what the plain loop gives, and a killed process of either costs no finished work."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from instructx_core.media.files import write_video
from instructx_core.synthesis.candidate import STATE, load
from instructx_core.synthesis.cluster import stage_groups
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.pipeline import stages_of
from instructx_core.synthesis.setup import Setup

psutil = pytest.importorskip("psutil")
PATIENCE = 240.0  # seconds


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for seed in (2, 5, 7, 8):
        write_video(folder / f"film{seed}.mp4", draw_film(seed).frames_FHWC, FPS, crf=16)
    (folder / "broken.mp4").write_bytes(b"no film")
    return folder


def start(films, output, *options):
    command = [sys.executable, "-m", "instructx_core", "synthesize", str(films), "--output", str(output), *options]
    environment = os.environ | {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def ended(process):
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output


def records_of(output):
    """Without the times at which the files were written."""
    return [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def plain(films, tmp_path_factory):
    output = tmp_path_factory.mktemp("plain") / "set"
    ended(start(films, output))
    return output


def test_a_cluster_gives_the_same_records(films, plain, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed (extra: scale)")
    said = ended(start(films, tmp_path / "set", "--runner", "ray", "--workers", "2"))
    assert records_of(tmp_path / "set") == records_of(plain)
    assert "broken.mp4" in said


def test_a_killed_run_goes_on(films, plain, tmp_path):
    """SIGKILL of the whole process group while clips are worked on: what was done keeps its files."""
    process = start(films, tmp_path / "set", "--workers", "2")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        states = [load(path.parent) for path in (tmp_path / "set").glob(f"work/*/{STATE}")]
        if any("subject" in state.done for state in states):
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = {path.parent: load(path.parent).done for path in (tmp_path / "set").glob(f"work/*/{STATE}")}
    assert any(done.values()), "nothing was done before the kill: the test shows nothing"
    kept = {folder / "mask.mp4" for folder, stages in done.items() if "subject" in stages}
    written = {path: path.stat().st_mtime_ns for path in kept}
    ended(start(films, tmp_path / "set", "--workers", "2"))
    assert records_of(tmp_path / "set") == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == written


def test_stages_without_a_gpu_are_one_group():
    assert stage_groups(Setup()) == [(len(stages_of(Setup())), 0.0)]


def descendants(process, name=""):
    """Of a process, those whose command holds the name."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if name in " ".join(said(child))]


def said(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for(wanted):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came so far: the test shows nothing")


def masks_done(output):
    """What a stage has written whose candidate says so, and when."""
    folders = [path.parent for path in output.glob(f"work/*/{STATE}") if "subject" in load(path.parent).done]
    return {folder / "mask.mp4": (folder / "mask.mp4").stat().st_mtime_ns for folder in folders}


def kill(processes):
    for each in processes:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            pass


def test_a_killed_worker_of_the_pool_ends_the_run_with_words_and_it_goes_on(films, plain, tmp_path):
    process = start(films, tmp_path / "set", "--workers", "2")
    kept = wait_for(lambda: masks_done(tmp_path / "set"))
    kill(descendants(process, "spawn_main")[:1])
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, errors
    assert "a worker was killed" in errors
    ended(start(films, tmp_path / "set", "--workers", "2"))
    assert records_of(tmp_path / "set") == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_ray_puts_another_in_a_killed_workers_place(films, plain, tmp_path):
    pytest.importorskip("ray.data")
    process = start(films, tmp_path / "set", "--runner", "ray", "--workers", "2")
    kept = wait_for(lambda: masks_done(tmp_path / "set"))
    workers = descendants(process, "StageWorker")
    assert workers
    kill(workers)
    ended(process)
    assert records_of(tmp_path / "set") == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_a_killed_cluster_costs_no_finished_stage(films, plain, tmp_path):
    """SIGKILL of the driver and of all that it started: the head, the node's daemon, every worker."""
    pytest.importorskip("ray.data")
    process = start(films, tmp_path / "set", "--runner", "ray", "--workers", "2")
    kept = wait_for(lambda: masks_done(tmp_path / "set"))
    cluster = descendants(process)
    assert any("raylet" in " ".join(said(each)) for each in cluster)
    process.kill()
    kill(cluster)
    process.communicate()
    ended(start(films, tmp_path / "set", "--runner", "ray", "--workers", "2"))
    assert records_of(tmp_path / "set") == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
