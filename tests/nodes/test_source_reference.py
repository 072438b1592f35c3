"""Source and Reference: what it attaches, the rules for size and length, its report, and what wrong graphs say.

Runs on the host's own VAE class with the shipped tiny VAE, and on a random Wan of the shipped width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
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


def test_rate_and_sound_of_the_source_go_on(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    """For Create Video: those of a VIDEO; of an IMAGE batch the rate that the encoder was told, and no sound."""
    from comfy_api.input_impl import VideoFromComponents
    from comfy_api.util import VideoComponents

    sound = {"waveform": torch.zeros(1, 2, 800), "sample_rate": 8000}
    parts = VideoComponents(images=picture(5), audio=sound, frame_rate=Fraction(24000, 1001))
    fps, audio = run(node, model, case, vae, VideoFromComponents(parts)).args[5:]
    assert abs(fps - 23.976) < 1e-3 and audio is sound
    told = positive(case)
    told[0][1]["instructx_fps"] = 12.5
    assert run(node, model, case, vae, picture(5), positive=told).args[5:] == (12.5, None)


def test_schema(node: ModuleType) -> None:
    """Every input and output explains itself; the negative and the references are optional."""
    schema = node.InstructXSourceReference.define_schema()
    assert schema.node_id == "InstructXSourceReference" and schema.category == "InstructX"
    names = [entry.id for entry in schema.inputs]
    assert names[:7] == ["model", "positive", "vae", "source", "resize", "length", "negative"]
    assert names[7:] == [*(f"reference_{i}" for i in range(1, 5)), "mask"]
    assert all(entry.tooltip for entry in (*schema.inputs, *schema.outputs))


def test_latents_are_the_librarys(node: ModuleType, model: Any, case: Any, vae: Any, shipped: Any) -> None:
    """Source, normalised for the DiT, and the references as the host will normalise them."""
    from instructx_core.config import InstructXConfig
    from instructx_core.formats.layouts.weight_file import open_weights
    from instructx_core.formats.loading import load_vae
    from instructx_core.pixels import pad_reference, to_signed
    from instructx_core.vae import encode_latents

    (file,) = (shipped / "vae").glob("*.safetensors")
    with open_weights(file) as opened:
        config = opened.config
    assert isinstance(config, InstructXConfig)
    library = load_vae(file, config, torch.float32)
    source, first, second = picture(5), picture(1, 30, 50), picture(2, 64, 64)
    result = run(node, model, case, vae, source, reference_1=first, reference_2=second)
    _, cond, negative, latent, edited = result.args[:5]
    options = cond[0][1]
    with torch.no_grad():
        want = encode_latents(library, to_signed(source))
        pictures = [(p * 255).round().to(torch.uint8) for p in (first[0], second[0], second[1])]
        padded = [encode_latents(library, to_signed(pad_reference(p, 64, 64)[None])) for p in pictures]
    process = model.get_model_object("latent_format").process_in
    assert float((options["model_conds"]["instructx_source"].cond - want).abs().max()) < 1e-4
    assert float((process(options["time_dim_concat"]) - torch.cat(padded, dim=2)).abs().max()) < 1e-4
    assert float((process(latent["samples"]) - want).abs().max()) < 1e-4
    assert options["instructx_placement"].keep == (5, 64, 64) and set(latent) == {"samples"}
    assert torch.equal(edited, source)
    assert cond[0][1]["instructx"] is case.adapter
    assert set(negative[0][1]["model_conds"]) == {"instructx_source", "instructx_no_negative"}
    assert result.ui["text"] == ["32 tokens (latent 2x8x8) + 48 for 3 reference(s)"]


def test_inputs_are_left_alone(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    cond = positive(case)
    cond[0][1]["model_conds"] = {"other": 1}
    kept = dict(cond[0][1])
    run(node, model, case, vae, picture(), positive=cond, reference_1=picture())
    assert cond[0][1] == kept and cond[0][1]["model_conds"] == {"other": 1}
    assert not model.wrappers.get("diffusion_model")


def test_a_second_node_replaces_the_first(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    first = run(node, model, case, vae, picture(1), reference_1=picture())
    patched, cond, *_ = first.args
    second = run(node, patched, case, vae, picture(5), positive=cond, negative=cond)
    options = second.args[1][0][1]
    assert "time_dim_concat" not in options and set(options["model_conds"]) == {"instructx_source"}
    assert options["model_conds"]["instructx_source"].cond.shape[2] == 2
    assert "instructx_no_negative" not in second.args[2][0][1]["model_conds"]
    assert len(second.args[0].get_wrappers("diffusion_model", "instructx")) == 1


def test_video_input(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    clip = SimpleNamespace(get_components=lambda: SimpleNamespace(images=picture(5), audio=None, frame_rate=24))
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
    assert tuple(fitted.frames_FHWC.shape[:3]) == shape and fitted.placement.keep == keep
    assert all(part in note.text() for part, note in zip(notes, fitted.notes, strict=True))
    frames = min(keep[0], shape[0])
    back = fitting.cut_back(fitted.frames_FHWC[None], fitted.placement)
    want = source[:frames, 1:49, 3:67] if size_rule == "crop" else source[:frames]
    assert torch.equal(back, want)
    assert torch.equal(fitted.frames_FHWC[-1], fitted.frames_FHWC[frames - 1])


def test_rules_that_a_wire_brings(fitting: ModuleType) -> None:
    """The host checks the choice of a widget, not what is wired to it: an unknown one must not pass for another."""
    with pytest.raises(ValueError, match="resize is 'stretch'; use one of crop, pad, error"):
        fitting.fit_source(picture(1, 50, 70), 16, 4, "stretch", "pad")
    with pytest.raises(ValueError, match="length is 'crop'; use one of pad, trim, error"):
        fitting.fit_source(picture(1, 50, 70), 16, 4, "crop", "crop")


def blob(frames: int, height: int, width: int) -> torch.Tensor:
    """A mask of a rectangle that moves a pixel a frame."""
    mask = torch.zeros(frames, height, width)
    for frame in range(frames):
        mask[frame, 20 + frame : 30 + frame, 8:60] = 1.0
    return mask


@pytest.mark.parametrize(
    ("size_rule", "length_rule"), [("crop", "pad"), ("pad", "trim"), ("crop", "trim"), ("pad", "pad")]
)
def test_a_mask_lies_on_what_it_lay_on(fitting: ModuleType, size_rule: str, length_rule: str) -> None:
    """A mask fitted by itself is the mask of the fitted source: both go through the same cut and padding."""
    mask = blob(6, 50, 70)
    fitted = fitting.fit_source(mask[..., None].expand(-1, -1, -1, 3), 16, 4, size_rule, length_rule)
    want = fitted.frames_FHWC[..., 0]
    assert torch.equal(fitting.fit_mask(mask, fitted.placement), want)
    assert torch.equal(fitting.fit_mask(mask[:1], fitted.placement), want[:1])  # one for all frames
    assert torch.equal(fitting.fit_mask(want, fitted.placement), want)  # fitted already
    double = mask.repeat_interleave(2, 1).repeat_interleave(2, 2)  # of another size: meant for the whole source
    assert (fitting.fit_mask(double, fitted.placement) - want).abs().max() < 1e-6


def test_fitting_source_is_untouched(fitting: ModuleType) -> None:
    source = picture(5, 32, 48)
    for size_rule in fitting.SIZE_RULES:
        for length_rule in fitting.LENGTH_RULES:
            fitted = fitting.fit_source(source, 16, 4, size_rule, length_rule)
            assert torch.equal(fitted.frames_FHWC, source) and not fitted.notes and fitted.placement.keep == (5, 32, 48)


def test_rule_error_names_the_ways_out(fitting: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"70x50.*multiples of 16.*crop \(64x48\) or pad \(80x64\)"):
        fitting.fit_source(picture(1, 50, 70), 16, 4, "error", "error")
    with pytest.raises(ValueError, match=r"6 frames.*4n\+1.*pad \(9 frames\) or trim \(5 frames\)"):
        fitting.fit_source(picture(6, 48, 64), 16, 4, "error", "error")
    with pytest.raises(ValueError, match="nothing is left to crop"):
        fitting.fit_source(picture(1, 10, 64), 16, 4, "crop", "pad")


def test_the_mask_input_is_the_latents_noise_mask(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    """The host scales it to the latent, so a cropped or padded source has to have its mask cropped or padded too."""
    from comfy.utils import reshape_mask

    source, mask = picture(1, 64, 72), torch.zeros(1, 64, 72)
    mask[:, :, 40:] = 1.0
    rules = {"resize": "pad", "length": "pad"}
    latent = run(node, model, case, vae, source, mask=mask, **rules).args[3]
    columns = reshape_mask(latent["noise_mask"], latent["samples"].shape)[0, 0, 0, 0]
    assert columns.tolist() == [0.0] * 5 + [1.0] * 5  # 72 -> 80 pixels: ten cells of 8, the edge at 40
    assert run(node, model, case, vae, source, mask=mask[0], **rules).args[3]["noise_mask"].shape == (1, 1, 64, 80)
    with pytest.raises(ValueError, match="mask has shape"):
        run(node, model, case, vae, source, mask=mask[None], **rules)


def test_pictures_are_edited_apart(node: ModuleType, model: Any, case: Any, vae: Any) -> None:
    """A batch whose queries are of single pictures: a latent, a source and a mask each, as if it were alone."""
    source, mask = picture(3, 40, 64), torch.rand(3, 40, 64)
    cond = [[torch.randn(3, 5, 256), {"instructx": case.adapter, "instructx_pictures": 3}]]
    rules = {"resize": "pad", "length": "error"}
    _, positive, _, latent, edited, *_ = run(node, model, case, vae, source, positive=cond, mask=mask, **rules).args
    assert latent["samples"].shape == (3, 16, 1, 6, 8) and latent["noise_mask"].shape == (3, 1, 1, 48, 64)
    assert positive[0][1]["instructx_placement"].keep == (1, 40, 64) and torch.equal(edited, source)
    for number in range(3):
        alone = run(node, model, case, vae, source[number : number + 1], **rules).args
        assert (latent["samples"][number] - alone[3]["samples"][0]).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"saw 3 picture\(s\), this node has 2"):
        run(node, model, case, vae, source[:2], positive=cond, **rules)


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
