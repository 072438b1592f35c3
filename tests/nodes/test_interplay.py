"""The patched model with everything an artist combines it with, on the host's real classes in this process.

Expected values come from the library's denoiser wherever there is one: a single euler step from pure noise gives
x0 = noise - v(noise, sigma 1), so the host's whole sampling path is checked against one forward of the library.
Tolerance: see test_model_patch.py.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.keymaps import dit_to_diffusers

pytestmark = pytest.mark.comfyui

TOLERANCE = 1e-4
OWN = {"source_embedder": "own", "source_scale": "sigma", "reference_embedder": "own"}


@pytest.fixture(scope="module")
def dit(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    return load_helper("instructx_test_dit", "nodes/dit_case.py")


@pytest.fixture(scope="module")
def patching(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.model_patch")


@pytest.fixture(scope="module")
def case(dit: ModuleType) -> Any:
    return dit.Case(dit.config_of(**OWN))


@pytest.fixture
def conditioning(pack: Callable[[str], ModuleType]) -> Callable[..., Any]:
    """conditioning(model, given, context) -> CONDITIONING as Source and Reference makes it."""
    attach = pack("nodes.source_reference").attach
    shaped = pack("nodes.host_model").noise_shaped

    def make(model: Any, given: Any, context: Tensor | None = None) -> Any:
        references = given.references
        if references is not None:  # the node hands over what the VAE gave; the host normalises it
            references = model.get_model_object("latent_format").process_out(references)
        first = given.context if context is None else context
        return attach([[first[:1], {}]], {"instructx_source": shaped(given.source[:1])}, references)

    return make


def sampled(dit: ModuleType, model: Any, positive: Any, negative: Any = None, **options: Any) -> Tensor:
    """Model-space result of the host's sampling from pure noise."""
    shape = options.pop("shape", (1, 16, 3, 8, 6))
    options = {"steps": 1, **options}
    latent = options.pop("latent", torch.zeros(shape))
    result = dit.sample(model, positive, positive if negative is None else negative, latent, **options)
    return model.get_model_object("latent_format").process_in(result)


