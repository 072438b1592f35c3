"""The patched native Wan model against the library's denoiser, and what a wrong graph says.

Tolerance: both compute in fp32 and differ in the order of additions and the precision of the rotary tables; velocities
are O(5), 1e-4 is a hundred times below the change that one bf16 rounding of the weights makes.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.comfyui

TOLERANCE = 1e-4
TIED = {"source_embedder": "tied", "source_scale": "none", "reference_embedder": "tied"}
OWN = {"source_embedder": "own", "source_scale": "none", "reference_embedder": "own"}
KIWI = {"source_embedder": "own", "source_scale": "sigma", "reference_embedder": "own"}


@pytest.fixture(scope="module")
def guard(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.parts.guard")


@pytest.fixture(scope="module")
def case(dit: ModuleType) -> Any:
    return dit.Case(dit.config_of(**OWN))


def patched(patching: ModuleType, case: Any) -> Any:
    return patching.patch_model(case.load(), case.adapter)


@torch.no_grad()
@pytest.mark.parametrize("references", [0, 1, 2])
@pytest.mark.parametrize("position", ["last", "first"])
@pytest.mark.parametrize("switches", [TIED, OWN, KIWI, {**KIWI, "reference_embedder": "tied"}])
@pytest.mark.parametrize("channels", [16, 48])
def test_velocity_equals_the_library(
    dit: ModuleType, patching: ModuleType, channels: int, switches: dict[str, str], position: str, references: int
) -> None:
    case = dit.Case(dit.config_of(channels, reference_position=position, **switches))
    model = patched(patching, case)
    assert type(model.model).__name__ == {16: "WAN21", 48: "WAN22"}[channels]
    given = dit.draw(case.config, references=references, batch=2)
    want = case.library(
        given.noisy, torch.full((2,), 300.0), given.context, source=given.source, references=given.references
    ).sample
    assert float(want.abs().max()) > 1.0
    assert float((dit.forward(model, given) - want).abs().max()) < TOLERANCE


@torch.no_grad()
def test_nothing_stays_in_the_model(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    """What another pack had put there comes back, after a success and after an error."""
    model = patched(patching, case)
    denoiser = model.model.diffusion_model
    given = dit.draw(case.config, references=1)
    forward = denoiser.patch_embedding.forward
    denoiser.patch_embedding.forward = lambda x: forward(x) * 2
    before = {name: dict(module.__dict__) for name, module in denoiser.named_modules()}
    dit.forward(model, given)
    assert {name: dict(module.__dict__) for name, module in denoiser.named_modules()} == before
    given.context = given.context[..., :7]
    with pytest.raises(ValueError):
        dit.forward(model, given)
    assert {name: dict(module.__dict__) for name, module in denoiser.named_modules()} == before


def test_patching_again_replaces_and_leaves_the_original_alone(
    dit: ModuleType, patching: ModuleType, case: Any
) -> None:
    model = case.load()
    once = patching.patch_model(model, case.adapter)
    twice = patching.patch_model(once, case.adapter)
    for kind in ("diffusion_model", "prepare_sampling"):
        assert len(twice.get_wrappers(kind, "instructx")) == 1
        assert twice.get_wrappers("diffusion_model", "instructx") != once.get_wrappers("diffusion_model", "instructx")
        assert not model.get_wrappers(kind, "instructx")
    assert twice.get_model_object("memory_usage_factor_conds").count("time_dim_concat") == 1
    assert patching.is_patched(twice) and not patching.is_patched(model)
    assert sorted(twice.model.state_dict()) == sorted(model.model.state_dict())


@torch.no_grad()
def test_deep_copy_works_and_is_independent(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    """What clones for torch.compile, several GPUs and hooks need: the patch holds no reference to a model."""
    model = patched(patching, case)
    given = dit.draw(case.config, references=1)
    want = dit.forward(model, given)
    twin = copy.deepcopy(model.model.diffusion_model)
    wrappers = copy.deepcopy(model.wrappers)
    options = {"wrappers": wrappers}
    for weight in model.model.diffusion_model.parameters():
        weight.zero_()
    timestep = torch.full((1,), 300.0)
    got = twin(
        given.noisy,
        timestep,
        context=given.context,
        time_dim_concat=given.references,
        transformer_options=options,
        instructx_source=given.source,
    )
    assert torch.equal(got, want)


@torch.no_grad()
@pytest.mark.parametrize("position", ["last", "first"])
def test_timestep_a_frame(dit: ModuleType, patching: ModuleType, position: str) -> None:
    """Wan2.2's noise mask gives each frame its own timestep: equal ones must do what a single one does."""
    case = dit.Case(dit.config_of(48, reference_position=position, **KIWI))
    model = patched(patching, case)
    given = dit.draw(case.config, references=2)
    want = dit.forward(model, given)
    options = {"wrappers": model.wrappers}
    got = model.model.diffusion_model(
        given.noisy,
        torch.full((1, 3), 300.0),
        context=given.context,
        time_dim_concat=given.references,
        transformer_options=options,
        instructx_source=given.source,
    )
    assert float((got - want).abs().max()) < TOLERANCE


