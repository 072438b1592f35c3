"""What runs will cost before they start, in CPU seconds: the times of a few steps, times the steps that are left.

Between schedule.py and the command. `calibrate` makes the very jobs that will run, with a few samples, and times their
steps by the process's own CPU time, which other processes on the machine hardly change; the times are kept in
costs.json. What a variant changes beside its design moves a step's time little and is not timed by itself.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config import preset
from ..training.jobs.edit import EditJob
from ..training.machine import Machine
from ..training.runs.run import build_job
from ..training.trainer import FINAL, Trainer
from .experiments import METAQUERY, OURS, QFORMER, T5, Experiment, Variant
from .measures import measure
from .queue import is_measured, samples_of, write_whole
from .schedule import Run, Scale, all_runs, chain

COSTS = "costs.json"
TIMED, SKIPPED = 3, 1  # steps
FEW = {"image": 12, "video": 4}  # samples that are drawn, encoded and measured for it
Seconds = dict[str, float]  # of one: "<stage> <modality>" step; "draw <modality>", "measure <modality>"; "open" a run


def calibrate(scale: Scale, output: Path, machine: Machine) -> dict[str, Seconds]:
    """By design; from costs.json where this scale was timed before. The start must be there."""
    path = output / COSTS
    found = json.loads(path.read_text()) if path.is_file() else {}
    for variant in (OURS, METAQUERY, QFORMER, T5):
        if variant.design not in found:
            found[variant.design] = timed(scale, variant, output, machine)
            write_whole(path, found)
    return found


def timed(scale: Scale, variant: Variant, output: Path, machine: Machine) -> Seconds:
    """Of one design: both stages, both modalities."""
    experiment = Experiment(name="", where="", title="", sentence="", variants=(variant,), comparisons=(), seeds=1)
    seconds: Seconds = {}
    for run in chain(scale, experiment, variant, 0):
        stage = run.name.split("-")[0]
        for modality in ("image",) if stage == "align" else ("image", "video"):
            seconds |= _timed_job(run, stage, modality, scale, output, machine)
    return seconds


def _timed_job(run: Run, stage: str, modality: str, scale: Scale, output: Path, machine: Machine) -> Seconds:
    """In a folder of its own, with the start's weights linked into it; nothing of it is kept."""
    kept = {"image_pool": 0, "video_pool": 0, "video_probability": float(modality == "video")}
    kept |= {f"{modality}_pool": FEW[modality], "image_validation": 0, "pool_start": 0}
    recipe = dataclasses.replace(run.recipe, **kept | {"requires": scale.start, "ema_decay": run.recipe.ema_decay})
    with tempfile.TemporaryDirectory(prefix="timed-", dir=output) as name:
        folder = Path(name)
        for part in scale.start:
            (folder / part).mkdir()
            (folder / part / FINAL).symlink_to((output / part / FINAL).resolve())
        (folder / "tokenizer.json").symlink_to((output / "tokenizer.json").resolve())
        empty, opening = dataclasses.replace(recipe, **{f"{modality}_pool": 1}), time.process_time()
        build_job(empty, preset(recipe.preset), folder, machine)
        opened = time.process_time() - opening
        job, drawing = _clocked(lambda: build_job(recipe, preset(recipe.preset), folder, machine))
        assert isinstance(job, EditJob)
        trainer = Trainer(recipe, job, folder)
        for _ in range(SKIPPED):
            trainer.train_step()
        _, steps = _clocked(lambda: [trainer.train_step() for _ in range(TIMED)])
        counts = {"images": FEW["image"] if modality == "image" else 0, "clips": FEW["video"] * (modality == "video")}
        _, measuring = _clocked(lambda: measure(job, machine.cache(folder, job.source), **counts))
    few = FEW[modality]
    return {
        f"{stage} {modality}": steps / TIMED,
        f"draw {modality}": max(0.0, drawing - opened) / (few - 1),
        f"measure {modality}": measuring / few,
        "open": opened,
    }


def _clocked(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


def estimated(run: Run, times: dict[str, Seconds], drawn: set[str]) -> float:
    """CPU seconds of one run. drawn: pools that others have drawn before it; this one's are added."""
    seconds, recipe = times[run.recipe.design], run.recipe
    stage, clips = run.name.split("-")[0], recipe.video_probability
    step = (1 - clips) * seconds[f"{stage} image"] + clips * seconds.get(f"{stage} video", 0.0)
    total = seconds["open"] + recipe.num_steps * step
    for modality, count in (("image", recipe.image_pool), ("video", recipe.video_pool)):
        pool = f"{modality} {recipe.pool_start} {pool_key(run)}"
        if count and pool not in drawn:
            drawn.add(pool)
            total += count * seconds.get(f"draw {modality}", 0.0)
    if recipe.validate_every:
        rounds = recipe.num_steps // recipe.validate_every
        total += rounds * recipe.image_validation * seconds["measure image"]
    if run.measured:
        samples = samples_of(run)
        total += samples["images"] * seconds["measure image"] + samples["clips"] * seconds.get("measure video", 0.0)
    return total


def pool_key(run: Run) -> str:
    """Runs of one key read the same pools: what the cache's names depend on (data/cache.py)."""
    shown = {name: value for name, value in run.recipe.model.items() if name.startswith("instruction.")}
    return f"{run.recipe.design == 't5'} {sorted(shown.items())}"


def forecast(
    scale: Scale, experiments: Sequence[Experiment], times: dict[str, Seconds], output: Path
) -> dict[str, float]:
    """CPU hours by experiment of what is left to do; what several share is counted for the first."""
    drawn: set[str] = set()
    counted: set[str] = set()
    hours = {}
    for experiment in experiments:
        runs = [run for run in all_runs(scale, [experiment]) if run.name not in counted]
        counted |= {run.name for run in runs}
        left = [run for run in runs if not is_measured(run, output)]
        hours[experiment.name] = sum(estimated(run, times, drawn) for run in left) / 3600
    return hours
