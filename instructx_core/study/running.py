"""One run from its start to its records: trained, measured, with what it was estimated to cost and what it took.

Between queue.py, which says which run is next, and records.py. A run that was stopped goes on from its last checkpoint
to the same bits (training/trainer.py). FLOPs of a step are counted, so that designs can be compared by compute as well.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import preset
from ..training.average import copy_tensors
from ..training.jobs.edit import EditJob
from ..training.machine import Machine
from ..training.progress import FlopCount
from ..training.runs.chain import is_done
from ..training.runs.run import build_job
from ..training.trainer import FINAL, Trainer
from .calibration import Seconds, clocked
from .cost import COST, estimated, measured_pool, note_drawn, pools_of
from .groups import MODALITY, measure_group
from .locks import claim_folder
from .measures import Record, measure
from .records import RECORDS, is_measured, provenance, samples_of, write_whole
from .schedule import Run

logger = logging.getLogger("instructx")

RunEnd = Literal["done", "stopped", "taken"]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs go and what does them. times: of this machine, by kind of variant (calibration.py); None: no estimate
    is written."""

    output: Path
    machine: Machine
    times: dict[str, Seconds] | None = None


def do_run(run: Run, place: Workplace) -> RunEnd:
    """Trains a run to its end and measures it, unless another process has it or has done it. Raises InputError for a
    full disk and for what stands in its folder and is another run's."""
    with claim_folder(place.output / run.name) as free:
        if not free:
            return "taken"
        if is_measured(run, place.output):  # by another process, since this one looked
            return "done"
        return _claimed(run, place)


def _claimed(run: Run, place: Workplace) -> RunEnd:
    output, folder, machine = place.output, place.output / run.name, place.machine
    estimate = None if place.times is None else estimated(run, place.times, output, set())
    job, opening = clocked(lambda: build_job(run.recipe, preset(run.recipe.preset), output, machine))
    assert isinstance(job, EditJob)
    note_drawn(output, (name for name, _, _ in pools_of(run)))
    training = 0.0
    if not is_done(output, run.recipe):
        final, training = clocked(lambda: Trainer(run.recipe, job, folder, machine.engine).run())
        if final is None:
            return "stopped"
    samples, records, measuring = samples_of(run), [], 0.0
    about: dict[str, Any] = {"estimate": estimate, **provenance()}
    if run.measured:
        copy_tensors(job.trainable, load_file(folder / FINAL))
        records, measuring = clocked(lambda: all_records(job, place, samples))
        note_drawn(output, [measured_pool(run)])
    seconds = {"open": opening, "train": training, "measure": measuring}
    about |= {"cpu_seconds": seconds, "threads": torch.get_num_threads()}
    if estimate is not None:
        write_whole(folder / COST, about)
    if run.measured:
        about |= {"samples": samples, "recipe": run.recipe.as_json(), "flops": step_flops(job)}
        write_whole(folder / RECORDS, about | {"records": records})
    taken = sum(seconds.values())
    wanted = "" if estimate is None else f", {sum(estimate.values()):.0f} estimated"
    logger.info("%s: done, %.0f CPU seconds%s", run.name, taken, wanted)
    return "done"


def all_records(job: EditJob, place: Workplace, samples: Mapping[str, int]) -> list[Record]:
    """Of the usual test samples, then of the groups of which more are wanted."""
    usual, groups = ("images", "clips"), {name: count for name, count in samples.items() if name in MODALITY}
    cache = place.machine.cache(place.output, job.source)
    records = measure(job, cache, *(samples[name] for name in usual))
    for name, count in groups.items():
        records += measure_group(job, place.machine, place.output, name, count)
    return records


def step_flops(job: EditJob) -> dict[str, float]:
    """FLOPs of a training step by modality, its buckets' mean as often as each is drawn: forward and backward pass, 2 a
    multiply-add. Features of the vision tower come from the cache and are not among them."""
    seen: dict[str, dict[str, float]] = {}
    drawn: dict[str, list[str]] = {}
    for step in range(100):
        batch = job.global_batch(step)
        label, modality = str(batch.bucket), batch.bucket.modality
        drawn.setdefault(modality, []).append(label)
        if label not in seen.setdefault(modality, {}):
            first = range(1)  # all samples of a bucket cost the same
            # plain products: the counter does not know the CPU's own attention
            with sdpa_kernel(SDPBackend.MATH), FlopCount() as counter:
                job.loss(step, batch, first).backward()
            seen[modality][label] = counter.total * batch.size
    return {name: sum(seen[name][label] for label in labels) / len(labels) for name, labels in drawn.items()}
