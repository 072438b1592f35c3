"""Source and Reference: what it attaches, the rules for size and length, its report, and what wrong graphs say.

Runs on the host's own VAE class with the shipped tiny VAE, and on a random Wan of the shipped width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def node(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.source_reference")


@pytest.fixture(scope="module")
def fitting(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.parts.fitting")


@pytest.fixture(scope="module")
def case(dit: ModuleType) -> Any:
    return dit.Case(dit.config_of(source_embedder="own", reference_embedder="own"))


@pytest.fixture(scope="module")
def model(case: Any, comfy: Any) -> Any:
    return case.load()


def positive(case: Any, references: int | None = None) -> Any:
    options = {"instructx": case.adapter}
    if references is not None:
        options["instructx_references"] = references
    return [[torch.randn(1, 5, 256), options]]


def picture(frames: int = 1, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(frames))


def run(node: ModuleType, model: Any, case: Any, vae: Any, source: Any, **options: Any) -> Any:
    cond = options.pop("positive", None) or positive(case)
    arguments = {"resize": "error", "length": "error", **options}
    with torch.inference_mode():  # as the host runs every node
        return node.InstructXSourceReference.execute(model=model, positive=cond, vae=vae, source=source, **arguments)


def test_schema(node: ModuleType) -> None:
    """Every input and output explains itself; the negative and the references are optional."""
    schema = node.InstructXSourceReference.define_schema()
    assert schema.node_id == "InstructXSourceReference" and schema.category == "InstructX"
    names = [entry.id for entry in schema.inputs]
    assert names[:7] == ["model", "positive", "vae", "source", "resize", "length", "negative"]
    assert names[7:] == [f"reference_{i}" for i in range(1, 5)]
    assert all(entry.tooltip for entry in (*schema.inputs, *schema.outputs))


def test_latents_are_the_librarys(node: ModuleType, model: Any, case: Any, vae: Any, shipped: Any) -> None:
    """Source, normalised for the DiT, and the references as the host will normalise them."""
    from instructx_core.config import InstructXConfig
    from instructx_core.formats.layouts.weight_file import open_weights
    from instructx_core.formats.loading import load_vae
    from instructx_core.media.pixels import pad_reference, to_signed
    from instructx_core.vae import encode_latents

    (file,) = (shipped / "vae").glob("*.safetensors")
    with open_weights(file) as opened:
        config = opened.config
    assert isinstance(config, InstructXConfig)
    library = load_vae(file, config, torch.float32)
    source, first, second = picture(5), picture(1, 30, 50), picture(2, 64, 64)
    result = run(node, model, case, vae, source, reference_1=first, reference_2=second)
    _, cond, negative, latent = result.args
    options = cond[0][1]
    with torch.no_grad():
        want = encode_latents(library, to_signed(source))
        pictures = [(p * 255).round().to(torch.uint8) for p in (first[0], second[0], second[1])]
        padded = [encode_latents(library, to_signed(pad_reference(p, 64, 64)[None])) for p in pictures]
    process = model.get_model_object("latent_format").process_in
    assert float((options["model_conds"]["instructx_source"].cond - want).abs().max()) < 1e-4
    assert float((process(options["time_dim_concat"]) - torch.cat(padded, dim=2)).abs().max()) < 1e-4
    assert float((process(latent["samples"]) - want).abs().max()) < 1e-4
    assert latent["instructx"] == (5, 64, 64)
    assert cond[0][1]["instructx"] is case.adapter
    assert set(negative[0][1]["model_conds"]) == {"instructx_source", "instructx_no_negative"}
    assert result.ui == {"text": ["32 tokens (latent 2x8x8) + 48 for 3 reference(s)"]}


def test_inputs_are_left_alone(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    cond = positive(case)
    cond[0][1]["model_conds"] = {"other": 1}
    kept = dict(cond[0][1])
    run(node, model, case, vae, picture(), positive=cond, reference_1=picture())
    assert cond[0][1] == kept and cond[0][1]["model_conds"] == {"other": 1}
    assert not model.wrappers.get("diffusion_model")


def test_a_second_node_replaces_the_first(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    first = run(node, model, case, vae, picture(1), reference_1=picture())
    patched, cond, _, _ = first.args
    second = run(node, patched, case, vae, picture(5), positive=cond, negative=cond)
    options = second.args[1][0][1]
    assert "time_dim_concat" not in options and set(options["model_conds"]) == {"instructx_source"}
    assert options["model_conds"]["instructx_source"].cond.shape[2] == 2
    assert "instructx_no_negative" not in second.args[2][0][1]["model_conds"]
    assert len(second.args[0].get_wrappers("diffusion_model", "instructx")) == 1


def test_video_input(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    clip = SimpleNamespace(get_components=lambda: SimpleNamespace(images=picture(5)))
    assert run(node, model, case, vae, clip).args[3]["samples"].shape == (1, 16, 2, 8, 8)


@pytest.mark.parametrize(
    ("size_rule", "length_rule", "shape", "keep", "notes"),
    [
        ("crop", "pad", (9, 48, 64), (6, 48, 64), ["cropped to 64x48, centred", "from 6 to 9 frames"]),
        ("pad", "trim", (5, 64, 80), (5, 50, 70), ["padded to 80x64", "from 6 to 5 frames"]),
    ],
)
def test_rules(fitting: ModuleType, size_rule: str, length_rule: str, shape: Any, keep: Any, notes: list[str]) -> None:
    """Pixels stay where they were, whatever is cut or added; cut_back gives the source's grid again."""
    source = picture(6, 50, 70)
    fitted = fitting.fit_source(source, 16, 4, size_rule, length_rule)
    assert tuple(fitted.frames_FHWC.shape[:3]) == shape and fitted.keep == keep
    assert all(part in note for part, note in zip(notes, fitted.notes, strict=True))
    frames = min(keep[0], shape[0])
    back = fitting.cut_back(fitted.frames_FHWC[None], fitted.keep)
    want = source[:frames, 1:49, 3:67] if size_rule == "crop" else source[:frames]
    assert torch.equal(back, want)
    assert torch.equal(fitted.frames_FHWC[-1], fitted.frames_FHWC[frames - 1])


