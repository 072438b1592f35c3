"""Shards of the cache over the machines of a Ray cluster: `instructx data cache --runner ray`.

Beside caching.py's plain loop, and with its bytes: a worker loads what encodes samples once, then writes one file after
another to a disk that all machines see. What is there is not made again, so any of it may be killed and started anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...cluster import join_cluster
from ...data.cache import Cache, ShardTask, edit_encoder
from ...data.raw_sample import Renderer
from ...errors import InputError
from ..model import StageModel


class ShardWriter:
    """Writes the shard of a row: {"task": ShardTask} -> {"error"}, empty when its file is there."""

    def __init__(self, folder: str, opened: Callable[[], StageModel]) -> None:
        os.chdir(folder)  # relative paths mean what they mean where the command was given
        parts = opened().parts
        assert parts.vae is not None
        self.encoder_of = edit_encoder(parts.vae, parts.encoder)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        task: ShardTask = row["task"]
        try:
            task.write(Renderer(), self.encoder_of(task.bucket))
        except InputError as error:
            return {"error": str(error)}
        return {"error": ""}


def write_on_ray(tasks: Sequence[ShardTask], opened: Callable[[], StageModel], cache: Cache, workers: int) -> None:
    """Makes the shards that are missing. opened: the model of a worker. workers: the most of them, each with a GPU in a
    cluster that has any.

    Connects to the cluster that RAY_ADDRESS names or that runs here, else starts one of this machine. Raises InputError
    without Ray, and where too many samples cannot be read.
    """
    missing = [task for task in tasks if not task.path.is_file()]
    if not missing:
        return
    for folder in {task.path.parent for task in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    join_cluster()
    import ray
    from ray.data import ActorPoolStrategy, from_items

    count = min(workers, len(missing))
    written = from_items([{"task": task} for task in missing], override_num_blocks=len(missing)).map(
        ShardWriter,
        fn_constructor_args=(str(Path.cwd()), opened),
        compute=ActorPoolStrategy(min_size=1, max_size=count, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        num_gpus=1 if ray.cluster_resources().get("GPU") else None,
    )
    for row in tqdm(written.iter_rows(), total=len(missing), desc="encoding", unit="file"):
        if row["error"]:
            raise InputError(row["error"])
    cache.refuse([reject for task in missing for reject in task.read().rejects])
