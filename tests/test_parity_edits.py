"""Whole edits against the public reference: its pipeline ran on tiny models, scripts/make_golden.py stored its numbers.

Picture, clip and reference of 208x144, 426x240, 352x288, 176x112 and 1280x720: MLLM and connectors, latents of source
and reference, the first velocity, the latents after two steps, the decoded pixels. Each within 1e-5
of its largest stored value, fp32 on both sides; of the crop, a part of a pixel apart, the reference's is taken.
"""

from __future__ import annotations

import functools

import kiwi_case as case
import kiwi_edits as edits
import PIL
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from instructx_core.config import with_parity
from instructx_core.encoder.inputs import prepare_inputs
from instructx_core.geometry import fit_size
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.encode import Contexts
from instructx_core.sampling.schedule import build_scheduler
from instructx_core.vae import decode_latents

GOLDEN = case.golden("edits")
pytestmark = pytest.mark.skipif(
    PIL.__version__.split(".")[0] != GOLDEN["pillow"].split(".")[0],
    reason=f"the numbers are of Pillow {GOLDEN['pillow']}; others may shrink the other axis first",
)


@functools.cache
def pipeline(channels: int) -> InstructXPipeline:
    config = edits.edit_config(channels)
    pipe = InstructXPipeline(
        vae=edits.small_vae(config),
        transformer=edits.small_dit(config),
        encoder=case.small_encoder(config),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=case.byte_tokenizer()),
        scheduler=build_scheduler(config),
        instructx=config,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def edited(kind: str, height: int, width: int, channels: int) -> dict[str, Tensor]:
    """What passes between our parts, by stage."""
    pipe, config = pipeline(channels), edits.edit_config(channels)
    source, picture = edits.edit_case(kind, height, width)
    source = edits.cropped(source, GOLDEN["crops"][f"{height}x{width}"])
    references = None if picture is None else [[picture]]
    # Its MLLM always rounds pixels to bf16; the rest of its pipeline does what its dtype is, here fp32.
    inputs = prepare_inputs(case.byte_tokenizer(), with_parity(config), [edits.INSTRUCTION], [source], references)
    context_BLD = pipe.encoder(inputs)
    pictures = pipe.encode_pictures(edit_batch(source, None, picture, len(context_BLD)))
    noise_BCTHW = pipe.prepare_latents(pictures.source, torch.Generator("cpu").manual_seed(edits.SEED))
    velocities: list[Tensor] = []
    hook = pipe.transformer.register_forward_hook(lambda _, __, made: velocities.append(made[0]))
    latents_BCTHW = pipe.denoise(noise_BCTHW, pipe.conditions(Contexts(context_BLD), pictures), edits.STEPS)
    hook.remove()
    made = {
        "context": context_BLD,
        "source": pictures.source,
        "velocity": velocities[0],
        "latents": latents_BCTHW,
        "pixels": decode_latents(pipe.vae, latents_BCTHW).clamp(-1, 1),
    }
    return made if pictures.references is None else {**made, "reference": pictures.references}


def error(have: Tensor, want: list[float]) -> float:
    """Largest difference over the largest value."""
    numbers, expected = (torch.tensor(v, dtype=torch.float64) for v in (edits.summary(have), want))
    return float((numbers - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("kind", "height", "width", "channels"), edits.CASES)
def test_every_stage_equals_the_public_reference(kind: str, height: int, width: int, channels: int) -> None:
    made, want = edited(kind, height, width, channels), GOLDEN["cases"][f"{kind} {height}x{width} {channels}"]
    assert made.keys() == want.keys()
    errors = {stage: error(made[stage], want[stage]) for stage in edits.STAGES if stage in want}
    print(*(f"{stage} {value:.1e}" for stage, value in errors.items()))
    assert max(errors.values()) <= 1e-5, errors


def test_one_call_goes_through_the_same_stages() -> None:
    """What is compared above is what a user's call of the pipeline runs."""
    kind, height, width, channels = edits.CASES[-1]
    source, picture = edits.edit_case(kind, height, width)
    source = edits.cropped(source, GOLDEN["crops"][f"{height}x{width}"])
    made = edited(kind, height, width, channels)
    called = pipeline(channels)(
        source,
        reference=picture,
        context=made["context"],
        num_inference_steps=edits.STEPS,
        generator=torch.Generator("cpu").manual_seed(edits.SEED),
        output_type="latent",
    )
    torch.testing.assert_close(called.frames, made["latents"])


def test_the_golden_edits_need_what_they_are_to_show() -> None:
    """Sources that are cropped and scaled, others that are taken as they are; references that must be padded."""
    boxes = {tuple(map(int, size.split("x"))): box for size, box in GOLDEN["crops"].items()}
    whole = [size for size, (top, left, *cut) in boxes.items() if (top, left, *cut) == (0, 0, *size)]
    fitted = {size: fit_size(*size, edits.MULTIPLE, edits.MAX_PIXELS) for size in boxes}
    scaled = [size for size, box in boxes.items() if (fitted[size].height, fitted[size].width) != tuple(box[2:])]
    assert whole and len(scaled) >= 3
    padded = [size for size in boxes if size[0] * fitted[size].width != size[1] * fitted[size].height]
    assert len(padded) >= 3
