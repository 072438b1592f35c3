"""The encoder in the host's ModelPatcher: same numbers as the library, partial offload, eviction."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

INSTRUCTION = "make the circle blue"


@pytest.fixture
def load(pack: Callable[[str], ModuleType], random_checkpoint: Path) -> Callable[[], Any]:
    """load() -> a new LoadedEncoder of the random checkpoint, fp32 on the CPU."""
    name = "instructx_tiny.safetensors"
    cpu = torch.device("cpu")
    qwen = random_checkpoint / "text_encoders" / name
    adapter = random_checkpoint / "model_patches" / name

    def make() -> Any:
        stored = pack("instructx_core.formats.layouts.adapter").load_adapter(adapter)
        with pack("instructx_core.formats.layouts.weight_file").open_weights(qwen) as file:
            tokenizer = random_checkpoint / "tokenizer.json"
            return pack("nodes.parts.encoder_model").load_on_host(file, stored, tokenizer, torch.float32, (cpu, cpu))

    return make


def frames(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)


def prepare(pack: Callable[[str], ModuleType], loaded: Any, count: int = 1, references: int = 0) -> Any:
    pictures = [[frames(1, (40, 30), seed=9)[0] for _ in range(references)]] if references else None
    return pack("instructx_core.encoder.inputs").prepare_inputs(
        loaded.tokenizer, loaded.config, [INSTRUCTION], [frames(count)], pictures
    )


def context(pack: Callable[[str], ModuleType], loaded: Any, **what: int) -> Tensor:
    return loaded.connect(*loaded.features(prepare(pack, loaded, **what)))


@pytest.mark.parametrize("what", [{"count": 1}, {"count": 5}, {"count": 1, "references": 2}])
def test_context_is_the_pipelines(
    pack: Callable[[str], ModuleType], load: Callable[[], Any], random_checkpoint: Path, what: dict[str, int]
) -> None:
    from instructx_core.sampling.batch import edit_batch
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(random_checkpoint)
    pictures = [frames(1, (40, 30), seed=9)[0] for _ in range(what.get("references", 0))]
    want = pipe.encode_instruction(edit_batch(frames(what["count"]), INSTRUCTION, pictures), 16.0).positive
    have = context(pack, load(), **what)
    assert have.dtype == torch.float32
    torch.testing.assert_close(have, want.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_casting_layers_change_nothing(
    pack: Callable[[str], ModuleType], load_helper: Callable[[str, str], ModuleType], dtype: torch.dtype
) -> None:
    """Bit-equal before and after the classes are swapped; and every layer can be offloaded."""
    small = load_helper("instructx_test_tiny", "support/tiny.py").small_config()
    config = pack("instructx_core.config").InstructXConfig.from_json(small.to_json())
    encoder = pack("instructx_core.encoder.forward").PlainEncoder(config).to(dtype).eval().requires_grad_(False)
    inputs = pack("instructx_core.encoder.inputs").prepare_inputs(
        load_helper("instructx_test_tiny", "support/tiny.py").tokenizer(), config, [INSTRUCTION], [frames(5)]
    )
    want = encoder(inputs.to("cpu", dtype))
    pack("nodes.parts.encoder_model").castable(encoder)
    assert torch.equal(encoder(inputs.to("cpu", dtype)), want)
    for layer in encoder.modules():
        if list(layer.parameters(recurse=False)) and not isinstance(layer, nn.ParameterDict):
            assert layer.comfy_cast_weights


def test_unknown_layer_is_refused(pack: Callable[[str], ModuleType], comfy: Path) -> None:
    with pytest.raises(TypeError, match="0 is a GroupNorm, a layer this pack cannot offload"):
        pack("nodes.parts.encoder_model").castable(nn.Sequential(nn.GroupNorm(1, 4)))


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["novram", "half"])
def test_partial_load_is_bit_equal(
    pack: Callable[[str], ModuleType], load: Callable[[], Any], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's low-VRAM path, driven on the CPU: layers stay on the offload device and are cast when used."""
    loaded = load()
    want = context(pack, loaded, count=5)
    patcher = loaded.patcher
    patcher.detach()
    patcher.model.to("cpu")
    patcher.patch_model(patcher.load_device, lowvram_model_memory=max(0.1, share * patcher.model_size()))
    flagged = [m for m in patcher.model.modules() if hasattr(m, "prev_comfy_cast_weights")]
    assert patcher.model.model_lowvram and len(flagged) > 10
    assert patcher.loaded_size() <= share * patcher.model_size()
    monkeypatch.setattr(pack("nodes.parts.host"), "load_models", lambda *_: None)  # keep the partial state
    assert torch.equal(context(pack, loaded, count=5), want)


