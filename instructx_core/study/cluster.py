"""The queue over the machines of a Ray cluster: `instructx study run --runner ray`, with the records of queue.py.

A worker does one run at a time on a disk that all machines see. First stages come first, and what goes on from them
when all of those are there. A worker that is lost costs its run, which another does from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch

from ..cluster import Work, spread
from .records import is_measured
from .running import Workplace, do_run
from .schedule import Run


def study_on_ray(runs: Sequence[Run], place: Workplace, workers: int | None = None) -> bool:
    """Does what is missing of `runs`; False when another command has a part of it. workers: default one a GPU, of a
    cluster without GPUs one a machine. Raises InputError as do_run does, and without Ray."""
    for _, stage in groupby(runs, key=lambda run: run.before is not None):
        todo = [run for run in stage if not is_measured(run, place.output)]
        make = partial(running, todo, place, torch.get_num_threads())
        if any(ended != "done" for ended in spread([run.name for run in todo], make, workers)):
            return False
    return True


def running(runs: Sequence[Run], place: Workplace, threads: int) -> Work:
    """On a worker: the name of a run -> how it ended."""
    torch.set_num_threads(threads)
    by_name = {run.name: run for run in runs}

    def work(name: Any) -> str:
        return do_run(by_name[name], place)

    return work
