"""The patched model with its weights held in other ways: fp8, GGUF, partly offloaded, compiled.

Expected values are the library's, as in test_interplay.py; dit.sampled is one euler step of the host's sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from instructx_core.formats.layouts.keymaps import dit_to_diffusers

pytestmark = pytest.mark.comfyui


def low_rank(dit: ModuleType, case: Any) -> tuple[dict[str, Any], Any]:
    """A LoRA of one layer in the names of ComfyUI, and the library's case with it merged."""
    down, up = torch.full((2, dit.DIM), 0.05), torch.full((dit.DIM, 2), 0.05)
    names = ("lora_A", "lora_B")
    state = {f"diffusion_model.blocks.0.self_attn.q.{n}.weight": w for n, w in zip(names, (down, up), strict=True)}
    merged = dit.Case(case.config)
    merged.library.get_parameter(dit_to_diffusers("blocks.0.self_attn.q.weight")).add_(up @ down)
    return state, merged


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
    got = dit.sampled(model, conditioning(model, given))
    want, exact = dit.one_step(rounded, given, dit.noise_of()), dit.one_step(case, given, dit.noise_of())
    compute = model.model.manual_cast_dtype or torch.float32
    relative = float((got - want).abs().mean() / want.abs().mean())
    assert relative < (1e-4 if compute == torch.float32 else 2e-2), (compute, relative)
    assert float((got - exact).abs().mean() / exact.abs().mean()) < 0.1


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_partly_offloaded_weights(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--novram (share 0, as the host decides it) and a card that holds half: a layer that stays away is cast, with its
    LoRA, when it is used; one that fits has its LoRA in the weight. (The host refuses --novram beside --cpu.)"""
    from comfy import model_management, sd

    state, merged = low_rank(dit, case)
    base, _ = sd.load_lora_for_models(case.load(), None, state, 1.0, 0.0)
    model = patching.patch_model(base, case.adapter)
    given = dit.draw(case.config, references=1)
    monkeypatch.setattr(model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(model_management, "vram_state", model_management.VRAMState.NO_VRAM)
    load = model.load

    def load_share(*args: Any, **kwargs: Any) -> Any:
        asked = kwargs.pop("lowvram_model_memory")
        assert asked == 0.1, "what the host gives a model under --novram"
        return load(*args, lowvram_model_memory=max(asked, share * model.model_size()), **kwargs)

    monkeypatch.setattr(model, "load", load_share)
    got = dit.sampled(model, conditioning(model, given))
    layers = [layer for layer in model.model.diffusion_model.modules() if hasattr(layer, "comfy_cast_weights")]
    away = [layer for layer in layers if hasattr(layer, "prev_comfy_cast_weights")]
    assert model.model.model_lowvram and (len(away) == len(layers) if share == 0 else 0 < len(away) < len(layers))
    dit.near(got, dit.one_step(merged, given, dit.noise_of()), 5e-4)
    model.detach()
    plain = patching.patch_model(case.load(), case.adapter)
    dit.near(dit.sampled(plain, conditioning(plain, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)


@pytest.mark.timeout(1800)  # minutes of compiling where other work shares the cores
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_node_of_the_host(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, backend: str
) -> None:
    """TorchCompileModel behind the patch (it offers inductor; eager needs no C compiler): compiled once, right for
    another source, reference and instruction, and the model is left as it was."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    torch.compiler.reset()
    plain = patching.patch_model(case.load(), case.adapter)
    (model,) = TorchCompileModel.execute(plain, backend).args
    for seed, again in ((1, False), (2, True)):
        given = dit.draw(case.config, references=1, seed=seed)
        with torch._dynamo.config.patch(error_on_recompile=again):
            got = dit.sampled(model, conditioning(model, given))
        dit.near(got, dit.one_step(case, given, dit.noise_of()), 5e-4)
    assert "forward" not in model.model.diffusion_model.patch_embedding.__dict__
    dit.near(dit.sampled(plain, conditioning(plain, given)), dit.one_step(case, given, dit.noise_of()), 5e-4)


@pytest.mark.timeout(1800)
def test_two_adapters_behind_the_compile_node(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any
) -> None:
    """One loaded MODEL, two adapters with other switches: neither runs what was compiled for the other."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    torch.compiler.reset()
    base, given = case.load(), dit.draw(case.config, references=1)
    tied = dit.Case(dit.config_of())
    tied.library.load_state_dict(
        {k: v for k, v in case.library.state_dict().items() if not k.startswith(dit.EMBEDDERS)}
    )
    for owner in (case, tied, case):
        (model,) = TorchCompileModel.execute(patching.patch_model(base, owner.adapter), "eager").args
        dit.near(dit.sampled(model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of()), 5e-4)


def test_gguf(
    dit: ModuleType,
    patching: ModuleType,
    case: Any,
    conditioning: Any,
    tmp_path: Path,
    load_helper: Any,
    gguf_pack: Callable[[str], ModuleType],
) -> None:
    """ComfyUI-GGUF, where it is present: a Q8_0 file of the same DiT, with a LoRA on top of the patched model."""
    import folder_paths
    from comfy import sd

    load_helper("instructx_test_format_files", "formats/small.py").packed(tmp_path / "wan", "Q8_0", case.state)
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    loader = gguf_pack("nodes").UnetLoaderGGUF()
    (base,) = loader.load_unet("wan.gguf")
    state, merged = low_rank(dit, case)
    given = dit.draw(case.config, references=1)
    plain = patching.patch_model(base, case.adapter)
    with_lora, _ = sd.load_lora_for_models(plain, None, state, 1.0, 0.0)
    for model, owner in ((plain, case), (with_lora, merged)):
        got, want = dit.sampled(model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of())
        assert float((got - want).abs().mean() / want.abs().mean()) < 5e-3
