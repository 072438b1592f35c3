"""InstructXPipeline end to end on small random models, and the full-size shapes on fake tensors."""

from __future__ import annotations

import dataclasses
import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from PIL import Image
from tiny import clip, own_config, own_memory, pipeline, small_config

from instructx_core.config import paper_14b
from instructx_core.costs.count import fake_tensors
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.inputs import EncoderInputs
from instructx_core.encoder.model import build_encoder
from instructx_core.errors import InputError
from instructx_core.media.pixels import as_frames, as_references, pad_reference, to_signed, to_uint8
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.guidance import Conditions, Guidance, predict
from instructx_core.sampling.schedule import Level, build_scheduler, flow_sigmas, shift_sigmas, start
from instructx_core.vae import build_vae, decode_latents, encode_latents


@pytest.fixture(scope="module")
def pipe() -> InstructXPipeline:
    return pipeline()


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def edit(pipe, source=None, instruction="make it blue", **kwargs):
    kwargs.setdefault("generator", seeded())
    kwargs.setdefault("output_type", "latent")
    return pipe(clip() if source is None else source, instruction, **kwargs).frames


# --- what comes out ------------------------------------------------------------------------------------------------


def test_output_types_agree(pipe):
    array = edit(pipe, output_type="np")
    assert array.shape == (1, 5, 32, 48, 3) and 0 <= array.min() <= array.max() <= 1
    tensor = edit(pipe, output_type="pt")
    assert tensor.shape == (1, 5, 3, 32, 48)
    np.testing.assert_array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    images = edit(pipe, output_type="pil")
    assert len(images) == 1 and len(images[0]) == 5 and images[0][0].size == (48, 32)
    np.testing.assert_array_equal(np.array(images[0][2]), (array[0, 2] * 255).round().astype(np.uint8))
    latent = edit(pipe)
    assert latent.shape == (1, 16, 2, 4, 6) and latent.dtype == torch.float32
    assert isinstance(pipe(clip(), "x", generator=seeded(), output_type="latent", return_dict=False), tuple)


def test_same_seed_same_bits_and_everything_matters(pipe):
    base = edit(pipe)
    assert torch.equal(edit(pipe), base)
    changes = {
        "seed": edit(pipe, generator=seeded(4)),
        "instruction": edit(pipe, instruction="remove the square"),
        "source": edit(pipe, clip(seed=1)),
        "reference": edit(pipe, reference=clip(1, 40, 20)[0]),
        "steps": edit(pipe, num_inference_steps=2),
        "fps": edit(pipe, fps=1.0),
    }
    for name, other in changes.items():
        assert not torch.equal(other, base), name
    assert not torch.equal(edit(pipe, reference=clip(1, 40, 20, seed=5)[0]), changes["reference"])
    two = edit(pipe, reference=[clip(1, 40, 20)[0], clip(1, 16, 16)[0]])
    assert not torch.equal(two, changes["reference"])


def test_every_source_type_gives_the_same_edit(pipe):
    frames = clip()
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    base = edit(pipe, frames)
    for other in (images, frames.numpy(), list(frames), tuple(frames.numpy())):
        assert torch.equal(edit(pipe, other), base)
    torch.testing.assert_close(edit(pipe, frames.float() / 255), base, rtol=1e-4, atol=1e-4)
    single = edit(pipe, images[0])
    assert single.shape == (1, 16, 1, 4, 6) and torch.equal(edit(pipe, frames[0]), single)


def test_one_frame_uses_the_image_queries(pipe):
    seen: list[EncoderInputs] = []
    hook = pipe.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    edit(pipe, clip(1))
    edit(pipe, clip(5))
    edit(pipe, clip(5), reference=clip(1)[0])
    hook.remove()
    rule = pipe.instructx_config.instruction
    assert [s.query_set for s in seen] == ["image", "video", "video"]
    assert [s.query_count for s in seen] == [rule.num_image_queries, rule.num_video_queries, rule.num_video_queries]
    assert seen[2].reference_grid is not None


def test_kiwi_profile_runs_with_its_switches():
    config = own_config(reference_position="first")
    rule = dataclasses.replace(
        config.instruction, num_reference_queries=6, query_slice="tail", frame_rule="cap", mllm_frames=16,
        video_size_factor=2,
        temporal_position_step="fixed", reference_in_context=True, max_pixels=112 * 112,
    )  # fmt: skip
    pipe = pipeline(dataclasses.replace(config, profile="kiwi", instruction=rule))
    plain, referenced = edit(pipe), edit(pipe, reference=clip(1, 40, 20)[0])
    assert not torch.equal(plain, referenced) and torch.isfinite(referenced).all()


