"""The Sampler node on the host's real sampling loop: schedules, progress and preview, padding cut off, wrong graphs.

The shipped tiny VAE with a random Wan: what the picture shows does not matter here (test_parity.py has that).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def node(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.sampler")


@pytest.fixture(scope="module")
def prepared(dit: ModuleType, pack: Callable[[str], ModuleType], vae: Any) -> Callable[..., Any]:
    """prepared(frames, height, width, negative) -> (model, positive, negative, latent) of Source and Reference."""
    case = dit.Case(dit.config_of(source_embedder="own", reference_embedder="own"))
    model, source = case.load(), pack("nodes.source_reference").InstructXSourceReference

    def make(frames: int = 1, height: int = 32, width: int = 32, negative: bool = False) -> Any:
        cond = [[torch.randn(1, 5, 256, generator=torch.manual_seed(2)), {"instructx": case.adapter}]]
        zero = [[torch.zeros(1, 5, 256), {"instructx": case.adapter}]] if negative else None
        picture = torch.rand(frames, height, width, 3, generator=torch.manual_seed(1))
        with torch.inference_mode():
            result = source.execute(
                model=model, positive=cond, negative=zero, vae=vae, source=picture, resize="pad", length="pad"
            )
        return result.args[:4]

    return make


def run(node: ModuleType, vae: Any, parts: Any, **options: Any) -> Any:
    settings = {
        "seed": 1, "steps": 2, "cfg": 1.0, "shift": 3.0, "sampler_name": "euler", "scheduler": "instructx",
        "denoise": 1.0, **options,
    }  # fmt: skip
    with torch.inference_mode():
        return node.InstructXSampler.execute(*parts, vae, **settings).args


def test_schema(node: ModuleType) -> None:
    schema = node.InstructXSampler.define_schema()
    assert schema.node_id == "InstructXSampler" and schema.category == "InstructX"
    assert all(entry.tooltip for entry in (*schema.inputs, *schema.outputs))
    scheduler = next(entry for entry in schema.inputs if entry.id == "scheduler")
    assert scheduler.options[0] == "instructx" and {"simple", "normal", "beta"} <= set(scheduler.options)


def test_own_schedule_is_the_pipelines(pack: Callable[[str], ModuleType]) -> None:
    from instructx_core.config import tiny
    from instructx_core.sampling.schedule import build_scheduler, start

    pipeline_sigmas = pack("nodes.parts.sampling").pipeline_sigmas
    config = tiny()
    scheduler = build_scheduler(config)
    start(scheduler, 7, "cpu")
    got = pipeline_sigmas(7, config.sampling.shift, 1.0)
    assert torch.allclose(got, scheduler.sigmas, atol=1e-7)
    assert torch.allclose(pipeline_sigmas(3, 3.0, 0.5), pipeline_sigmas(6, 3.0, 1.0)[-4:])


def test_padding_is_cut_off(node: ModuleType, vae: Any, prepared: Any) -> None:
    """Six frames of 30x40 come back as six frames of 30x40; the latent keeps the model's grid."""
    parts = prepared(6, 30, 40)
    image, latent = run(node, vae, parts)
    assert image.shape == (6, 30, 40, 3) and latent["samples"].shape == (1, 16, 3, 4, 6)
    assert 0.0 <= float(image.min()) and float(image.max()) <= 1.0
    with torch.inference_mode():
        whole = vae.decode(latent["samples"])
    assert torch.equal(image, whole[0, :6, :30, :40])


def test_a_second_pass_at_twice_the_size_is_whole(node: ModuleType, vae: Any, prepared: Any) -> None:
    """What is cut off belongs to the source of this pass: not to the one whose LATENT was scaled up."""
    from nodes import LatentUpscaleBy

    _, latent = run(node, vae, prepared(1, 30, 40))
    (larger,) = LatentUpscaleBy().upscale(latent, "nearest-exact", 2.0)
    model, positive, negative, own = prepared(1, 60, 80)
    assert own["samples"].shape[-1] == 10 and larger["samples"].shape[-1] == 12
    model, positive, negative, own = prepared(1, 64, 96)
    image, _ = run(node, vae, (model, positive, negative, larger), denoise=0.5)
    assert image.shape == (1, 64, 96, 3)


def test_a_noise_mask_lies_on_what_it_lay_on(node: ModuleType, vae: Any, prepared: Any) -> None:
    """SetLatentNoiseMask with a mask of the source's size, whose width is padded: the sampler keeps the same pixels."""
    from nodes import SetLatentNoiseMask

    model, positive, negative, latent = prepared(1, 32, 40)
    mask = torch.zeros(1, 32, 40)
    mask[:, :, 32:] = 1.0
    (masked,) = SetLatentNoiseMask().set_mask(latent, mask)
    _, out = run(node, vae, (model, positive, negative, masked))
    moved = (out["samples"] - latent["samples"]).abs().amax(dim=(0, 1, 2, 3))
    # Cells of 8 pixels: the edge is at 32, and would be at 38 if the mask were stretched over the padding.
    assert (moved[:4] < 1e-4).all() and (moved[4:] > 1e-2).all()


