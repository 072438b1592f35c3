"""DiT, scheduler, VAE, pixels and geometry against the public reference, whose numbers scripts/make_golden.py stored.

The encoder is in tests/encoder/test_kiwi.py. Tolerance 1e-5 of the largest value, fp32 on both sides. At the end: where
we deviate on purpose (docs/parity.md).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import kiwi_case as case
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from instructx_core.config import kiwi_5b, with_parity
from instructx_core.denoiser import InstructXTransformer3DModel
from instructx_core.encoder.inputs import prepare_inputs
from instructx_core.formats.layouts.keymaps import dit_to_diffusers, dit_to_original, vae_to_diffusers, vae_to_original
from instructx_core.formats.layouts.kiwi_config import DIFFUSERS_SIGMA_MIN
from instructx_core.geometry import fit_size, mllm_frame_size, sample_frame_indices
from instructx_core.latents import latent_stats
from instructx_core.pixels import to_signed
from instructx_core.sampling.schedule import start
from instructx_core.vae import build_vae, decode_latents, encode_latents

EMBEDDERS = ("source_embedder.", "reference_embedder.")
DENOISER, RULES = case.golden("denoiser"), case.golden("rules")


def error(have: Tensor, want: list[float]) -> float:
    """Largest difference over the largest value."""
    expected = torch.tensor(want, dtype=torch.float64)
    return float((have.double().flatten() - expected).abs().max() / expected.abs().max())


# --- DiT -----------------------------------------------------------------------------------------------------------


@functools.cache
def dit(position: str = "last", rounding: str = "none") -> InstructXTransformer3DModel:
    c = DENOISER["config"]
    model = InstructXTransformer3DModel(
        tuple(c["patch_size"]),
        c["num_heads"],
        c["dim"] // c["num_heads"],
        c["in_dim"],
        c["out_dim"],
        c["text_dim"],
        c["freq_dim"],
        c["ffn_dim"],
        c["num_layers"],
        eps=c["eps"],
        source_embedding="own",
        source_scale="sigma",
        reference_embedding="own",
        reference_position=position,
        timestep_rounding=rounding,
    )
    names = {k if k.startswith(EMBEDDERS) else dit_to_original(k): v.shape for k, v in model.state_dict().items()}
    state = case.parameters({name: tuple(shape) for name, shape in names.items()})
    model.load_state_dict({n if n.startswith(EMBEDDERS) else dit_to_diffusers(n): v for n, v in state.items()})
    return model.eval()


def half(position: str, rounding: str) -> InstructXTransformer3DModel:
    """The model as it is used in bf16: weights rounded, norms, modulation and embedders in fp32."""
    model = InstructXTransformer3DModel.from_config({**dit(position, rounding).config})
    model.load_state_dict(dit(position, rounding).state_dict())
    keep = InstructXTransformer3DModel._keep_in_fp32_modules
    for name, parameter in model.named_parameters():
        rounded = parameter.data.bfloat16()  # what a bf16 file holds
        parameter.data = rounded.float() if any(part in keep for part in name.split(".")) else rounded
    return model.eval()


@torch.no_grad()
def four_steps(model: Any, with_reference: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
    given = {name: tensor.to(dtype) for name, tensor in case.dit_inputs().items()}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=case.SHIFT)
    latents, first, after = given["noise"].float(), None, []
    for level in start(scheduler, case.STEPS, "cpu"):
        reference = given["reference"] if with_reference else None
        timestep_B = 1000 * level.sigma[None]
        velocity = model(latents.to(dtype), timestep_B, given["context"], given["source"], reference).sample.float()
        first = velocity if first is None else first
        latents = scheduler.step(velocity, level.timestep, latents, return_dict=False)[0]
        after.append(latents)
    assert first is not None
    return first, after


@pytest.mark.parametrize("name", ["none", "last", "first", "rounded"])
def test_four_steps_equal_the_public_reference(name: str) -> None:
    model = dit("first" if name == "first" else "last", "bfloat16" if name == "rounded" else "none")
    want = DENOISER["cases"][name]
    first, after = four_steps(model, name != "none")
    errors = [error(first, want["first_velocity"])]
    errors += [error(have, wanted) for have, wanted in zip(after, want["latents"], strict=True)]
    print(f"{name}: {max(errors):.1e}")
    assert max(errors) <= 1e-5


def test_the_switch_for_the_timestep_is_what_makes_it_equal() -> None:
    _, after = four_steps(dit("last", "none"), True)
    assert error(after[-1], DENOISER["cases"]["rounded"]["latents"][-1]) > 1e-3


@pytest.mark.parametrize("steps", [4, 8, 20, 30, 50])
@pytest.mark.parametrize("kind", ["diffsynth", "diffusers"])
def test_sigma_lists_of_both_public_pipelines(steps: int, kind: str) -> None:
    sigma_min = {"diffsynth": 0.0, "diffusers": DIFFUSERS_SIGMA_MIN}[kind]
    levels = start(FlowMatchEulerDiscreteScheduler(shift=case.SHIFT), steps, "cpu", sigma_min)
    sigmas = torch.stack([level.sigma for level in levels])
    torch.testing.assert_close(sigmas, torch.tensor(DENOISER["sigmas"][f"{kind}_{steps}"]), rtol=1e-6, atol=1e-7)


# --- VAE and pixels ------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("channels", [16, 48])
def test_vae_equals_the_public_reference(channels: int) -> None:
    """Statistics, a normalised latent and the clip decoded from it: both Wan VAEs."""
    want, config = RULES["vae"][str(channels)], case.vae_config(channels)
    for ours, theirs in zip(latent_stats(channels), (want["mean"], want["std"]), strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-7, atol=0)
    vae = build_vae(config).eval()
    names = {vae_to_original(key, config): tuple(value.shape) for key, value in vae.state_dict().items()}
    shapes = {name: shape if len(shape) > 1 else (shape[0],) for name, shape in names.items()}
    vae.load_state_dict({vae_to_diffusers(n, config): v for n, v in case.parameters(shapes).items()})
    latent = encode_latents(vae, case.vae_clip())
    assert list(latent.shape) == want["shape"]
    decoded = torch.tensor(case.samples(decode_latents(vae, latent).clamp(-1, 1)))
    errors = error(latent, want["latent"]), error(decoded, want["decoded"])
    print(f"{channels} channels: latent {errors[0]:.1e}, pixels {errors[1]:.1e}")
    assert max(errors) <= 1e-5


def test_pixels_with_the_switch_equal_the_public_reference() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1).expand(1, 1, 256, 3)
    ours = to_signed(levels, with_parity(kiwi_5b()).instruction.pixel_rounding)[0, 0, 0, 0]
    assert ours.tolist() == RULES["pixels_bf16"]


def test_noise_equals_the_public_reference() -> None:
    noise = torch.randn((1, 16, 1, 2, 2), generator=torch.Generator("cpu").manual_seed(7), dtype=torch.float32)
    torch.testing.assert_close(noise.flatten(), torch.tensor(RULES["noise"]), rtol=1e-6, atol=1e-7)


# --- geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", RULES["frames"])
def test_frames_that_the_mllm_sees(length: str) -> None:
    rule = kiwi_5b().instruction
    assert sample_frame_indices(int(length), rule.mllm_frames, rule.frame_rule) == RULES["frames"][length]


@pytest.mark.parametrize("size", RULES["sizes"])
def test_sizes_equal_the_public_reference(size: str) -> None:
    """What the MLLM sees of a clip, a picture and a reference, and the source's output size; the crop to a pixel."""
    want, (height, width) = RULES["sizes"][size], map(int, size.split("x"))
    for kind in ("video", "image", "reference"):
        assert list(mllm_frame_size(height, width, kiwi_5b(), kind)) == want[kind], kind
    box = fit_size(height, width, 32, 720 * 1280)
    assert [box.height, box.width] == want["source"]["size"]
    top, left, cut_height, cut_width = want["source"]["crop"]
    theirs = (top, left, top + cut_height, left + cut_width)
    differences = [abs(a - b) for a, b in zip(box.source_box, theirs, strict=True)]
    assert max(differences) < 1.001, (box.source_box, theirs)


