"""`synthesize --runner ray` gives what the plain loop gives, and a killed process of either costs no finished work."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from instructx_core.cli import main
from instructx_core.media.files import write_video
from instructx_core.synthesis.cluster import stage_groups
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.pipeline import stages_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.terms.candidate import STATE, load

psutil = pytest.importorskip("psutil")
PATIENCE = 240.0  # seconds


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for seed in (2, 5, 7):
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
    """By this process."""
    output = tmp_path_factory.mktemp("plain") / "set"
    assert main(["synthesize", str(films), "--output", str(output)]) == 0
    return output


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


def stages_done(output):
    folders = [path.parent for path in output.glob(f"work/*/{STATE}")]
    return {(folder.name, stage) for folder in folders for stage in load(folder).done}


def test_killed_processes_cost_no_finished_stage(films, plain, tmp_path):
    """A worker of the pool, which ends the run with words; in the next run all processes; then the plain loop goes on.
    Each kill comes while clips are worked on."""
    output = tmp_path / "set"
    process = start(films, output, "--workers", "2")
    kept = wait_for(lambda: masks_done(output))
    kill(descendants(process, "spawn_main")[:1])
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, errors
    assert "a worker was killed" in errors
    before = stages_done(output)
    process = start(films, output, "--workers", "2")
    wait_for(lambda: stages_done(output) - before)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = masks_done(output) | kept
    goes_on(films, output, plain, kept)


def goes_on(films, output, plain, kept):
    """To the records of a run that nobody killed, without making anew what was there."""
    assert main(["synthesize", str(films), "--output", str(output)]) == 0
    assert records_of(output) == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_a_cluster_gives_the_same_records_though_it_loses_a_worker(films, plain, tmp_path):
    """Ray puts another in its place."""
    pytest.importorskip("ray.data", reason="ray is not installed (extra: scale)")
    process = start(films, tmp_path / "set", "--runner", "ray", "--workers", "2")
    kept = wait_for(lambda: masks_done(tmp_path / "set"))
    workers = descendants(process, "StageWorker")
    assert workers
    kill(workers)
    assert "broken.mp4" in ended(process)
    assert records_of(tmp_path / "set") == records_of(plain)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_a_killed_cluster_costs_no_finished_stage(films, plain, tmp_path):
    """SIGKILL of the driver and of all that it started: the head, the node's daemon, every worker."""
    pytest.importorskip("ray.data", reason="ray is not installed (extra: scale)")
    process = start(films, tmp_path / "set", "--runner", "ray", "--workers", "2")
    kept = wait_for(lambda: masks_done(tmp_path / "set"))
    cluster = descendants(process)
    assert any("raylet" in " ".join(said(each)) for each in cluster)
    process.kill()
    kill(cluster)
    process.communicate()
    goes_on(films, tmp_path / "set", plain, kept)