def near(got: Tensor, want: Tensor, tolerance: float = TOLERANCE) -> None:
    difference = float((got - want).abs().max())
    assert difference < tolerance, difference


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
    near(sampled(dit, model, positive, negative, cfg=cfg, shape=shape), want, 5e-4)


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
        near(sampled(dit, model, conditioning(model, given)), want, 5e-4)
    near(sampled(dit, patched, conditioning(patched, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)


def test_fp8_weights(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """UNETLoader's fp8_e4m3fn: the result is that of the library with the rounded weights."""
    fp8 = torch.float8_e4m3fn
    model = patching.patch_model(case.load(dtype=fp8), case.adapter)
    stored = model.model.diffusion_model.state_dict()
    assert stored["blocks.0.self_attn.q.weight"].dtype == fp8
    rounded = dit.Case(case.config)
    own = {k: v for k, v in case.library.state_dict().items() if k.startswith(dit.EMBEDDERS)}
    state = {dit_to_diffusers(name): weight.float() for name, weight in stored.items()}
    rounded.library.load_state_dict(state | own)
    given = dit.draw(case.config, references=1)
    got = sampled(dit, model, conditioning(model, given))
    want, exact = dit.one_step(rounded, given, dit.noise_of()), dit.one_step(case, given, dit.noise_of())
    compute = model.model.manual_cast_dtype or torch.float32
    relative = float((got - want).abs().mean() / want.abs().mean())
    assert relative < (1e-4 if compute == torch.float32 else 2e-2), (compute, relative)
    assert float((got - exact).abs().mean() / exact.abs().mean()) < 0.1


@pytest.mark.parametrize("channels", [16, 48])
def test_noise_mask_keeps_the_source(dit: ModuleType, patching: ModuleType, conditioning: Any, channels: int) -> None:
    """Wan2.2 5B (48 channels) turns the mask into a timestep a frame, which the references must follow."""
    case = dit.Case(dit.config_of(channels, **OWN))
    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=1)
    latent = torch.randn(1, channels, 3, 8, 6, generator=torch.manual_seed(5))
    mask = torch.zeros(1, 8, 6)
    mask[:, 2:6, 2:4] = 1.0
    positive = conditioning(model, given)
    result = dit.sample(model, positive, positive, latent, steps=3, noise_mask=mask[:, None])
    kept = (mask == 0)[:, None, None].expand(latent.shape)
    near(result[kept], latent[kept], 1e-5)
    assert float((result - latent)[~kept].abs().mean()) > 0.1


def test_area_conditioning(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """ConditioningSetArea: the DiT sees a part of the picture, and that part of the source."""
    from nodes import ConditioningSetArea

    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config)
    (positive,) = ConditioningSetArea().append(conditioning(model, given), 32, 32, 16, 8, 1.0)  # pixels: w, h, x, y
    got = sampled(dit, model, positive)
    part = SimpleNamespace(source=given.source[..., 1:5, 2:6], references=None, context=given.context)
    want = dit.one_step(case, part, dit.noise_of()[..., 1:5, 2:6])
    near(got[..., 1:5, 2:6], want, 5e-4)
    given.references = torch.randn(1, 16, 1, 8, 6)
    (positive,) = ConditioningSetArea().append(conditioning(model, given), 32, 32, 16, 8, 1.0)
    with pytest.raises(ValueError, match="Set Mask"):
        sampled(dit, model, positive)


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
    got = sampled(dit, model, both)
    near(got[..., :3], dit.one_step(case, given, dit.noise_of())[..., :3], 5e-4)
    near(got[..., 3:], dit.one_step(case, given, dit.noise_of(), other)[..., 3:], 5e-4)


def test_zeroed_conditioning_keeps_the_source(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any
) -> None:
    from nodes import ConditioningZeroOut

    model = patching.patch_model(case.load(), case.adapter)
    given = dit.draw(case.config, references=1)
    (zero,) = ConditioningZeroOut().zero_out(conditioning(model, given))
    near(sampled(dit, model, zero), dit.one_step(case, given, dit.noise_of(), torch.zeros_like(given.context)), 5e-4)


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
def test_context_windows_show_the_same_frames_of_the_source(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame t of noise and source hold the number t: in every window they agree, whichever host cuts them."""
    from comfy import context_windows, sample

    model = patching.patch_model(case.load(), case.adapter)
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_schedule=context_windows.get_matching_context_schedule(schedule),
        fuse_method=context_windows.get_matching_fuse_method("pyramid"),
        context_length=4, context_overlap=1, context_stride=1, closed_loop=False, dim=2,
    )  # fmt: skip
    context_windows.create_prepare_sampling_wrapper(model)
    given = dit.draw(case.config, frames=9, references=1)
    numbers = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 16, 9, 8, 6)
    given.source = numbers.clone()
    seen = []

    def record(x: Tensor, source: Tensor, references: Tensor) -> None:
        seen.append((x[0, 0, :, 0, 0].tolist(), source[0, 0, :, 0, 0].tolist(), references.shape[2]))

    monkeypatch.setattr(patching, "check_grids", record)
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
        return sampled(dit, model, conditioning(model, given), steps=3)

    near(result("sp", 3.0), result("ps", 3.0), 1e-6)
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
        near(sampled(dit, model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of()), 5e-4)


def test_partly_offloaded_weights(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    """What --novram and --lowvram do: weights stay away and are cast layer by layer, LoRA with them."""
    from comfy import sd

    state = {
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.full((2, dit.DIM), 0.05),
        "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.full((dit.DIM, 2), 0.05),
    }
    base, _ = sd.load_lora_for_models(case.load(), None, state, 1.0, 0.0)
    whole, part = (patching.patch_model(base if i else base.clone(), case.adapter) for i in range(2))
    given = dit.draw(case.config, references=1)
    with torch.no_grad():
        whole.patch_model(device_to=torch.device("cpu"))
        want = dit.forward(whole, given)
        whole.unpatch_model()
        part.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=64)
        assert part.model.model_lowvram
        near(dit.forward(part, given), want, 1e-5)
        part.unpatch_model()


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
        sampled(dit, model, conditioning(model, given))
    assert asked[1] == pytest.approx(2 * asked[0])


def test_torch_compile_of_the_host(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any) -> None:
    """The host's compile wrapper around our patch (backend eager: tracing is what is tested, not code generation)."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    given = dit.draw(case.config, references=1)
    model = patching.patch_model(case.load(), case.adapter)
    set_torch_compile_wrapper(model, backend="eager")
    torch._dynamo.reset()
    near(sampled(dit, model, conditioning(model, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)
    assert "forward" not in model.model.diffusion_model.patch_embedding.__dict__


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
    near(sampled(dit, model, conditioning(model, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)
    assert calls == ["wrapper", "wrapper", "block"]


def test_gguf(dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, tmp_path: Path) -> None:
    """ComfyUI-GGUF, where it is present: a Q8_0 file of the same DiT, with a LoRA on top of the patched model."""
    folder = os.environ.get("COMFYUI_GGUF_PATH")
    if not folder:
        pytest.skip("COMFYUI_GGUF_PATH is not set: needs a checkout of ComfyUI-GGUF and `pip install gguf`")
    import folder_paths
    import gguf
    from comfy import sd

    spec = importlib.util.spec_from_file_location(
        "comfyui_gguf", Path(folder) / "__init__.py", submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["comfyui_gguf"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["comfyui_gguf"])
    writer = gguf.GGUFWriter(tmp_path / "wan.gguf", "wan")
    for name, weight in case.state.items():
        array = weight.numpy()
        if array.ndim > 4:  # the format has four dimensions; the real ones are kept beside
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(array.shape))
            array = array.reshape(array.shape[0], -1)
        kind = gguf.GGMLQuantizationType.Q8_0 if array.ndim == 2 and "block" in name else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    loader = importlib.import_module("comfyui_gguf.nodes").UnetLoaderGGUF()
    (base,) = loader.load_unet("wan.gguf")
    down, up = torch.full((2, dit.DIM), 0.05), torch.full((dit.DIM, 2), 0.05)
    names = ("lora_A", "lora_B")
    state = {f"diffusion_model.blocks.0.self_attn.q.{n}.weight": w for n, w in zip(names, (down, up), strict=True)}
    merged = dit.Case(case.config)
    merged.library.get_parameter(dit_to_diffusers("blocks.0.self_attn.q.weight")).add_(up @ down)
    given = dit.draw(case.config, references=1)
    plain = patching.patch_model(base, case.adapter)
    with_lora, _ = sd.load_lora_for_models(plain, None, state, 1.0, 0.0)
    for model, owner in ((plain, case), (with_lora, merged)):
        got, want = sampled(dit, model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of())
        assert float((got - want).abs().mean() / want.abs().mean()) < 5e-3