# --- where we deviate on purpose -----------------------------------------------------------------------------------


def test_fp32_norms_lose_less_than_the_reference_in_bf16() -> None:
    """Deviation `fp32 norms`: in bf16 we stay nearer to the fp32 result than the reference does in bf16."""
    exact, theirs = DENOISER["cases"]["rounded"]["latents"], DENOISER["cases"]["bf16"]["latents"]
    _, after = four_steps(half("last", "bfloat16"), True, torch.bfloat16)
    ours = [error(have, want) for have, want in zip(after, exact, strict=True)]
    reference = [error(torch.tensor(have), want) for have, want in zip(theirs, exact, strict=True)]
    print(
        "error in bf16 after each step, ours:", *(f"{e:.1e}" for e in ours), "theirs:", *(f"{e:.1e}" for e in reference)
    )
    assert ours[-1] < reference[-1] and max(ours) < 0.05


def test_a_source_is_never_stretched() -> None:
    """Deviation `no stretching`: the reference's diffusers pipeline rounds sides up and stretches; we crop."""
    sizes = [tuple(map(int, size.split("x"))) for size in RULES["sizes"]]
    stretched = [size for size in sizes if RULES["sizes"]["{}x{}".format(*size)]["diffusers"][:2] != list(size)]
    assert stretched, "the stored sizes hold none that the reference stretches"
    for height, width in stretched:
        box = fit_size(height, width, 32)
        assert abs(box.scaled_height / height - box.scale) * height <= 0.5
        assert abs(box.scaled_width / width - box.scale) * width <= 0.5


