"""Edits many samples of the procedural world at once, through the same pipeline as one edit.

Between shapes (samples) and shapes.success (scores). Samples of one batch share modality and number of references. The
noise of a sample depends on (seed, modality, index) alone, so its result is the same in every batch and after a resume.
Legend: B batch, F pixel frames, T latent frames, R references, C channels, H W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline
    from ..shapes import Sample


def group_samples(samples: Sequence[Sample], size: int) -> Iterator[list[int]]:
    """Positions in `samples`, at most `size` a group, of samples that can share a batch. Order kept within a kind."""
    if size < 1:
        raise InputError(f"batch size is {size}; use at least 1")
    kinds: dict[tuple[str, bool], list[int]] = {}
    for position, sample in enumerate(samples):
        kinds.setdefault((sample.modality, sample.reference_HWC is not None), []).append(position)
    for positions in kinds.values():
        for start in range(0, len(positions), size):
            yield positions[start : start + size]


def _noise(shape: Sequence[int], samples: Sequence[Sample], seed: int) -> Tensor:
    """(B, C, T, h, w) fp32; one CPU generator a sample."""
    rows = []
    for sample in samples:
        key = np.random.SeedSequence([seed, int(sample.modality == "video"), sample.index]).generate_state(2, np.uint32)
        generator = torch.Generator("cpu").manual_seed(int(key[0]) << 31 ^ int(key[1]))
        rows.append(torch.randn(tuple(shape[1:]), generator=generator))
    return torch.stack(rows)


@dataclass(frozen=True, slots=True)
class EncodedSamples:
    """Samples ready for the steps: encoded once, sampled as often as wanted. tensors: what pipeline.denoise takes."""

    samples: Sequence[Sample]
    tensors: dict[str, Tensor | None]
    shape: tuple[int, ...]  # (B, C, T, h, w)


@torch.no_grad()
def encode_samples(pipe: InstructXPipeline, samples: Sequence[Sample], guidance: float | None = None) -> EncodedSamples:
    """Context and latents of samples that share modality and having a reference. InputError for a mixed batch."""
    from ..vae import encode_latents

    if len({(s.modality, s.reference_HWC is not None) for s in samples}) != 1:
        raise InputError("samples of one batch must share modality and having a reference; use group_samples")
    sampling = pipe.instructx_config.sampling
    device = pipe._execution_device
    source_BFHWC = torch.from_numpy(np.stack([s.source_FHWC for s in samples]))
    source_BCTHW = encode_latents(pipe.vae, _signed(source_BFHWC).to(device))
    references_BCRHW = None
    if samples[0].reference_HWC is not None:
        reference_BFHWC = torch.from_numpy(np.stack([s.reference_HWC[None] for s in samples]))  # type: ignore[index]
        references_BCRHW = encode_latents(pipe.vae, _signed(reference_BFHWC).to(device))
    # The guidance scale is state of the pipeline in diffusers; __call__ sets it the same way.
    pipe._guidance_scale = float(sampling.guidance_scale if guidance is None else guidance)
    context, negative = _contexts(pipe, samples, source_BFHWC, sampling.fps)
    tensors = pipe.to_denoiser(context, negative, source_BCTHW, references_BCRHW)
    return EncodedSamples(samples, tensors, tuple(source_BCTHW.shape))


@torch.no_grad()
def edit_encoded(pipe: InstructXPipeline, encoded: EncodedSamples, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Edited frames of each sample, uint8 (F, H, W, 3). Raises InputError for non-finite model output."""
    noise = _noise(encoded.shape, encoded.samples, seed).to(pipe._execution_device)
    try:
        latents = pipe.denoise(noise, encoded.tensors, steps)
    except FloatingPointError as error:
        raise InputError(f"{error}; the weights may hold NaN: check the checkpoint") from None
    video_BFCHW = pipe.decode(latents, "pt")
    return list((video_BFCHW.float() * 255.0).round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy())


def edit_samples(
    pipe: InstructXPipeline, samples: Sequence[Sample], steps: int | None = None, guidance: float | None = None,
    seed: int = 0,
) -> list[np.ndarray]:  # fmt: skip
    """Edited frames of each sample, uint8 (F, H, W, 3). All samples must share modality and having a reference.

    steps and guidance default to the model's. Raises InputError for a mixed batch or non-finite model output.
    """
    encoded = encode_samples(pipe, samples, guidance)
    return edit_encoded(pipe, encoded, pipe.instructx_config.sampling.num_steps if steps is None else steps, seed)


def _signed(frames_BFHWC: Tensor) -> Tensor:
    return (frames_BFHWC.float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3).contiguous()


def _contexts(pipe: Any, samples: Sequence[Sample], source_BFHWC: Tensor, fps: float) -> tuple[Tensor, Tensor | None]:
    from ..encoder.model import drop_instruction, prepare_inputs

    config = pipe.instructx_config
    references = None
    if samples[0].reference_HWC is not None:
        references = [[torch.from_numpy(s.reference_HWC)] for s in samples]
    inputs = prepare_inputs(
        pipe.tokenizer, config, [s.instruction for s in samples], list(source_BFHWC), references, fps
    )  # fmt: skip
    device, dtype = pipe._execution_device, pipe.encoder.dtype
    context = pipe.encoder(inputs.to(device, dtype))
    if not pipe.do_classifier_free_guidance:
        return context, None
    return context, pipe.encoder(drop_instruction(pipe.tokenizer, config, inputs).to(device, dtype))
