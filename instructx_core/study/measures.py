"""What is measured of a trained variant, sample by sample: losses on fixed noise, success, flicker; and in what groups.

A trained job -> its edits of the world's test split, the same samples and noise for every variant -> records. Success
is the world's own measure. Test clips hold the kinds of edit that are never trained on clips (Fig. 6, 14).
Legend: N samples, B batch, C channels, T latent frames, F frames, H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.bucket import Bucket
from ..data.cache import Cache, Pool, Selection, select_samples
from ..data.samples import EditSample
from ..data.source import EditSource
from ..sampling.guidance import velocity
from ..training.jobs.edit import EditJob
from ..training.jobs.flow import VALIDATION_SIGMAS, Velocity, fixed_noise
from ..training.objective import noisy_latent, velocity_target

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

Record = dict[str, Any]  # id, modality, task, what is measured, what groups need
CHUNK = {"image": 60, "video": 12}
SMALL = 0.03  # of the picture: what is edited is a small object (A.8)
ZERO_SHOT = ("style", "segment")  # kinds that are never trained on clips
LEAST = 1e-4  # a clip without any flicker has this much, so that its logarithm is there

# How a value becomes one of which more is better; losses and flicker as logarithms: differences are relative.
BETTER: Mapping[str, Callable[[Record], float]] = {
    "success": lambda record: float(record["success"]),
    "loss": lambda record: -math.log(record["loss"]),
    "flicker": lambda record: -math.log(record["flicker"] + LEAST),
}
# "drawn" are samples that were looked for (groups.py): they are of their group alone, and change no other's mixture.
GROUPS: Mapping[str, Callable[[Record], bool]] = {
    "all": lambda record: _is_usual(record) and not _is_zero_shot(record),
    "image": lambda record: _is_usual(record) and record["modality"] == "image",
    "video": lambda record: _is_usual(record) and record["modality"] == "video" and not _is_zero_shot(record),
    "small objects": lambda record: record["modality"] == "image" and record["area"] < SMALL,
    "zero-shot clips": lambda record: _is_zero_shot(record),
    "appears in the middle": lambda record: record["modality"] == "video" and record["appears"] > 0,
    "there from the start": lambda record: (
        _is_usual(record) and record["modality"] == "video" and record["appears"] == 0
    ),
}


def _is_usual(record: Record) -> bool:
    return "drawn" not in record


def _is_zero_shot(record: Record) -> bool:
    return record["modality"] == "video" and record["task"] in ZERO_SHOT


def measure(job: EditJob, cache: Cache, images: int, clips: int) -> list[Record]:
    """Records of that many test images and clips without references."""
    wanted = {kind: count for kind, count in ((("image", False), images), (("video", False), clips)) if count}
    return measure_selections(job, cache, select_samples(cache.source, "test", wanted))


@torch.no_grad()
def measure_selections(job: EditJob, cache: Cache, selections: Sequence[Selection]) -> list[Record]:
    """Records of these test samples of the cache's source."""
    vae = job.model.decoder()
    assert vae is not None  # of a whole model
    records: list[Record] = []
    for selection in selections:
        pool = cache.edits(selection, vae, job.encoder)
        for start in range(0, len(pool), CHUNK[selection.bucket.modality]):
            rows = np.arange(start, min(len(pool), start + CHUNK[selection.bucket.modality]))
            records += _measure_rows(job, vae, pool, selection.bucket, rows, cache.source)
    return records


def _measure_rows(
    job: EditJob, vae: AutoencoderKLWan, pool: Pool, bucket: Bucket, rows: np.ndarray, source: EditSource
) -> list[Record]:
    batch = job.batch(pool, bucket, rows, [pool.text(int(row))[0] for row in rows])
    conditions = job.conditions(batch)
    losses_N = sample_losses(batch.target, partial(velocity, job.denoiser, conditions))
    edited = job.edit(batch, conditions, vae)
    found = []
    for place, row in enumerate(rows):
        number = int(pool.numbers[row])
        sample = source.edit("test", number, bucket)
        record = about(sample, bucket, number) | {"loss": float(losses_N[place])}
        if sample.judge is not None:
            record |= {"success": bool(sample.judge(edited[place]))}
            if bucket.modality == "video":
                record |= {"flicker": error_jumps(edited[place], sample.target_FHWC)}
        found.append(record)
    return found


def about(sample: EditSample, bucket: Bucket, number: int) -> Record:
    """Which sample it is, how much of the picture its regions are, and the first frame that has one."""
    masks = [mask_FHW for _, mask_FHW in sample.regions]
    area, appears = 1.0, 0
    if masks:
        area = min(float(mask_FHW.mean()) for mask_FHW in masks)
        seen_F = np.any(np.stack(masks), axis=(0, 2, 3))
        appears = int(np.argmax(seen_F)) if seen_F.any() else 0
    identity = f"{bucket} {number}"
    return {"id": identity, "modality": bucket.modality, "task": sample.task, "area": area, "appears": appears}


def sample_losses(clean_NCTHW: Tensor, predict: Velocity) -> Tensor:
    """(N,) Squared velocity error of each sample, over the fixed noise levels of a validation."""
    noise, count = fixed_noise(clean_NCTHW, 0), len(clean_NCTHW)
    total_N = torch.zeros(count, device=clean_NCTHW.device)
    for value in VALIDATION_SIGMAS:
        sigma_N = torch.full((count,), value, device=clean_NCTHW.device)
        predicted = predict(noisy_latent(clean_NCTHW, noise, sigma_N), sigma_N * 1000)
        total_N += (predicted.float() - velocity_target(clean_NCTHW, noise)).pow(2).flatten(1).mean(1)
    return total_N / len(VALIDATION_SIGMAS)


def error_jumps(edited_FHWC: np.ndarray, target_FHWC: np.ndarray) -> float:
    """How much the error jumps from frame to frame, in [0, 1]: 0 for a clip that is wrong in one way throughout."""
    error_FHWC = edited_FHWC.astype(np.float32) - target_FHWC.astype(np.float32)
    return float(np.abs(np.diff(error_FHWC, axis=0)).mean() / 255.0)
