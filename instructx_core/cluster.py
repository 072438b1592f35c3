"""Work over the machines of a Ray cluster: rows go to workers that each prepare once, results come as they are made.

Beside the plain loops: a cluster.py in editing/ (lists of edits), evaluation/editors/, evaluation/judge/, synthesis/.
Rows and results are JSON, as names of files need not be text that Arrow takes. Files lie where all machines see them.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import InputError

Work = Callable[[Any], Any]  # of one row: JSON -> JSON


def join_cluster() -> None:
    """To the cluster that RAY_ADDRESS names or that runs here, else starts one of this machine. InputError without
    Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read at import; a cluster started here tells nobody
    try:
        import ray
        from ray.data import DataContext
    except ImportError:
        raise InputError("--runner ray needs Ray Data; install it with: pip install 'instructx[scale]'") from None
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    DataContext.get_current().enable_progress_bars = False


def go_to(folder: str) -> None:
    """On a worker: relative paths mean what they mean where the work was started. Raises InputError for a machine that
    does not see the folder."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: {platform.node()} has no such folder ({error.strerror}); start the work from a disk that all "
            "machines of the cluster see"
        ) from None


def machines() -> list[dict[str, float]]:
    """Resources of every machine of the cluster that is alive: {"CPU": 16.0, "GPU": 4.0, ...}."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def place_workers(machines: Sequence[dict[str, float]], asked: int | None, rows: int) -> tuple[int, dict[str, float]]:
    """How many workers, and what each takes of its machine, as Ray names it. Raises InputError for more than fit."""
    cards = sum(int(machine.get("GPU", 0)) for machine in machines)
    cores = [int(machine.get("CPU", 0)) for machine in machines if machine.get("CPU", 0) >= 1]
    room, kind = (cards, "GPUs") if cards else (sum(cores), "CPU cores")
    count = (cards or len(cores)) if asked is None else asked
    if not 1 <= count <= room:
        raise InputError(f"--workers {count}: the cluster has {room} {kind}; use between 1 and {room}")
    count = min(count, rows)
    if cards:
        return count, {"num_gpus": 1}
    each = next(n for n in range(max(cores), 0, -1) if sum(machine // n for machine in cores) >= count)
    return count, {"num_cpus": each}


class RowWorker:
    """One process, which prepares at its first row: make() -> what is done to each."""

    def __init__(self, make: Callable[[], Work], folder: str) -> None:
        self.make, self.folder, self.work = make, folder, None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        try:
            if self.work is None:
                go_to(self.folder)
                self.work = self.make()
            return {"result": json.dumps({"value": self.work(json.loads(row["row"]))})}
        except InputError as error:
            return {"result": json.dumps({"error": str(error)})}


def spread(rows: Sequence[Any], make: Callable[[], Work], workers: int | None = None) -> Iterator[Any]:
    """Results of all rows, in the order in which they are made. make: called once on each worker.

    workers: default one a GPU, of a cluster without GPUs one a machine. A worker that is lost costs its row, which is
    done anew. Raises InputError as make and its work do, for more workers than there is place for, and without Ray.
    """
    join_cluster()
    if not rows:
        return
    from ray.data import ActorPoolStrategy, from_items

    count, share = place_workers(machines(), workers, len(rows))
    results = from_items([{"row": json.dumps(row)} for row in rows], override_num_blocks=len(rows)).map(
        RowWorker,
        fn_constructor_args=(make, os.getcwd()),
        # One row at a time on a worker: what waits there would be lost with it.
        compute=ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        **share,
    )
    for result in results.iter_rows():
        yield _value(result)


def ask_worker(work: Callable[[], Any]) -> Any:
    """What work() gives on one worker, with what that takes of a machine. Raises InputError as it does."""
    join_cluster()
    import ray

    _, share = place_workers(machines(), None, 1)
    return _value(ray.get(ray.remote(**share)(_answered).remote(work, os.getcwd())))


def _answered(work: Callable[[], Any], folder: str) -> dict[str, str]:
    return RowWorker(lambda: lambda _: work(), folder)({"row": "null"})


def _value(result: dict[str, str]) -> Any:
    found = json.loads(result["result"])
    if "error" in found:
        raise InputError(found["error"])
    return found["value"]
