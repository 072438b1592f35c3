"""Edits many samples of the procedural world at once, through the same pipeline as one edit.

Between a world's samples and its scores. Samples of one batch share modality, sizes and having a reference. The noise
of a sample depends on (seed, modality, index) alone, so its result is the same in every batch and after a resume.
Legend: B batch, F pixel frames, C channels, H W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..errors import InputError
from ..pixels import to_uint8
from ..sampling.arguments import check_argument
from ..sampling.batch import edit_batch
from ..sampling.guidance import Conditions, Guidance

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline


class Editable(Protocol):
    """What an edit needs of a sample, of whichever world."""

    @property
    def source_FHWC(self) -> np.ndarray: ...

    @property
    def reference_HWC(self) -> np.ndarray | None: ...

    @property
    def instruction(self) -> str: ...

    @property
    def modality(self) -> str: ...

    @property
    def index(self) -> int: ...


def _kind(sample: Editable) -> tuple[str, tuple[int, ...], tuple[int, ...] | None]:
    """What samples of one batch share: modality, size of the frames, and of the reference if there is one."""
    reference = sample.reference_HWC
    return sample.modality, sample.source_FHWC.shape[:3], None if reference is None else reference.shape[:2]


def group_samples(samples: Sequence[Editable], size: int) -> Iterator[list[int]]:
    """Positions in `samples`, at most `size` a group, of samples that can share a batch. Order kept within a kind."""
    if size < 1:
        raise InputError(f"batch size is {size}; use at least 1")
    kinds: dict[object, list[int]] = {}
    for position, sample in enumerate(samples):
        kinds.setdefault(_kind(sample), []).append(position)
    for positions in kinds.values():
        for start in range(0, len(positions), size):
            yield positions[start : start + size]


def noise_generator(sample: Editable, seed: int) -> torch.Generator:
    """Of one sample's noise, whatever batch it stands in."""
    key = np.random.SeedSequence([seed, int(sample.modality == "video"), sample.index]).generate_state(2, np.uint32)
    return torch.Generator("cpu").manual_seed(int(key[0]) << 31 ^ int(key[1]))


@dataclass(frozen=True, slots=True)
class EncodedSamples:
    """Samples ready for the steps: encoded once, sampled as often as wanted."""

    samples: Sequence[Editable]
    conditions: Conditions
    source_BCTHW: torch.Tensor
    guidance: Guidance


@torch.no_grad()
def encode_samples(
    pipe: InstructXPipeline, samples: Sequence[Editable], guidance: float | None = None
) -> EncodedSamples:
    """Context and latents of samples that share modality, sizes and having a reference. InputError for others."""
    check_argument("guidance_scale", guidance)
    if len({_kind(sample) for sample in samples}) != 1:
        raise InputError("samples of one batch must share modality, size and having a reference; use group_samples")
    batch = edit_batch(
        [s.source_FHWC for s in samples], [s.instruction for s in samples], [s.reference_HWC for s in samples]
    )
    sampling = pipe.instructx_config.sampling
    scale = Guidance(float(sampling.guidance_scale if guidance is None else guidance))
    contexts = pipe.within_memory(
        "encoding", lambda: pipe.encode_instruction(batch, sampling.fps, unconditional=scale.branches == 2)
    )
    pictures = pipe.within_memory("encoding", lambda: pipe.encode_pictures(batch))
    return EncodedSamples(samples, pipe.conditions(contexts, pictures), pictures.source, scale)


@torch.no_grad()
def edit_encoded(pipe: InstructXPipeline, encoded: EncodedSamples, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Edited frames of each sample, uint8 (F, H, W, 3). Raises InputError for non-finite model output."""
    check_argument("num_inference_steps", steps)
    generators = [noise_generator(sample, seed) for sample in encoded.samples]
    noise_BCTHW = pipe.prepare_latents(encoded.source_BCTHW, generators)
    try:
        latents_BCTHW = pipe.within_memory(
            "sampling", lambda: pipe.denoise(noise_BCTHW, encoded.conditions, steps, encoded.guidance)
        )
        video_BFCHW = pipe.within_memory("decoding", lambda: pipe.decode(latents_BCTHW, "pt"))
    except FloatingPointError as error:
        raise InputError(f"{error}; the weights may hold NaN: check the checkpoint") from None
    return list(to_uint8(video_BFCHW.permute(0, 1, 3, 4, 2)).cpu().numpy())


def edit_samples(
    pipe: InstructXPipeline,
    samples: Sequence[Editable],
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Edited frames of each sample, uint8 (F, H, W, 3). All samples must share modality, size and having a reference.

    steps and guidance default to the model's. Raises InputError for a mixed batch or non-finite model output.
    """
    encoded = encode_samples(pipe, samples, guidance)
    return edit_encoded(pipe, encoded, pipe.instructx_config.sampling.num_steps if steps is None else steps, seed)