def test_fitting_source_is_untouched(fitting: ModuleType) -> None:
    source = picture(5, 32, 48)
    for size_rule in fitting.SIZE_RULES:
        for length_rule in fitting.LENGTH_RULES:
            fitted = fitting.fit_source(source, 16, 4, size_rule, length_rule)
            assert torch.equal(fitted.frames_FHWC, source) and not fitted.notes and fitted.keep == (5, 32, 48)


def test_rule_error_names_the_ways_out(fitting: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"70x50.*multiples of 16.*crop \(64x48\) or pad \(80x64\)"):
        fitting.fit_source(picture(1, 50, 70), 16, 4, "error", "error")
    with pytest.raises(ValueError, match=r"6 frames.*4n\+1.*pad \(9 frames\) or trim \(5 frames\)"):
        fitting.fit_source(picture(6, 48, 64), 16, 4, "error", "error")
    with pytest.raises(ValueError, match="nothing is left to crop"):
        fitting.fit_source(picture(1, 10, 64), 16, 4, "crop", "pad")


def test_wrong_graphs(node: ModuleType, model: Any, case: Any, vae: Any, dit: ModuleType) -> None:
    def error(**changed: Any) -> str:
        options = {"vae": vae, "model": model, **changed}
        with pytest.raises(ValueError) as caught:
            run(node, options.pop("model"), case, options.pop("vae"), options.pop("source", picture()), **options)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 250
        return message

    prompt = [[torch.zeros(1, 77, 4096), {}]]
    assert "positive does not come from Connector (InstructX)" in error(positive=prompt)
    assert "negative does not come from Connector (InstructX)" in error(negative=prompt)
    assert "VAE has 4 channels for single images" in error(vae=SimpleNamespace(latent_channels=4, latent_dim=2))
    assert "needs 16 for clips; load the Wan2.1 VAE" in error(vae=SimpleNamespace(latent_channels=48, latent_dim=3))
    assert "connect the same ones to both" in error(positive=positive(case, 1))
    assert "had 0 reference(s), this node has 1" in error(positive=positive(case, 0), reference_1=picture())
    assert "source is a str" in error(source="x")
    assert "connect an IMAGE with at least one picture" in error(source=torch.zeros(0, 64, 64, 3))
    wide = SimpleNamespace(**vars(case.adapter))
    wide.denoiser = dataclasses.replace(case.config.denoiser, dim=384, num_heads=3)
    assert "adapter test was made for 384" in error(positive=[[torch.zeros(1, 5, 384), {"instructx": wide}]])
    mixed = [*positive(case), [torch.zeros(1, 5, 384), {"instructx": wide}]]
    assert "different adapters" in error(positive=mixed)
    assert "different adapters" in error(negative=mixed[1:])


def test_reference_is_not_stretched(fitting: ModuleType) -> None:
    """A tall black reference in a wide canvas keeps its shape, on white."""
    black = torch.zeros(40, 10, 3, dtype=torch.uint8)
    fitted = np.asarray(fitting.fit_reference(black, 64, 128)[0])
    columns = np.flatnonzero(fitted[32, :, 0] < 0.5)
    assert len(columns) == 16 and columns.mean() == pytest.approx(63.5)
    assert fitted[:, 0].min() == 1.0
