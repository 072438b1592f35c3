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

STOPPED = 1  # exit codes of a process: a signal stopped it; an InputError
REFUSED = 2
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def take_runs(runs: Sequence[Run], place: Workplace, goes_on: Callable[[], bool] = lambda: True) -> bool:
    """Does one run after the other that is free, and waits for those that others have, until all are done.

    False after a signal, and when `goes_on` says so. A run whose process died is free again.
    """
    left, is_noted = list(runs), False
    while left := [run for run in left if not is_measured(run, place.output)]:
        if not goes_on():
            return False
        ended = _next(left, place)
        if ended == "stopped":
            return False
        if ended == "taken":
            if not is_noted:
                logger.info("waiting for other processes: %d runs are theirs, or wait for theirs", len(left))
                is_noted = True
            time.sleep(locks.POLL)
    return True


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

    Raises InputError where ranks could not be kept apart.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    for name in RANKS:
        os.environ.pop(name, None)
    if world > 1:
        locks.check_locks(output)
    return rank
