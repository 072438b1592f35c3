"""What steps, samples and measures of each kind of variant take on this machine, in CPU seconds: timed before a run.

Between schedule.py and cost.py. The very jobs that will run are made with a few samples, and a step of every bucket is
timed by the process's own CPU time, which other processes on the machine hardly change. Times are kept in costs.json
and made anew on another processor, and where a fixed piece of work takes longer or shorter than it did; what was timed
within the hour is not doubted, so that processes which share a folder do not time it one after the other.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..config import preset
from ..training.jobs.edit import EditJob
from ..training.machine import Machine
from ..training.runs.run import build_job
from ..training.trainer import FINAL, Trainer
from .measures import measure
from .records import processor, write_whole
from .schedule import Run

logger = logging.getLogger("instructx")

COSTS = "costs.json"
LEAST_STEPS, SKIPPED = 3, 1  # that are timed; before them
DRAWS = 400  # steps whose buckets say how often each comes
FEW = {"image": 12, "video": 4}  # samples that are drawn, encoded and measured for it, where a run has as many
FRESH = 3600.0  # seconds in which times are not doubted
SAME = 0.15  # the share by which the fixed work may differ on what is called the same machine
Seconds = dict[str, float]  # of a kind: "<stage> <modality>" step; "draw <modality>", "measure <modality>"; "open"


def variant_kind(run: Run) -> str:
    """Runs of one kind take the same time a step: their designs and models are the same."""
    changes = sorted(run.recipe.model.items())
    return f"{run.recipe.design} {run.recipe.source_embedder} {json.dumps(changes)}"


def calibrate(runs: Sequence[Run], output: Path, machine: Machine) -> dict[str, Seconds]:
    """Times by kind, of all kinds in `runs`; from costs.json where this machine has timed them. Their start must be in
    `output`."""
    path, about = output / COSTS, f"{processor()}, {machine.device.type}, {torch.get_num_threads()} threads"
    kept = read_costs(path)
    if kept.get("machine") != about or not (is_fresh(path) or is_as_fast(kept["probe"])):
        kept = {"machine": about, "probe": fixed_work(), "kinds": {}}
    times: dict[str, Seconds] = kept["kinds"]
    for kind, wanted in wanted_times(runs).items():
        missing = {key: run for key, run in wanted.items() if key not in times.get(kind, {})}
        if missing:
            logger.info("timing a few steps of %s", kind)
        for key, run in missing.items():
            times[kind] = times.get(kind, {}) | timed(run, *key.split(), output=output, machine=machine)
            write_whole(path, kept)
    return times


def wanted_times(runs: Sequence[Run]) -> dict[str, dict[str, Run]]:
    """Of every kind, "<stage> <modality>" -> a run that has such steps."""
    found: dict[str, dict[str, Run]] = {}
    for run in runs:
        clips = run.recipe.video_probability
        kinds = found.setdefault(variant_kind(run), {})
        measured = run.measured and run.stage == "edit"  # test clips, also of a run that trains on images alone
        for modality, there in (("image", clips < 1 or measured), ("video", clips > 0 or measured)):
            if there:
                kinds.setdefault(f"{run.stage} {modality}", run)
    return found


def read_costs(path: Path) -> dict[str, Any]:
    """Empty where there is none, or none that can be read: then all is timed."""
    try:
        found = json.loads(path.read_text())
        return found if found["probe"] > 0 and isinstance(found["kinds"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def is_fresh(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < FRESH


def is_as_fast(probe: float) -> bool:
    """Whether the fixed work takes what it took."""
    return 1 - SAME < fixed_work() / probe < 1 + SAME


def fixed_work() -> float:
    """CPU seconds of the products that a small model's step is made of, forward and backward: the best of three."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(768, 256, generator=generator, requires_grad=True)
    tokens = torch.randn(2048, 256, generator=generator)

    def work() -> None:
        for _ in range(4):
            torch.nn.functional.gelu(tokens @ weight.T).pow(2).mean().backward()

    work()
    return min(clocked(work)[1] for _ in range(3))


def timed(run: Run, stage: str, modality: str, output: Path, machine: Machine) -> Seconds:
    """Of runs like this one; in a folder of its own with the start's weights linked into it, of which nothing is
    kept."""
    few = few_samples(run, modality)
    recipe = recipe_of_few(run, modality, few)
    with tempfile.TemporaryDirectory(prefix="timed-", dir=output) as name:
        folder = Path(name)
        for part in recipe.requires:
            (folder / part).mkdir()
            (folder / part / FINAL).symlink_to((output / part / FINAL).resolve())
        (folder / "tokenizer.json").symlink_to((output / "tokenizer.json").resolve())

        def opened(recipe: Any) -> EditJob:
            job = build_job(recipe, preset(recipe.preset), folder, machine)
            assert isinstance(job, EditJob)
            return job

        _, opening = clocked(lambda: opened(dataclasses.replace(recipe, **{f"{modality}_pool": 1})))
        job, drawing = clocked(lambda: opened(recipe))
        trainer = Trainer(recipe, job, folder)
        step = mean_step(trainer, job)
        counts = {"images": few if modality == "image" else 0, "clips": few if modality == "video" else 0}
        test = machine.cache(folder, job.source)
        measure(job, test, **counts)  # draws them
        _, measuring = clocked(lambda: measure(job, test, **counts))
    return {
        f"{stage} {modality}": step,
        f"draw {modality}": max(0.0, drawing - opening) / (few - 1),
        f"measure {modality}": measuring / few,
        "open": opening,
    }


def few_samples(run: Run, modality: str) -> int:
    """No more than are measured of the run, and two, whose difference says what one more takes."""
    measured = {"image": run.scale.images, "video": run.scale.clips}
    return max(2, min(FEW[modality], measured[modality]))


def recipe_of_few(run: Run, modality: str, few: int) -> Any:
    """The run's recipe from the scale's start, on a few samples of one modality."""
    kept = {"image_pool": 0, "video_pool": 0, "video_probability": float(modality == "video")}
    kept |= {f"{modality}_pool": few, "image_validation": 0, "pool_start": 0}
    return dataclasses.replace(run.recipe, **kept | {"requires": run.scale.start})


def mean_step(trainer: Trainer, job: EditJob) -> float:
    """CPU seconds of a step: a step of every bucket, each weighed by how often it is drawn."""
    buckets = [job.global_batch(step).bucket for step in range(DRAWS)]
    often = Counter(buckets)
    repeats = -(-LEAST_STEPS // len(often))
    for step in range(SKIPPED):
        trainer.step = step
        trainer.train_step()
    total = 0.0
    for bucket, count in often.items():
        trainer.step = buckets.index(bucket)

        def steps(first: int = trainer.step) -> None:
            for _ in range(repeats):
                trainer.step = first
                trainer.train_step()

        total += clocked(steps)[1] / repeats * count / DRAWS
    return total


def clocked(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the CPU seconds of this process in it."""
    started = time.process_time()
    result = call()
    return result, time.process_time() - started
