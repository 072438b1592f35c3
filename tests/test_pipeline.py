"""InstructXPipeline end to end on small random models: results, guidance, callbacks, refusals, files of diffusers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import clip, own_config, own_memory, pipeline, small_config

from instructx_core.encoder.inputs import EncoderInputs
from instructx_core.errors import InputError
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.guidance import Conditions, Guidance, predict
from instructx_core.sampling.schedule import Level, build_scheduler


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
        config.instruction,
        num_reference_queries=6,
        query_slice="tail",
        frame_rule="cap",
        mllm_frames=16,
        video_size_factor=2,
        temporal_position_step="fixed",
        reference_in_context=True,
        max_pixels=112 * 112,
    )
    pipe = pipeline(dataclasses.replace(config, profile="kiwi", instruction=rule))
    plain, referenced = edit(pipe), edit(pipe, reference=clip(1, 40, 20)[0])
    assert not torch.equal(plain, referenced) and torch.isfinite(referenced).all()


# --- guidance, callbacks -------------------------------------------------------------------------------------------


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


def test_callback_sees_and_changes_tensors(pipe):
    steps = []

    def callback(self, step, timestep, tensors):
        steps.append((step, float(timestep), sorted(tensors)))
        if step == 1:
            self._interrupt = True
        return {"latents": tensors["latents"] * 0}

    names = ["latents", "context"]
    out = edit(pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names, num_inference_steps=4)
    assert [s[0] for s in steps] == [0, 1] and steps[0][2] == ["context", "latents"] and not out.any()
    assert pipe.current_timestep is None and pipe.num_timesteps == 4
    with pytest.raises(InputError, match="callback tensors"):
        edit(pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["noise"])


def test_callback_may_turn_guidance_off(pipe):
    """Dynamic guidance, as diffusers documents it: a callback sets `_guidance_scale`."""
    forwards = []

    def callback(self, step, timestep, tensors):
        self._guidance_scale = 1.0
        return tensors

    hook = pipe.transformer.register_forward_hook(lambda *_: forwards.append(1))
    edit(pipe, callback_on_step_end=callback, num_inference_steps=4, guidance_scale=3.0)
    hook.remove()
    assert len(forwards) == 2 + 3


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


# --- diffusers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [small_config(), own_config()], ids=["instructx", "kiwi"])
def test_save_and_load_keep_every_bit(config, tmp_path):
    pipe = pipeline(config)
    pipe.scheduler = build_scheduler(config, "unipc")
    reference = clip(1, 40, 20)[0]
    pipe.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    assert "instructx_core.encoder.model" in index.read_text()
    # A pipeline that was saved before the encoder's file got its name.
    index.write_text(index.read_text().replace("instructx_core.encoder.model", "instructx_core.encoder.instruction"))
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
