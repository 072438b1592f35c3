"""The patched model with everything an artist combines it with, on the host's real classes in this process.

Expected values come from the library's denoiser wherever there is one: a single euler step from pure noise gives
x0 = noise - v(noise, sigma 1), so the host's whole sampling path is checked against one forward of the library.
Tolerance: see test_model_patch.py.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.formats.layouts.keymaps import dit_to_diffusers

pytestmark = pytest.mark.comfyui


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("batch", [1, 2])
def test_guidance_and_batch(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, cfg: float, batch: int
) -> None:
    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=2)
    other = torch.randn(1, 9, dit.DIM, generator=torch.manual_seed(3))  # another length: no batching of the two
    shape = (batch, 16, 3, 8, 6)
    noise = dit.noise_of(shape)
    want = dit.one_step(case, given, noise)
    if cfg != 1.0:
        free = dit.one_step(case, given, noise, other)
        want = free + cfg * (want - free)
    positive, negative = conditioning(model, given), conditioning(model, given, other)
    dit.near(dit.sampled(model, positive, negative, cfg=cfg, shape=shape), want, 5e-4)


def test_lora_by_the_core_names(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """Every key resolves, before and behind the patch, and the weights are those of the merged model."""
    from comfy import lora, sd

    generator = torch.manual_seed(7)
    targets = ["blocks.0.self_attn.q", "blocks.1.cross_attn.v", "blocks.1.ffn.0", "text_embedding.0", "head.head"]
    state, merged = {}, dit.Case(case.config)
    for target in targets:
        weight = case.state[f"{target}.weight"]
        down = torch.randn(4, weight.shape[1], generator=generator) * 0.1
        up = torch.randn(weight.shape[0], 4, generator=generator) * 0.1
        state |= {
            f"diffusion_model.{target}.lora_A.weight": down,
            f"diffusion_model.{target}.lora_B.weight": up,
        }
        merged.library.get_parameter(dit_to_diffusers(f"{target}.weight")).add_(up @ down)
    base = case.load()
    keys = lora.model_lora_keys_unet(base.model, {})
    assert {f"diffusion_model.{target}" for target in targets} <= set(keys)
    given = dit.draw(case.config, references=1)
    patched = patching.patch_model(base, case.adapter)
    behind, _ = sd.load_lora_for_models(patched, None, state, 1.0, 0.0)
    before = patching.patch_model(sd.load_lora_for_models(base, None, state, 1.0, 0.0)[0], case.adapter)
    assert len(behind.patches) == len(before.patches) == len(targets)
    want = dit.one_step(merged, given, dit.noise_of())
    for model in (behind, before):
        dit.near(dit.sampled(model, conditioning(model, given)), want, 5e-4)
    dit.near(dit.sampled(patched, conditioning(patched, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)


@pytest.mark.parametrize("channels", [16, 48])
def test_noise_mask_keeps_the_source(dit: ModuleType, patching: ModuleType, conditioning: Any, channels: int) -> None:
    """Wan2.2 5B (48 channels) turns the mask into a timestep a frame, which the references must follow."""
    case = dit.Case(dit.config_of(channels, **dit.OWN))
    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=1)
    latent = torch.randn(1, channels, 3, 8, 6, generator=torch.manual_seed(5))
    mask = torch.zeros(1, 8, 6)
    mask[:, 2:6, 2:4] = 1.0
    positive = conditioning(model, given)
    result = dit.sample(model, positive, positive, latent, steps=3, noise_mask=mask[:, None])
    kept = (mask == 0)[:, None, None].expand(latent.shape)
    dit.near(result[kept], latent[kept], 1e-5)
    assert float((result - latent)[~kept].abs().mean()) > 0.1


def test_area_conditioning(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """ConditioningSetArea: the DiT sees a part of the picture, and that part of the source."""
    from nodes import ConditioningSetArea

    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config)
    (positive,) = ConditioningSetArea().append(conditioning(model, given), 32, 32, 16, 8, 1.0)  # pixels: w, h, x, y
    got = dit.sampled(model, positive)
    part = SimpleNamespace(source=given.source[..., 1:5, 2:6], references=None, context=given.context)
    want = dit.one_step(case, part, dit.noise_of()[..., 1:5, 2:6])
    dit.near(got[..., 1:5, 2:6], want, 5e-4)
    given.references = torch.randn(1, 16, 1, 8, 6)
    (positive,) = ConditioningSetArea().append(conditioning(model, given), 32, 32, 16, 8, 1.0)
    with pytest.raises(ValueError, match="Set Mask"):
        dit.sampled(model, positive)


def test_masked_conditionings_and_timestep_ranges(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any
) -> None:
    """Two instructions in two halves, with a reference each part sees whole."""
    from nodes import ConditioningCombine, ConditioningSetMask, ConditioningSetTimestepRange

    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=1)
    other = torch.randn(1, dit.LENGTH, dit.DIM, generator=torch.manual_seed(3))
    left = torch.zeros(1, 8, 6)
    left[..., :3] = 1.0
    first, second = conditioning(model, given), conditioning(model, given, other)
    (first,) = ConditioningSetMask().append(first, left, "default", 1.0)
    (second,) = ConditioningSetMask().append(second, 1.0 - left, "default", 1.0)
    (second,) = ConditioningSetTimestepRange().set_range(second, 0.0, 1.0)
    (both,) = ConditioningCombine().combine(first, second)
    got = dit.sampled(model, both)
    dit.near(got[..., :3], dit.one_step(case, given, dit.noise_of())[..., :3], 5e-4)
    dit.near(got[..., 3:], dit.one_step(case, given, dit.noise_of(), other)[..., 3:], 5e-4)


def test_zeroed_conditioning_keeps_the_source(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any
) -> None:
    from nodes import ConditioningZeroOut

    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=1)
    (zero,) = ConditioningZeroOut().zero_out(conditioning(model, given))
    dit.near(dit.sampled(model, zero), dit.one_step(case, given, dit.noise_of(), torch.zeros_like(given.context)), 5e-4)


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
def test_context_windows_show_the_same_frames_of_the_source(
    dit: ModuleType,
    pack: Callable[[str], ModuleType],
    case: Any,
    conditioning: Any,
    schedule: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frame t of noise and source hold the number t: in every window they agree, whichever host cuts them."""
    from comfy import context_windows, sample

    model = pack("nodes.parts.model_patch").patch_model(case.load(), case.adapter)
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_schedule=context_windows.get_matching_context_schedule(schedule),
        fuse_method=context_windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=1,
        context_stride=1,
        closed_loop=False,
        dim=2,
    )
    context_windows.create_prepare_sampling_wrapper(model)
    given = dit.draw(case.config, frames=9, references=1)
    numbers = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 16, 9, 8, 6)
    given.source = numbers.clone()
    seen = []

    def record(x: Tensor, source: Tensor, references: Tensor) -> None:
        seen.append((x[0, 0, :, 0, 0].tolist(), source[0, 0, :, 0, 0].tolist(), references.shape[2]))

    monkeypatch.setattr(pack("nodes.parts.denoiser_patch"), "check_grids", record)
    positive = conditioning(model, given)
    zero = torch.zeros(1, 16, 9, 8, 6)
    sample.sample(
        model, numbers.clone(), 1, 1.0, "euler", "simple", positive, positive, zero, seed=0, disable_pbar=True
    )
    assert len(seen) >= 3 and {count for *_, count in seen} == {1}
    assert all(noisy == source for noisy, source, _ in seen)
    assert {frame for noisy, *_ in seen for frame in noisy} == set(range(9))