# --- guidance, schedulers, callbacks -------------------------------------------------------------------------------


def count_forwards(pipe, **kwargs):
    calls = []
    hook = pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    out = edit(pipe, **kwargs)
    hook.remove()
    return len(calls), out


def test_guidance_costs_a_second_forward_and_keeps_the_pictures(pipe):
    one, base = count_forwards(pipe)
    two, guided = count_forwards(pipe, guidance_scale=3.0)
    assert (one, two) == (3, 6) and not torch.equal(base, guided)
    seen: list[EncoderInputs] = []
    hook = pipe.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    edit(pipe, guidance_scale=3.0, reference=clip(1)[0])
    hook.remove()
    with_text, without = seen
    assert torch.equal(with_text.patches_BSP, without.patches_BSP)
    assert torch.equal(with_text.reference_patches_BSP, without.reference_patches_BSP)
    assert without.input_ids_BL.shape[1] < with_text.input_ids_BL.shape[1]
    assert without.query_count == with_text.query_count


@torch.no_grad()
def test_guidance_formula(pipe):
    batch = edit_batch(clip(), "make it red")
    contexts = pipe.encode_instruction(batch, 16.0, unconditional=True)
    source = pipe.encode_pictures(batch).source
    noise, sigma = torch.randn(source.shape, generator=seeded()), torch.tensor(0.7)
    level = Level(0, 1, 1000 * sigma, sigma, 0.0, True)
    both = (contexts.positive, contexts.negative)
    cond, free = (pipe.transformer(noise, 1000 * sigma[None], c, source).sample for c in both)
    conditions = Conditions(*both, source)
    velocity = predict(pipe.transformer, noise, level, conditions, Guidance(2.5))
    torch.testing.assert_close(velocity, free + 2.5 * (cond - free))


def test_schedulers_can_be_swapped(pipe):
    original = pipe.scheduler
    results = {"euler": edit(pipe)}
    try:
        for name, scheduler in {
            "shift": FlowMatchEulerDiscreteScheduler(shift=1.0),
            "unipc": build_scheduler(pipe.instructx_config, "unipc"),
            "heun": FlowMatchHeunDiscreteScheduler(shift=3.0),
        }.items():
            pipe.scheduler = scheduler
            results[name] = edit(pipe)
            assert torch.isfinite(results[name]).all()
            assert torch.equal(edit(pipe), results[name]), f"{name} keeps state between edits"
        values = list(results.values())
        assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[i + 1 :])
        pipe.scheduler = DDIMScheduler()
        with pytest.raises(InputError, match="flow"):
            edit(pipe)
    finally:
        pipe.scheduler = original


def takes(scheduler) -> bool:
    """Older UniPC keeps its own list, which ends at 0.001 instead of 0 before the shift."""
    return "sigmas" in inspect.signature(scheduler.set_timesteps).parameters


def test_schedule_lists():
    config = small_config()
    for kind in ("euler", "unipc"):
        scheduler = build_scheduler(config, kind)
        levels = start(scheduler, 5, "cpu")
        sigmas = torch.stack([level.sigma for level in levels])
        want = shift_sigmas(flow_sigmas(5), config.sampling.shift)
        torch.testing.assert_close(sigmas, torch.from_numpy(want), rtol=0, atol=2e-6 if takes(scheduler) else 3e-3)
        assert len(levels) == 5 and sigmas.dtype == torch.float32
        assert all(level.following is after.sigma for level, after in pairwise(levels)) and levels[-1].following == 0
    assert flow_sigmas(4, 0.2).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4])
    with pytest.raises(InputError, match="num_inference_steps"):
        flow_sigmas(0)
    with pytest.raises(InputError, match="sigma_min"):
        flow_sigmas(4, 1.0)
    with pytest.raises(InputError, match="unknown scheduler"):
        build_scheduler(config, "ddim")


def test_timestep_given_to_the_model_is_1000_sigma(pipe):
    seen = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    original, pipe.scheduler = pipe.scheduler, build_scheduler(pipe.instructx_config, "unipc")
    edit(pipe)  # UniPC rounds its own timesteps to integers
    hook.remove()
    want = 1000 * pipe.scheduler.sigmas[:3]
    assert not torch.equal(want, want.round()) and all(t.dtype == torch.float32 for t in seen)
    assert torch.equal(torch.cat(seen), want)
    pipe.scheduler = original


