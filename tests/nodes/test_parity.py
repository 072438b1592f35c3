"""The node chain against instructx_core's pipeline: same seed, same picture, and the same latents after each step.

Pictures on the shipped tiny model; latents on random models of both profiles too: the paper's, whose source and
reference go through the DiT's own embedder, and Kiwi-Edit's.

Both run in fp32 on the CPU from the same CPU noise and noise levels; the paths share no code below the encoder's
transformers modules (native Wan and VAE of the host against diffusers'), so only rounding differs. Pixels in [0, 1];
tolerance 1e-4, a fortieth of one 8-bit level. Measured: at most 2.1e-6 on ComfyUI 0.3.75, 2.9e-6 on 0.33.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.comfyui

TOLERANCE = 1e-4
STEPS, SEED = 4, 5


def files_of(folder: Path) -> dict[str, Path]:
    return {sub.name: next(sub.glob("*.safetensors")) for sub in folder.iterdir() if sub.is_dir()}


class Both:
    """One checkpoint folder, loaded by the library and by the nodes, fp32."""

    def __init__(self, pack: Callable[[str], ModuleType], folder: Path) -> None:
        from comfy import sd, utils

        from instructx_core.weights import load_pipeline

        files = files_of(folder)
        name = files["vae"].name
        self.pack, self.pipe = pack, load_pipeline(folder, dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        loader = pack("nodes.load_encoder").InstructXLoadEncoder
        (self.encoder,) = loader.execute(encoder=name, adapter=name, dtype="fp32", device="cpu").args
        self.model = sd.load_diffusion_model(str(files["diffusion_models"]), model_options={"dtype": torch.float32})
        self.vae = sd.VAE(sd=utils.load_torch_file(str(files["vae"])), dtype=torch.float32)


@pytest.fixture(scope="module")
def shipped_both(comfy: Any, pack: Callable[[str], ModuleType], shipped: Path) -> Both:
    return Both(pack, shipped)


def random_config(profile: str) -> Any:
    """Random weights' config. instructx: the paper's (exact slice, tied embedders, no scale, reference last).

    kiwi: its switches (tail slice, own embedders, sigma, reference first and in context).
    """
    from instructx_core.config import kiwi_5b, tiny

    base = tiny()
    switches = {
        "instructx": {"source_embedder": "tied", "reference_embedder": "tied"},
        "kiwi": {"source_scale": "sigma", "reference_position": "first"},
    }[profile]
    counts = {"num_image_queries": 4, "num_video_queries": 6}
    instruction = dataclasses.replace(base.instruction, **counts)
    if profile == "kiwi":
        pixels = {"min_pixels": 112 * 112, "max_pixels": 112 * 112, "max_reference_pixels": 28 * 28 * 5}
        instruction = dataclasses.replace(kiwi_5b().instruction, **counts, **pixels, num_reference_queries=5)
    return dataclasses.replace(
        base,
        name=f"parity_{profile}",
        profile=profile,
        instruction=instruction,
        denoiser=dataclasses.replace(base.denoiser, num_layers=2, **switches),
        sampling=dataclasses.replace(base.sampling, shift=5.0),
    )


@pytest.fixture(scope="module")
def random_both(
    comfy: Any,
    pack: Callable[[str], ModuleType],
    load_helper: Callable[[str, str], ModuleType],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Both]:
    """random_both(profile): a model of random weights."""
    import folder_paths

    from instructx_core.weights import save_checkpoint

    helper = load_helper("instructx_test_tiny", "support/tiny.py")

    @functools.cache
    def make(profile: str) -> Both:
        config = random_config(profile)
        folder = tmp_path_factory.mktemp("parity") / profile
        save_checkpoint(folder, helper.pipeline(config), dtype=torch.float32)
        for sub in files_of(folder):
            folder_paths.add_model_folder_path(sub, str(folder / sub))
        return Both(pack, folder)

    return make


def by_nodes(both: Both, drawn: Any, cfg: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """IMAGE and LATENT of the node chain."""
    pack, shift = both.pack, both.pipe.instructx_config.sampling.shift
    source = torch.from_numpy(drawn.source_FHWC.copy()).float() / 255.0
    picture = drawn.reference_HWC
    references = {} if picture is None else {"reference_1": torch.from_numpy(picture[None].copy()).float() / 255.0}
    query, connector = pack("nodes.query_embeddings").InstructXQueryEmbeddings, pack("nodes.connector")

    def conditioning(drop: bool) -> Any:
        (queries,) = query.execute(both.encoder, drawn.instruction, source, "auto", drop, **references).args
        return connector.InstructXConnector.execute(queries).args[0]

    with torch.inference_mode():
        positive, negative = conditioning(False), conditioning(True) if cfg != 1.0 else None
        parts = (
            pack("nodes.source_reference")
            .InstructXSourceReference.execute(
                model=both.model,
                positive=positive,
                negative=negative,
                vae=both.vae,
                source=source,
                resize="error",
                length="error",
                **references,
            )
            .args
        )
        sampler = pack("nodes.sampler").InstructXSampler
        return sampler.execute(*parts[:4], both.vae, SEED, STEPS, cfg, shift, "euler", "instructx", 1.0).args


def by_library(both: Both, drawn: Any, cfg: float, output_type: str, **options: Any) -> torch.Tensor:
    picture = drawn.reference_HWC
    (frames,) = both.pipe(
        torch.from_numpy(drawn.source_FHWC.copy()),
        drawn.instruction,
        reference=None if picture is None else torch.from_numpy(picture.copy()),
        num_inference_steps=STEPS,
        guidance_scale=cfg,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type=output_type,
        return_dict=False,
        **options,
    )
    return frames


@pytest.mark.parametrize(
    ("kind", "edit", "cfg"),
    [("image", "color", 1.0), ("image", "reference_add", 2.0), ("video", "color", 1.0)],
)
def test_same_seed_same_picture(shipped_both: Both, kind: str, edit: str, cfg: float) -> None:
    from instructx_core.shapes import sample

    drawn = sample("test", 3, kind, edit)
    want = by_library(shipped_both, drawn, cfg, "pt")
    got, _ = by_nodes(shipped_both, drawn, cfg)
    difference = float((got - want[0].permute(0, 2, 3, 1)).abs().max())
    print(f"{kind} {edit} cfg {cfg}: largest pixel difference {difference:.1e}")
    assert got.shape == drawn.source_FHWC.shape and difference < TOLERANCE


def noise_clip(frames: int, with_reference: bool) -> Any:
    from numpy.random import default_rng

    random = default_rng(frames)
    source = random.integers(0, 256, (frames, 64, 48, 3), dtype="uint8")
    reference = random.integers(0, 256, (40, 56, 3), dtype="uint8") if with_reference else None
    return SimpleNamespace(source_FHWC=source, instruction="Replace the cup.", reference_HWC=reference)


@pytest.mark.parametrize("profile", ["instructx", "kiwi"])
def test_random_weights_see_everything(profile: str, random_both: Callable[[str], Both]) -> None:
    """Source, reference and instruction change the latent by far more than what the next test tolerates."""
    both, drawn = random_both(profile), noise_clip(5, True)
    want = by_library(both, drawn, 1.0, "latent")
    changed = {"source_FHWC": drawn.source_FHWC[::-1], "reference_HWC": drawn.reference_HWC[::-1], "instruction": "No."}
    for name, value in changed.items():
        other = by_library(both, SimpleNamespace(**vars(drawn) | {name: value}), 1.0, "latent")
        effect = float((other - want).abs().max() / want.abs().max())
        print(f"{profile}: another {name} changes the latent by {effect:.1e}")
        assert effect > 1e-3, name


@pytest.mark.parametrize("weights", ["shipped", "instructx", "kiwi"])
@pytest.mark.parametrize(
    ("frames", "with_reference", "cfg"),
    [(1, False, 1.0), (5, False, 1.0), (5, True, 1.0), (1, True, 1.0), (5, True, 3.0)],
    ids=["image", "video", "video and reference", "image and reference", "guided"],
)
def test_same_latents_after_each_step(
    weights: str,
    frames: int,
    with_reference: bool,
    cfg: float,
    shipped_both: Both,
    random_both: Callable[[str], Both],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host shows each step's latent to its preview; there it is in the DiT's space, as in the library."""
    import latent_preview

    both = shipped_both if weights == "shipped" else random_both(weights)
    drawn, want, got = noise_clip(frames, with_reference), [], []

    def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        want.append(tensors["latents"].clone())

    def recorder(*_: Any) -> Callable[..., None]:
        return lambda step, denoised, x, total: got.append(x.clone())

    by_library(both, drawn, cfg, "latent", callback_on_step_end=keep)
    monkeypatch.setattr(latent_preview, "prepare_callback", recorder)
    _, latent = by_nodes(both, drawn, cfg)
    last = both.model.get_model_object("latent_format").process_in(latent["samples"])
    got = [*got[1:], last]  # the preview sees a step's latent before the step
    assert len(got) == len(want) == STEPS
    differences = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True)]
    print(f"{weights}: largest relative difference {max(differences):.1e}")
    assert max(differences) < 1e-5
