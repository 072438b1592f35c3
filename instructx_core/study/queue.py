"""Runs -> done: one process, several of this machine, or the ranks of torchrun, each taking the next run that is free.

Around running.py; cluster.py does it over the machines of a Ray cluster. A run stays in one process: runs are many,
small and independent, so that sharing them out costs no messages, a process that dies costs its own run alone, and
records are the same bits as one process gives, which a batch that is summed over ranks is not.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ..errors import InputError
from . import locks
from .records import is_measured
from .running import Workplace, do_run
from .schedule import Run

logger = logging.getLogger("instructx")

<<<<<<< HEAD
STOPPED = 1  # exit codes of a process: a signal stopped it; an InputError
REFUSED = 2
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def take_runs(runs: Sequence[Run], place: Workplace, goes_on: Callable[[], bool] = lambda: True) -> bool:
    """Does one run after the other that is free, and waits for those that others have, until all are done.

    False after a signal, and when `goes_on` says so. A run whose process died is free again.
    """
    left, said = list(runs), False
    while left := [run for run in left if not is_measured(run, place.output)]:
        if not goes_on():
=======
RECORDS = "records.json"
RunEnd = str  # done, stopped, taken


def run_queue(runs: Sequence[Run], output: Path, machine: Machine, processes: int = 1) -> bool:
    """Does what is missing of `runs`; False when something is left: a signal, or another command has it."""
    ended: list[RunEnd] = []
    for _, stage in groupby(runs, key=lambda run: run.before is not None):
        todo = [run for run in stage if not is_measured(run, output)]
        ended += _do(todo, output, machine, processes)
        if "stopped" in ended:
>>>>>>> main
            return False
        ended = _next(left, place)
        if ended == "stopped":
            return False
        if ended == "taken":
            if not said:
                logger.info("waiting for other processes: %d runs are theirs, or wait for theirs", len(left))
                said = True
            time.sleep(locks.POLL)
    return True


<<<<<<< HEAD
def _next(left: Sequence[Run], place: Workplace) -> str:
    """The first that can be done now; "taken" when there is none."""
    waiting = {run.name for run in left}
    for run in left:
        if run.before in waiting:
            continue
        ended = do_run(run, place)
        if ended != "taken":
            return ended
    return "taken"


def run_queue(runs: Sequence[Run], place: Workplace, processes: int = 1) -> bool:
    """Does what is missing of `runs`; False when a signal stopped it. Raises InputError where a run is refused, and
    where a process ended in another way; the same call goes on from there."""
    if processes == 1:
        return take_runs(runs, place)
    locks.check_locks(place.output)
=======
def _do(todo: Sequence[Run], output: Path, machine: Machine, processes: int) -> list[RunEnd]:
    if processes == 1 or len(todo) < 2:
        ended: list[RunEnd] = []
        for run in todo:
            ended.append(do_run(run, output, machine))
            if ended[-1] == "stopped":
                break
        return ended
>>>>>>> main
    context = multiprocessing.get_context("spawn")
    refusals: Any = context.SimpleQueue()
    threads = torch.get_num_threads()
    workers = [context.Process(target=_worker, args=(list(runs), place, threads, refusals)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    stopped = _join(workers)
    if not refusals.empty():
        raise InputError(refusals.get())
    if all(is_measured(run, place.output) for run in runs):
        return True
    lost = [worker.exitcode for worker in workers if worker.exitcode not in (0, STOPPED)]
    if lost and not stopped:
        raise InputError(
            f"{len(lost)} of {processes} processes ended with code {lost[0]} (-9: killed, perhaps for want of memory); "
            "the same command goes on from the last checkpoints, with fewer --processes if memory is short"
        )
    return False


def _join(workers: Sequence[Any]) -> bool:
    """Until all have ended; whether a signal came, which goes on to them: each saves a checkpoint and stops."""
    came = list[int]()

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for worker in workers:
            if worker.is_alive():
                worker.terminate()

    previous = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        for worker in workers:
            worker.join()
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
    return bool(came)


def _worker(runs: list[Run], place: Workplace, threads: int, refusals: Any) -> None:
    """A process of the queue; it takes nothing new when the command that started it has died."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    try:
        whole = take_runs(runs, place, goes_on=lambda: parent is None or parent.is_alive())
    except InputError as error:
        refusals.put(str(error))
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    sys.exit(0 if whole else STOPPED)


def leave_ranks(output: Path) -> int:
    """This process's rank under torchrun, 0 without it; from then on it works alone, so that a run is not shared.

<<<<<<< HEAD
    Raises InputError where ranks could not be kept apart.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    for name in RANKS:
        os.environ.pop(name, None)
    if world > 1:
        locks.check_locks(output)
    return rank
=======

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
>>>>>>> main