def test_host_patches_apply_when_offloaded(
    pack: Callable[[str], ModuleType], load: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight patch, as a LoRA loader adds it, on a linear and a norm: full and partial load agree, unload undoes."""
    loaded = load()
    plain = context(pack, loaded)
    keys = [f"encoder.mllm.language_model.{name}.weight" for name in ("layers.0.mlp.up_proj", "norm")]
    own = loaded.patcher
    patched = own.clone()
    state = patched.model_state_dict()
    patches = {key: ("diff", (torch.full_like(state[key], 0.01),)) for key in keys}
    assert set(patched.add_patches(patches)) == set(keys)
    loaded.patcher = patched
    full = context(pack, loaded)
    assert not torch.equal(full, plain)
    patched.detach()
    patched.patch_model(patched.load_device, lowvram_model_memory=0.1)
    with monkeypatch.context() as held:
        held.setattr(pack("nodes.parts.host"), "load_models", lambda *_: None)
        torch.testing.assert_close(context(pack, loaded), full, rtol=0, atol=1e-6)
    patched.detach()
    loaded.patcher = own
    assert torch.equal(context(pack, loaded), plain)


def test_eviction_and_free(pack: Callable[[str], ModuleType], load: Callable[[], Any]) -> None:
    from comfy import model_management

    loaded = load()
    context(pack, loaded)
    assert any(model.model is loaded.patcher for model in model_management.current_loaded_models)
    model_management.unload_all_models()
    assert not any(model.model is loaded.patcher for model in model_management.current_loaded_models)
    assert loaded.patcher.loaded_size() == 0
    again = context(pack, loaded)  # comes back by itself
    assert torch.isfinite(again).all()
    model_management.unload_all_models()
    gone = weakref.ref(loaded.patcher.model)
    del loaded
    gc.collect()
    assert gone() is None


def test_cancel_stops_an_encode(pack: Callable[[str], ModuleType], load: Callable[[], Any]) -> None:
    """Cancel in the middle of the vision tower raises the host's exception; the next encode is clean."""
    from comfy import model_management

    loaded = load()
    want = context(pack, loaded)
    tower = loaded.patcher.model.encoder.mllm.visual
    hook = tower.blocks[0].norm2.register_forward_hook(lambda *_: model_management.interrupt_current_processing())
    with pytest.raises(model_management.InterruptProcessingException):
        context(pack, loaded)
    hook.remove()
    assert torch.equal(context(pack, loaded), want)


def test_own_embedders_travel_in_the_adapter(pack: Callable[[str], ModuleType], load: Callable[[], Any]) -> None:
    loaded = load()
    adapter = loaded.adapter
    assert adapter == load().adapter and adapter.name == loaded.config.name
    for name in ("source_embedder", "reference_embedder"):
        embedder = getattr(adapter, name)
        assert (embedder is not None) == (getattr(adapter.denoiser, name) == "own")
        if embedder is not None:
            assert set(embedder) == {"weight", "bias"} and embedder["weight"].shape[0] == adapter.denoiser.dim


def test_old_transformers_is_named(pack: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    model = pack("nodes.parts.encoder_model")
    for version in ("4.57.0", "5.0.0rc1", "10.1"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        model.check_transformers()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.50.3")
    with pytest.raises(ValueError, match=r"transformers 4.50.3 is too old for the encoder; update"):
        model.check_transformers()