def test_pixels_are_written_to_the_nearest_level() -> None:
    """Deviation `rounding`: the reference cuts digits off when it writes a frame, up to one level darker."""
    values = torch.linspace(-1, 1, 65)
    nearest = ((values + 1) * 127.5).round().int().tolist()
    below = [ours - theirs for ours, theirs in zip(nearest, RULES["written"], strict=True)]
    assert set(below) == {0, 1}
    frame = values.view(1, 1, 1, 1, 65).expand(1, 3, 1, 1, 65)
    (written,) = VideoProcessor(vae_scale_factor=8).postprocess_video(frame, output_type="pil")[0]
    assert np.array(written)[0, :, 0].tolist() == nearest


def test_one_picture_with_a_reference_is_a_clip() -> None:
    """Deviation from its training code, which stops there; its diffusers pipeline does the same as we."""
    picture, reference = case.picture(1, 84, 112, 0), case.picture(1, 112, 140, 4)[0]
    config, tokenizer = case.small_config(), case.byte_tokenizer()
    with_reference = prepare_inputs(tokenizer, config, ["Swap it."], [picture], [[reference]])
    assert (with_reference.modality, with_reference.query_set) == ("video", "reference")
    assert prepare_inputs(tokenizer, config, ["Swap it."], [picture]).modality == "image"


def test_parity_switches_are_off_by_default() -> None:
    config = kiwi_5b()
    on = with_parity(config)
    assert (config.instruction.pixel_rounding, config.denoiser.timestep_rounding) == ("none", "none")
    assert (on.instruction.pixel_rounding, on.denoiser.timestep_rounding) == ("bfloat16", "bfloat16")
    off = dataclasses.replace(
        on,
        instruction=dataclasses.replace(on.instruction, pixel_rounding="none"),
        denoiser=dataclasses.replace(on.denoiser, timestep_rounding="none"),
    )
    assert off == config
