"""Runs -> trained weights and records of test samples, in one process or several; what is there is not done again.

Between schedule.py and findings.py. A run that was stopped goes on from its last checkpoint to the same bits
(training/trainer.py); its records appear whole, with commit, settings and seed. A lock in its folder keeps two commands
from training it at once; first stages come first, the others when all of those are there.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..config import preset
from ..file_lock import Lock, file_lock
from ..training.average import copy_tensors
from ..training.jobs.edit import EditJob
from ..training.machine import Machine
from ..training.runs.chain import is_done
from ..training.runs.run import build_job
from ..training.trainer import FINAL, Trainer
from ..version import __version__
from .measures import measure
from .schedule import Run

logger = logging.getLogger("instructx")

RECORDS = "records.json"
RunEnd = str  # done, stopped, taken


def run_queue(runs: Sequence[Run], output: Path, machine: Machine, processes: int = 1) -> bool:
    """Does what is missing of `runs`; False when something is left: a signal, or another command has it."""
    ended: list[RunEnd] = []
    for _, stage in groupby(runs, key=lambda run: run.before is not None):
        todo = [run for run in stage if not is_measured(run, output)]
        ended += _do(todo, output, machine, processes)
        if "stopped" in ended:
            return False
    return "taken" not in ended


def _do(todo: Sequence[Run], output: Path, machine: Machine, processes: int) -> list[RunEnd]:
    if processes == 1 or len(todo) < 2:
        ended: list[RunEnd] = []
        for run in todo:
            ended.append(do_run(run, output, machine))
            if ended[-1] == "stopped":
                break
        return ended
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(do_run, todo, [output] * len(todo), [machine] * len(todo)))


def is_measured(run: Run, output: Path) -> bool:
    """Whether nothing of it is left to do. Raises InputError for another run under its name."""
    if not is_done(output, run.recipe):
        return False
    return not run.measured or measured_records(run, output) is not None


def measured_records(run: Run, output: Path) -> dict[str, Any] | None:
    """What was measured of a run; None where nothing was, or other samples were."""
    path = output / run.name / RECORDS
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return found if found["samples"] == samples_of(run) else None


def samples_of(run: Run) -> dict[str, int]:
    """Test samples of a run; its clips' queries are untrained after a first stage."""
    return {"images": run.scale.images, "clips": 0 if run.recipe.name.startswith("align") else run.scale.clips}


def do_run(run: Run, output: Path, machine: Machine) -> RunEnd:
    """Trains a run to its end and measures it."""
    folder = output / run.name
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / ".lock") as lock:  # UNKNOWN: one command at a time is the user's to see to
        if lock is Lock.THEIRS:
            logger.info("%s: another command has it", run.name)
            return "taken"
        started = time.process_time()
        job = build_job(run.recipe, preset(run.recipe.preset), output, machine)
        assert isinstance(job, EditJob)
        if not is_done(output, run.recipe) and Trainer(run.recipe, job, folder, machine.engine).run() is None:
            return "stopped"
        trained = time.process_time()
        if run.measured:
            copy_tensors(job.trainable, load_file(folder / FINAL))
            samples = samples_of(run)
            records = measure(job, machine.cache(output, job.source), **samples)
            seconds = {"train": trained - started, "measure": time.process_time() - trained}
            about = {"samples": samples, "recipe": run.recipe.as_json(), "cpu_seconds": seconds, **provenance()}
            write_whole(folder / RECORDS, about | {"records": records})
        logger.info("%s: done, %.0f CPU seconds", run.name, time.process_time() - started)
    return "done"


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """JSON that is there as a whole or not at all."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def provenance() -> dict[str, str]:
    """What code and libraries a number comes from."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    versions = {"version": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"commit": asked.stdout.strip() or "unknown"} | versions


def done_of(runs: Iterable[Run], output: Path) -> tuple[int, int]:
    """How many are done, of how many."""
    states = [is_measured(run, output) for run in runs]
    return sum(states), len(states)