def test_batch_of_two(node: ModuleType, vae: Any, prepared: Any) -> None:
    """RepeatLatentBatch: two edits of one clip, each cut back."""
    from nodes import RepeatLatentBatch

    model, positive, negative, latent = prepared(6, 30, 40)
    (twice,) = RepeatLatentBatch().repeat(latent, 2)
    image, _ = run(node, vae, (model, positive, negative, twice))
    assert image.shape == (12, 30, 40, 3)
    single, _ = run(node, vae, (model, positive, negative, latent))
    assert image[:6].shape == single.shape and not torch.equal(image[:6], image[6:])


def test_same_as_ksampler(node: ModuleType, vae: Any, prepared: Any) -> None:
    """With one of the host's schedules the node is ModelSamplingSD3 + KSampler + VAEDecode, to the bit."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    from nodes import KSampler, VAEDecode

    model, positive, negative, latent = parts = prepared(5, 32, 32, negative=True)
    for sampler, scheduler, denoise in (("euler", "simple", 1.0), ("uni_pc", "beta", 0.5)):
        with torch.inference_mode():
            (shifted,) = ModelSamplingSD3().patch(model, 4.0)
            (out,) = KSampler().sample(
                shifted, 9, 3, 2.5, sampler, scheduler, positive, negative, latent, denoise=denoise
            )
            (want,) = VAEDecode().decode(vae, out)
        got, _ = run(
            node,
            vae,
            parts,
            seed=9,
            steps=3,
            cfg=2.5,
            shift=4.0,
            sampler_name=sampler,
            scheduler=scheduler,
            denoise=denoise,
        )
        assert torch.equal(got, want)


def test_progress_and_preview(node: ModuleType, vae: Any, prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of the bar and one latent2rgb preview a step, by the host's own callback."""
    from comfy import utils
    from comfy.cli_args import LatentPreviewMethod, args

    calls = []
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(
        utils, "PROGRESS_BAR_HOOK", lambda done, total, preview, **_: calls.append((done, total, preview))
    )
    run(node, vae, prepared(5), steps=3)
    assert [(done, total) for done, total, _ in calls] == [(1, 3), (2, 3), (3, 3)]
    assert all(preview[1].size == (4, 4) for *_, preview in calls)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_cancel_within_the_vae(node: ModuleType, vae: Any, prepared: Any, part: str) -> None:
    """Cancel stops a clip of three latent frames at the next one, and the next run is clean."""
    from comfy import model_management

    def edit() -> torch.Tensor:
        return run(node, vae, prepared(9))[0]

    want, seen = edit(), []
    layer = getattr(vae.first_stage_model, part)
    press = layer.register_forward_hook(lambda *_: seen.append(1) or model_management.interrupt_current_processing())
    with pytest.raises(model_management.InterruptProcessingException):
        edit()
    press.remove()
    assert len(seen) == 1 and not layer._forward_pre_hooks
    assert torch.equal(edit(), want)


def test_noise_mask(node: ModuleType, vae: Any, prepared: Any) -> None:
    model, positive, negative, latent = prepared(1, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1.0
    masked = {**latent, "noise_mask": mask}
    _, out = run(node, vae, (model, positive, negative, masked))
    difference = (out["samples"] - latent["samples"]).abs()
    assert float(difference[..., 4:].max()) < 1e-5 and float(difference[..., :4].mean()) > 0.1


def test_wrong_graphs(node: ModuleType, vae: Any, prepared: Any, dit: ModuleType) -> None:
    model, positive, negative, latent = parts = prepared()

    def error(graph: Any = parts, decoder: Any = vae, **options: Any) -> str:
        with pytest.raises(ValueError) as caught:
            run(node, decoder, graph, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    plain = dit.Case(dit.config_of()).load()
    assert "MODEL is not patched; take" in error((plain, positive, negative, latent))
    assert "VAE has 48 channels, the latent 16" in error(decoder=SimpleNamespace(latent_channels=48))
    assert "set cfg to 1" in error(cfg=2.0)
    bare = [[positive[0][0], {}]]
    assert "without a source" in error((model, bare, negative, latent))
    prompt = [[torch.zeros(1, 7, 4096), {}]]
    assert "T5, CLIP" in error((model, prompt, negative, latent))
    other = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    assert "sample the LATENT of Source and Reference" in error((model, positive, negative, other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000: look at what is wired to it"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": None}, "steps is None; it must be a whole number"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"cfg": float("nan")}, "cfg is nan; it must be a number from 0.0 to 30.0"),
        ({"shift": 0.0}, "shift is 0.0; it must be a number from 0.01"),
        ({"denoise": 0}, "denoise is 0; it must be a number from 0.01 to 1.0"),
        ({"sampler_name": "eular"}, "sampler_name is 'eular'; use one of euler, "),
        ({"scheduler": "instruct"}, "scheduler is 'instruct'; use one of instructx, "),
    ],
)
def test_what_a_wire_brings_in_place_of_a_widget(
    node: ModuleType, vae: Any, prepared: Any, options: dict[str, Any], message: str
) -> None:
    """The host checks widgets only; maths nodes and prompts by HTTP wire what they like."""
    with pytest.raises(ValueError) as caught:
        run(node, vae, prepared(), **options)
    assert str(caught.value).startswith(message)


def test_numbers_of_other_types_are_taken_as_they_are(node: ModuleType, vae: Any, prepared: Any) -> None:
    """Whole floats and numpy's numbers, which maths nodes give."""
    parts = prepared()
    want, _ = run(node, vae, parts)
    got, _ = run(node, vae, parts, steps=2.0, seed=np.int64(1), cfg=1, shift=np.float32(3.0))
    assert torch.equal(got, want)
