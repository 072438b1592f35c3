"""For tests of whole runs, and run by them as one process: several launches of several processes, forked after the
imports.

python sharded_worker.py LAUNCHES    JSON: [{"world": 2, "tasks": [[NAME, ARGUMENT, ...], ...]}, ...]; a task is a
function below. A launch that was killed is no failure; its exit codes are printed.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_paper import short_stages, small_paper
from small_source import SmallSource

from instructx_core.config import PRESETS
from instructx_core.data.sources import SOURCES
from instructx_core.training import distributed
from instructx_core.training.engine import Engine
from instructx_core.training.filling import whole_tensor
from instructx_core.training.machine import Machine
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.runs.run import build_job
from instructx_core.training.trainer import Trainer

STEPS, SAVED = 20, 10
PATIENCE = 60.0  # seconds in which the others end when a process has failed


def shrink() -> None:
    PRESETS["paper_14b"] = small_paper
    SOURCES["small"] = lambda rest: SmallSource(8, ((32, 48), (48, 32)))


def mixed() -> EditRecipe:
    """Everything trains at once on images and clips, with and without a reference, from the public files."""
    made = short_stages(num_steps=STEPS, save_every=5, requires=("base",), reference_probability=0.5)
    return made["stage2"]


def trainer(output: str, run: str, sharded: bool, offload: bool = False) -> Trainer:
    """Its folder is output/run; `output` has the base and the pools of all."""
    engine = Engine(sharded=sharded, offload=offload, recompute=sharded)
    job = build_job(mixed(), small_paper(), Path(output), Machine(engine=engine))
    return Trainer(mixed(), job, Path(output) / run, engine)


# --- tasks ---


def train(output: str, run: str, sharded: bool, offload: bool = False, stop_at: int | None = None) -> None:
    trainer(output, run, sharded, offload).run(stop_at)


def die_saving(output: str, run: str) -> None:
    """Killed in the second checkpoint, when one of its three parts is written."""
    victim, saved = trainer(output, run, True), dcp.save

    def save(*given: Any, **named: Any) -> None:
        saved(*given, **named)
        if victim.step == SAVED:
            os.kill(os.getpid(), signal.SIGKILL)

    dcp.save = save
    victim.run()


def dump(output: str, run: str, sharded: bool, file: str) -> None:
    """The state that a run goes on from, whole_tensor: tensors, averages, optimiser."""
    resumed = trainer(output, run, sharded)
    resumed.resume()
    tensors = {f"model|{name}": whole_tensor(value.detach()) for name, value in resumed.trainable.items()}
    tensors |= {f"ema|{name}": whole_tensor(value) for name, value in resumed.average.tensors.items()}
    for optimizer in resumed.optimizers:
        for parameter, state in optimizer.state.items():
            tensors |= {f"{resumed.names[parameter]}|{key}": whole_tensor(value) for key, value in state.items()}
    if not distributed.rank():
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, file)


def train_nano(folder: str, steps: int, micro: int, *place: float) -> None:
    """place: the step in which it is killed, and after which share of its calls."""
    import nano_run

    made = nano_run.trainer(Path(folder), steps, micro)
    if place:
        nano_run.die_in(made, int(place[0]), place[1])
    made.run()


# --- launches ---


def child(rank: int, world: int, port: int, tasks: list[list[Any]]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = 1
    try:
        for name, *arguments in tasks:
            globals()[name](*arguments)
        distributed.shutdown()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)  # nothing of the parent's is closed or written twice


def launch(world: int, tasks: list[list[Any]]) -> list[int]:
    """Exit codes of its processes; negative: the signal that killed one. Who waits for a failed one is killed too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        number = os.fork()
        if not number:
            child(rank, world, port, tasks)
        children.append(number)
    codes, deadline = dict[int, int](), math.inf
    while len(codes) < world:
        number, status = os.waitpid(-1, os.WNOHANG)
        if number:
            codes[number] = os.waitstatus_to_exitcode(status)
            deadline = time.monotonic() + PATIENCE if codes[number] else deadline
        elif time.monotonic() > deadline:
            for waiting in set(children) - codes.keys():
                os.kill(waiting, signal.SIGKILL)
        else:
            time.sleep(0.02)
    return [codes[number] for number in children]


if __name__ == "__main__":
    torch.set_num_threads(1)
    shrink()
    print(json.dumps([launch(**each) for each in json.loads(sys.argv[1])]))
