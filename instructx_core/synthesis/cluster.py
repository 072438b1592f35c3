"""Films over the machines of a Ray cluster: the stages of run.py, one kind of actor for each group of them.

Beside run.py's plain loop: films -> spans -> cut -> groups of stages, each with the GPUs that its back ends need. A row
is a folder on a disk that all machines see; what a stage found is in that folder, so a worker, the driver or the whole
cluster may be killed, and the same command goes on without doing a finished stage again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..cluster import join_cluster
from ..errors import InputError
from .films import Film, cut
from .pipeline import stages_of
from .run import WORK, BadFilm, film_spans
from .setup import Setup
from .stage import run_stages
from .terms.candidate import Candidate, load


class Cutter:
    """Cuts one clip: {"film", "id", "span"} -> {"folder"} or {"film", "reason"}."""

    def __init__(self, work: str, setup: Setup) -> None:
        self.work, self.limits = Path(work), setup.limits

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        film, span = Film(Path(row["film"]), row["id"]), json.loads(row["span"])
        try:
            folder = cut(film, (span[0], span[1]), self.work, self.limits)
        except InputError as error:
            return {"folder": "", "film": film.path.name, "reason": str(error)}
        return {"folder": str(folder), "film": film.path.name, "reason": ""}


class StageWorker:
    """Runs the first `count` stages of a clip; what an earlier worker has done of them is not done again.

    An actor lives for a whole run, so a back end with a model loads it once.
    """

    def __init__(self, count: int, setup: Setup) -> None:
        import cv2

        cv2.setNumThreads(1)
        self.stages = stages_of(setup)[:count]

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        if row["folder"]:
            run_stages(Path(row["folder"]), self.stages)
        return row


def stage_groups(setup: Setup) -> list[tuple[int, float]]:
    """(stages up to here, GPUs of an actor that runs them), a pair for each run of stages with equal needs."""
    groups, count = list[tuple[int, float]](), 0
    for gpus, members in groupby(stages_of(setup), key=lambda stage: float(getattr(stage, "gpus", 0.0))):
        count += len(list(members))
        groups.append((count, gpus))
    return groups


def candidates_on_ray(films: Sequence[Film], output: Path, setup: Setup, workers: int) -> Iterator[Candidate | BadFilm]:
    """As run.candidates_of. workers: the most actors of each kind; Ray starts as many as have work.

    Connects to the cluster that RAY_ADDRESS names or that runs here, else starts one of this machine. Raises InputError
    without Ray.
    """
    join_cluster()
    import ray
    from ray.data import ActorPoolStrategy, from_items

    work = (output / WORK).absolute()
    work.mkdir(parents=True, exist_ok=True)
    rows, look = [], ray.remote(film_spans)
    absolute = [Film(film.path.absolute(), film.id) for film in films]
    for film, found in zip(absolute, ray.get([look.remote(film, work, setup) for film in absolute]), strict=True):
        if isinstance(found, BadFilm):
            yield found
        else:
            rows += [{"film": str(film.path), "id": film.id, "span": json.dumps(span)} for span in found]
    if not rows:
        return

    def pool() -> Any:
        return ActorPoolStrategy(min_size=1, max_size=workers, max_tasks_in_flight_per_actor=2)

    clips = from_items(rows, override_num_blocks=len(rows)).map(
        Cutter, fn_constructor_args=(str(work), setup), compute=pool()
    )
    for count, gpus in stage_groups(setup):
        clips = clips.map(
            StageWorker, fn_constructor_args=(count, setup), compute=pool(), num_cpus=1, num_gpus=gpus or None
        )
    for row in clips.iter_rows():
        yield load(Path(row["folder"])) if row["folder"] else BadFilm(row["film"], row["reason"])