@torch.no_grad()
def test_odd_area_is_padded_as_the_host_pads(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    model = patched(patching, case)
    given = dit.draw(case.config)
    given.noisy, given.source = given.noisy[..., :5, :3], given.source[..., :5, :3]
    assert dit.forward(model, given).shape == given.noisy.shape


@torch.no_grad()
def test_wrong_graphs(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    model = patched(patching, case)

    def error(**changed: Any) -> str:
        given = dit.draw(case.config, references=1)
        extra = changed.pop("extra", {})
        for name, value in changed.items():
            setattr(given, name, value)
        with pytest.raises(ValueError) as caught:
            dit.forward(model, given, **extra)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "text encoder (T5, CLIP) prompts do not fit" in error(context=torch.zeros(1, 7, 4096))
    assert "Source and Reference (InstructX)" in error(source=None)
    assert "LATENT of Source and Reference" in error(source=torch.zeros(1, 16, 2, 8, 6))
    assert "Set Mask" in error(references=torch.zeros(1, 16, 1, 4, 6))
    assert "set cfg to 1" in error(extra={"instructx_no_negative": True})


@torch.no_grad()
def test_our_context_in_the_text_embedding(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    """What NAG nodes do when they are set up: T5 features pass, ours get a sentence, and sampling is not disturbed.

    The DiT is shared by all clones of a MODEL: nothing of it is left behind when the patched ones are gone.
    """
    model = patched(patching, case)
    embedding = model.get_model_object("diffusion_model").text_embedding
    assert embedding(torch.zeros(1, 5, embedding[0].in_features)).shape[-1] == case.config.denoiser.dim
    given = dit.draw(case.config)
    with pytest.raises(ValueError, match=r"through the model's text embedding.*CLIP Text Encode"):
        embedding(given.context)
    dit.forward(model, given)
    clone = model.clone()
    del model
    gc.collect()
    assert len(embedding._forward_pre_hooks) == 1, "the clone is patched too"
    del clone
    gc.collect()
    assert not embedding._forward_pre_hooks


@pytest.mark.parametrize("entry", ["vace_frames", "concat_latent_image", "clip_vision_output", "reference_latents"])
def test_entries_that_the_model_would_ignore(patching: ModuleType, case: Any, entry: str) -> None:
    """A VACE or image-to-video node behind ours: said when sampling begins, and left to a DiT that has the part."""
    model, graph_checks = patched(patching, case), patching.check_foreign
    conds = {"positive": [{"cross_attn": 1}, {entry: torch.zeros(1)}], "negative": None}
    called: list[Any] = []
    with pytest.raises(ValueError, match=rf"\({entry}\) from a node behind Source and Reference"):
        patching.prepare_sampling(lambda *a, **k: called.append(a), model, (1, 16, 1, 4, 4), conds)
    assert not called
    patching.prepare_sampling(lambda *a, **k: called.append(a), model, (1, 16, 1, 4, 4), {"positive": [{}]})
    assert called
    able = SimpleNamespace(vace_patch_embedding=1, img_emb=1, ref_conv=1)
    if entry != "concat_latent_image":
        graph_checks(conds, able)


def test_wrong_models(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    wide = dit.config_of(48, **KIWI)
    adapter = SimpleNamespace(**{**vars(case.adapter), "denoiser": wide.denoiser})
    with pytest.raises(ValueError, match=r"takes 16 channels, the adapter test 48"):
        patching.patch_model(case.load(), adapter)
    adapter.denoiser = dataclasses.replace(case.config.denoiser, dim=384, num_heads=3)
    with pytest.raises(ValueError, match=r"MODEL is 256 wide, the adapter test was made for 384; load"):
        patching.patch_model(case.load(), adapter)
    other = SimpleNamespace(get_model_object=lambda name: torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="is a Linear, not a Wan DiT"):
        patching.patch_model(other, case.adapter)


def test_adapter_without_its_embedder(pack: Callable[[str], ModuleType], case: Any) -> None:
    adapters = pack("nodes.parts.dit_adapter")
    with pytest.raises(ValueError, match="adapter test has no source_embedder"):
        adapters.DitAdapter("test", case.config.denoiser, None, case.adapter.reference_embedder)
    tensors = {
        f"{name}.{part}": value for name in adapters.EMBEDDERS for part, value in vars(case.adapter)[name].items()
    }
    stored = SimpleNamespace(config=case.config, tensors=tensors)
    assert adapters.adapter_of_file(stored).source_embedder.keys() == {"weight", "bias"}
    del tensors["reference_embedder.bias"]
    with pytest.raises(ValueError, match="has no reference_embedder"):
        adapters.adapter_of_file(stored)


def test_designs_of_the_study_are_refused_by_name(pack: Callable[[str], ModuleType], case: Any) -> None:
    adapters, config = pack("nodes.parts.dit_adapter"), pack("instructx_core.config")
    for kind in set(config.DESIGNS) - {"queries"}:
        stored = SimpleNamespace(config=config.with_design(case.config, kind), tensors={})
        with pytest.raises(ValueError, match=f"is of the design {kind}, which the paper only compares with its own"):
            adapters.adapter_of_file(stored)


def test_our_conditioning_looks_for_the_patch(patching: ModuleType, guard: ModuleType, case: Any) -> None:
    """As the host does it before sampling: every hook of the conditioning is shown to the model."""
    from comfy import hooks, sampler_helpers

    assert guard.only_patched() is guard.only_patched(), "or the host would not batch positive and negative"
    conds = {"positive": [{"hooks": guard.only_patched()}]}
    options: dict[str, Any] = {"transformer_options": {}}
    model = case.load()
    with pytest.raises(ValueError, match="needs a patched MODEL; connect the MODEL, positive and negative of Source"):
        sampler_helpers.prepare_model_patcher(model, conds, options)
    patched = patching.patch_model(model, case.adapter)
    sampler_helpers.prepare_model_patcher(patched, conds, options)
    assert not hooks.create_transformer_options_from_hooks(patched, guard.only_patched())


def test_memory_estimate_counts_references(dit: ModuleType, patching: ModuleType, case: Any) -> None:
    """Extra frames of references weigh as much as frames of the video, with and without context windows."""
    model = patched(patching, case)
    seen = []

    def executor(model: Any, noise_shape: Any, conds: Any, **kwargs: Any) -> None:
        seen.append(list(noise_shape))

    conds = {"positive": [{"time_dim_concat": torch.zeros(1, 16, 2, 8, 6)}], "negative": [{}]}
    patching.prepare_sampling(executor, model, (1, 16, 4, 8, 6), conds, model_options={})
    patching.prepare_sampling(executor, model, (1, 16, 4, 8, 6), {"positive": [{}]}, model_options={})
    windows = {"context_handler": type("Windows", (), {"context_length": 2})()}
    patching.prepare_sampling(executor, model, (1, 16, 4, 8, 6), conds, model_options=windows)
    assert seen == [[1, 16, 4, 12, 6], [1, 16, 4, 8, 6], [1, 16, 4, 16, 6]]