def test_callback_sees_and_changes_tensors(pipe):
    steps = []

    def callback(self, step, timestep, tensors):
        steps.append((step, float(timestep), sorted(tensors)))
        if step == 1:
            self._interrupt = True
        return {"latents": tensors["latents"] * 0}

    out = edit(
        pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["latents", "context"],
        num_inference_steps=4,
    )  # fmt: skip
    assert [s[0] for s in steps] == [0, 1] and steps[0][2] == ["context", "latents"] and not out.any()
    assert pipe.current_timestep is None and pipe.num_timesteps == 4
    with pytest.raises(InputError, match="callback tensors"):
        edit(pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["noise"])


def test_given_context_and_latents(pipe):
    frames = clip()
    batch = edit_batch(frames, "make it blue")
    context = pipe.encode_instruction(batch, pipe.instructx_config.sampling.fps).positive
    noise = torch.randn(1, 16, 2, 4, 6, generator=seeded())
    assert torch.equal(edit(pipe, frames, None, context=context, latents=noise), edit(pipe, frames))
    with pytest.raises(InputError, match="negative_context"):
        edit(pipe, frames, None, context=context, guidance_scale=2.0)
    with pytest.raises(InputError, match="a row for each of 1"):
        edit(pipe, frames, None, context=context, negative_context=context.repeat(2, 1, 1), guidance_scale=2.0)
    with pytest.raises(InputError, match="latents"):
        edit(pipe, frames, latents=noise[:, :, :1])


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"source": clip(4)}, "4 frames"),
        ({"source": clip(5, 32, 40)}, "multiple of 16"),
        ({"source": clip(), "height": 48}, "scale and crop"),
        ({"source": clip(), "height": 50}, "multiple of 16"),
        ({"source": []}, "empty"),
        ({"source": "clip.mp4"}, "cannot read a str"),
        ({"source": clip().permute(0, 3, 1, 2)}, "shape"),
        ({"source": clip().float()}, r"\[0, 1\]"),
        ({"source": clip().float() / 255 * float("nan")}, r"\[0, 1\]"),
        ({"source": clip().int()}, "int32"),
        ({"source": [clip(1)[0], clip(1, 48, 48)[0]]}, "differ"),
        ({"instruction": "  "}, "instruction is empty"),
        ({"instruction": None}, "instruction or a context"),
        ({"output_type": "gif"}, "output_type"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"reference": np.zeros((1, 300, 3), np.uint8)}, "reference"),
    ],
)
def test_bad_input_is_named(pipe, kwargs, message):
    with pytest.raises(InputError, match=message) as caught:
        edit(pipe, **kwargs)
    assert "\n" not in str(caught.value)


def test_a_step_that_is_not_finite_is_an_error():
    pipe = pipeline()
    with torch.no_grad():
        pipe.transformer.proj_out.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"step 0 \(sigma 1"):
        edit(pipe)


# --- pixels --------------------------------------------------------------------------------------------------------


def test_pixels_round_trip_and_alpha():
    frames = clip(2, 16, 16)
    signed = to_signed(frames)
    assert signed.shape == (1, 3, 2, 16, 16) and -1 <= float(signed.min()) <= float(signed.max()) <= 1
    torch.testing.assert_close(to_signed(frames.float() / 255), signed, rtol=0, atol=1e-6)
    assert torch.equal(to_uint8(frames.float() / 255), frames)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert bool((as_frames(clear) == 255).all())
    assert as_frames(Image.new("L", (4, 6), 7)).shape == (1, 6, 4, 3)
    assert len(as_references([clip(1, 8, 8)[0], clip(2, 9, 9)])) == 3 and as_references(None) == []


def test_reference_is_padded_with_white_and_not_stretched():
    picture = torch.zeros(10, 20, 3, dtype=torch.uint8)
    padded = pad_reference(picture, 64, 64)
    rows = (padded < 128).all(-1).all(-1)
    assert rows.sum() == 32 and rows[16:48].all() and bool((padded[:15] == 255).all())


@torch.no_grad()
def test_vae_latents_are_the_normalised_mean(pipe):
    video = to_signed(clip())
    latent = encode_latents(pipe.vae, video)
    posterior = pipe.vae.encode(video).latent_dist
    mean, std = pipe.vae.config.latents_mean, pipe.vae.config.latents_std
    torch.testing.assert_close(latent[:, 3], (posterior.mean[:, 3] - mean[3]) / std[3])
    assert torch.equal(encode_latents(pipe.vae, video), latent)
    decoded = pipe.vae.decode(posterior.mean).sample
    torch.testing.assert_close(decode_latents(pipe.vae, latent), decoded, rtol=0, atol=1e-4)


