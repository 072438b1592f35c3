"""The node chain on the shipped tiny model against instructx_core's pipeline: same seed, same picture.

Both run in fp32 on the CPU from the same CPU noise and noise levels; the paths share no code below the encoder's
transformers modules (native Wan and VAE of the host against diffusers'), so only rounding differs. Pixels in [0, 1];
tolerance 1e-4, a fortieth of one 8-bit level. Measured: at most 2.1e-6 on ComfyUI 0.3.75, 2.9e-6 on 0.33.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.comfyui

TOLERANCE = 1e-4
STEPS, SEED = 4, 5


@pytest.fixture(scope="module")
def pipe(shipped: Any) -> Any:
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(shipped, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def loaded(comfy: Any, pack: Callable[[str], ModuleType], shipped: Any) -> Any:
    """(encoder, MODEL, VAE) by the pack's and the host's loaders."""
    from comfy import sd, utils

    files = {folder: next((shipped / folder).glob("*.safetensors")) for folder in ("vae", "diffusion_models")}
    name = files["vae"].name
    pack("nodes.host").register_shipped_models()
    loader = pack("nodes.load_encoder").InstructXLoadEncoder
    (encoder,) = loader.execute(encoder=name, adapter=name, dtype="fp32", device="cpu").args
    model = sd.load_diffusion_model(str(files["diffusion_models"]), model_options={"dtype": torch.float32})
    return encoder, model, sd.VAE(sd=utils.load_torch_file(str(files["vae"])), dtype=torch.float32)


def by_nodes(pack: Callable[[str], ModuleType], loaded: Any, drawn: Any, cfg: float, shift: float) -> torch.Tensor:
    encoder, model, vae = loaded
    source = torch.from_numpy(drawn.source_FHWC.copy()).float() / 255.0
    picture = drawn.reference_HWC
    references = {} if picture is None else {"reference_1": torch.from_numpy(picture[None].copy()).float() / 255.0}
    query, connector = pack("nodes.query_embeddings").InstructXQueryEmbeddings, pack("nodes.connector")

    def conditioning(drop: bool) -> Any:
        (queries,) = query.execute(encoder, drawn.instruction, source, "auto", drop, **references).args
        return connector.InstructXConnector.execute(queries).args[0]

    with torch.inference_mode():
        positive, negative = conditioning(False), conditioning(True) if cfg != 1.0 else None
        parts = (
            pack("nodes.source_reference")
            .InstructXSourceReference.execute(
                model=model, positive=positive, negative=negative, vae=vae, source=source, resize="error",
                length="error", **references,
            )
            .args
        )  # fmt: skip
        sampler = pack("nodes.sampler").InstructXSampler
        return sampler.execute(*parts, vae, SEED, STEPS, cfg, shift, "euler", "instructx", 1.0).args[0]


@pytest.mark.parametrize(
    ("kind", "edit", "cfg"),
    [("image", "color", 1.0), ("image", "reference_add", 2.0), ("video", "color", 1.0)],
)
def test_same_seed_same_picture(
    pack: Callable[[str], ModuleType], loaded: Any, pipe: Any, kind: str, edit: str, cfg: float
) -> None:
    from instructx_core.shapes import sample

    drawn = sample("test", 3, kind, edit)
    picture = drawn.reference_HWC
    (want,) = pipe(
        torch.from_numpy(drawn.source_FHWC.copy()), drawn.instruction,
        reference=None if picture is None else torch.from_numpy(picture.copy()), num_inference_steps=STEPS,
        guidance_scale=cfg, generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt", return_dict=False,
    )  # fmt: skip
    got = by_nodes(pack, loaded, drawn, cfg, pipe.instructx_config.sampling.shift)
    difference = float((got - want[0].permute(0, 2, 3, 1)).abs().max())
    print(f"{kind} {edit} cfg {cfg}: largest pixel difference {difference:.1e}")
    assert got.shape == drawn.source_FHWC.shape and difference < TOLERANCE