def test_shift_before_or_behind(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    given = dit.draw(case.config, references=1)

    def result(order: str, shift: float) -> Tensor:
        model = case.load()
        for step in order:
            model = (
                ModelSamplingSD3().patch(model, shift)[0] if step == "s" else patching.patch_model(model, case.adapter)
            )
        return dit.sampled(model, conditioning(model, given), steps=3)

    dit.near(result("sp", 3.0), result("ps", 3.0), 1e-6)
    assert float((result("sp", 3.0) - result("sp", 8.0)).abs().max()) > 0.01


def test_two_patches_of_one_model_side_by_side(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any
) -> None:
    """A second adapter for the same loaded MODEL; both give their own result, in any order."""
    base = case.load()
    given = dit.draw(case.config, references=1)
    tied = dit.Case(dit.config_of(reference_position="first"))
    tied.library.load_state_dict(
        {k: v for k, v in case.library.state_dict().items() if not k.startswith(dit.EMBEDDERS)}
    )
    models = [(case, patching.patch_model(base, case.adapter)), (tied, patching.patch_model(base, tied.adapter))]
    for owner, model in (*models, *models):
        dit.near(dit.sampled(model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of()), 5e-4)


def test_memory_estimate_of_the_host(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three frames and three references ask for twice the memory of three frames."""
    from comfy import model_management

    asked = []
    load = model_management.load_models_gpu

    def record(models: Any, memory_required: int = 0, **kwargs: Any) -> Any:
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **kwargs)

    monkeypatch.setattr(model_management, "load_models_gpu", record)
    model = patching.patch_model(case.load(), case.adapter)
    for count in (0, 3):
        given = dit.draw(case.config, references=count)
        dit.sampled(model, conditioning(model, given))
    assert asked[1] == pytest.approx(2 * asked[0])


def test_other_wrappers_and_block_patches(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """Another pack's wrapper, before and behind ours, and a block replacement see a working model."""
    calls = []

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        calls.append("wrapper")
        return executor(*args, **kwargs)

    def block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        calls.append("block")
        return extra["original_block"](args)

    base = case.load()
    base.add_wrapper_with_key("diffusion_model", "a", wrapper)
    model = patching.patch_model(base, case.adapter)
    model.add_wrapper_with_key("diffusion_model", "z", wrapper)
    model.set_model_patch_replace(block, "dit", "double_block", 0)
    given = dit.draw(case.config, references=1)
    dit.near(dit.sampled(model, conditioning(model, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)
    assert calls == ["wrapper", "wrapper", "block"]