def test_references_are_encoded_one_by_one(pipe):
    pictures = as_references([clip(1, 20, 30)[0], clip(1, 32, 48, seed=2)[0]])
    both = pipe.encode_pictures(edit_batch(clip(), reference=pictures)).references
    second = pipe.encode_pictures(edit_batch(clip(), reference=pictures[1:])).references
    assert both.shape == (1, 16, 2, 4, 6) and torch.equal(both[:, :, 1:], second)


# --- diffusers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [small_config(), own_config()], ids=["instructx", "kiwi"])
def test_save_and_load_keep_every_bit(config, tmp_path):
    pipe = pipeline(config)
    pipe.scheduler = build_scheduler(config, "unipc")
    reference = clip(1, 40, 20)[0]
    pipe.save_pretrained(tmp_path)
    loaded = InstructXPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    for part in (loaded.vae, loaded.transformer, loaded.encoder):
        own_memory(part)
    assert loaded.instructx_config == config and type(loaded.scheduler) is type(pipe.scheduler)
    assert torch.equal(edit(loaded, reference=reference), edit(pipe, reference=reference))


def test_lora_files_of_wan_load(pipe, tmp_path):
    from safetensors.torch import save_file

    base = edit(pipe)
    generator = seeded()
    state = {}
    for block in range(2):  # ComfyUI's spelling
        stem = f"diffusion_model.blocks.{block}.self_attn.q"
        state[f"{stem}.lora_A.weight"] = torch.randn(4, 256, generator=generator)
        state[f"{stem}.lora_B.weight"] = torch.randn(256, 4, generator=generator)
    save_file(state, tmp_path / "look.safetensors")
    pipe.load_lora_weights(str(tmp_path), weight_name="look.safetensors", adapter_name="look")
    changed = edit(pipe)
    assert not torch.allclose(changed, base)
    pipe.set_adapters("look", 0.5)
    assert not torch.allclose(edit(pipe), changed)
    pipe.unload_lora_weights()
    assert torch.equal(edit(pipe), base)


def test_bfloat16_stays_close():
    pipe = pipeline()
    base = edit(pipe)
    pipe.to(torch.bfloat16)
    half = edit(pipe)
    assert half.dtype == torch.float32 and (half - base).abs().mean() < 0.05 * base.abs().mean()


def test_context_and_step_caches_do_not_leak_between_edits():
    from diffusers import FirstBlockCacheConfig

    pipe = pipeline()
    base = edit(pipe)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    first = edit(pipe, guidance_scale=2.0)
    pipe.transformer.disable_cache()
    assert torch.isfinite(first).all() and torch.equal(edit(pipe), base)


# --- full size -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_paper_shapes_through_every_component():
    """Paper sizes: 81 frames of 480x832, 13 of them for the MLLM, one reference, 512 video queries."""
    from instructx_core.geometry import dit_tokens, latent_frames, latent_size, mllm_grid

    config = paper_14b()
    with fake_tensors():
        encoder, denoiser, vae = build_encoder(config), build_denoiser(config), build_vae(config.vae)
        grid = mllm_grid(81, 480, 832, config, "video")
        reference_grid = mllm_grid(1, 512, 512, config, "reference")
        vision, other = (g[0] * g[1] * g[2] // 4 for g in (grid, reference_grid))
        length = 40 + vision + other + 512 + 2
        width = 1176
        inputs = EncoderInputs(
            input_ids_BL=torch.empty(1, length, dtype=torch.long),
            attention_mask_BL=torch.empty(1, length, dtype=torch.bool),
            position_ids_3BL=torch.empty(3, 1, length, dtype=torch.long),
            patches_BSP=torch.empty(1, 4 * vision, width),
            grid=grid,
            reference_patches_BSP=torch.empty(1, 4 * other, width),
            reference_grid=(reference_grid,),
            vision_start=35,
            reference_starts=(36 + vision,),
            query_start=length - 514,
            query_count=512,
            query_set="video",
            modality="video",
            temporal_step=1.0,
            padded=False,
        )
        context = encoder(inputs)
        assert grid[0] == 7 and context.shape == (1, 512, 5120)
        t, (h, w) = latent_frames(81), latent_size(480, 832, config)
        noise = torch.empty(1, 16, t, h, w)
        assert dit_tokens(81, 480, 832, config) == t * h * w // 4 == 32760
        out = denoiser(noise, torch.empty(1), context, noise, torch.empty(1, 16, 1, h, w)).sample
        assert out.shape == noise.shape
        video = torch.empty(1, 3, 9, 480, 832)  # the VAE walks in chunks of 4 frames: three chunks show the rule
        latent = encode_latents(vae, video)
        assert latent.shape == (1, 16, 3, 60, 104)
        assert decode_latents(vae, latent).shape == video.shape
