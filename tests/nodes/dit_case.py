"""Tiny random Wan models for the tests of the DiT side: the library's denoiser and the host's, with the same weights.

The host's model is loaded by its own loader from original Wan names, as an artist's file is. 16 channels make the
host's WAN21, 48 its WAN22 (the layout of Wan2.2 5B).
Legend: B batch, C channels, T latent frames, R references, H W latent size, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from instructx_core.config import DenoiserConfig, InstructXConfig, tiny
from instructx_core.denoiser import build_denoiser
from instructx_core.formats.layouts.keymaps import dit_to_original

DIM, LENGTH = 256, 5
OWN = {"source_embedder": "own", "source_scale": "sigma", "reference_embedder": "own"}
EMBEDDERS = ("source_embedder", "reference_embedder")


def config_of(channels: int = 16, **switches: Any) -> InstructXConfig:
    """Two layers of width 256; switches are fields of DenoiserConfig."""
    base = tiny()
    sizes = {"dim": DIM, "ffn_dim": 320, "num_layers": 2, "num_heads": 2}
    denoiser = DenoiserConfig(**sizes, in_channels=channels, out_channels=channels, **switches)
    return dataclasses.replace(base, denoiser=denoiser, vae=dataclasses.replace(base.vae, z_dim=channels))


class Case:
    """library: InstructXTransformer3DModel. state: its weights as a Wan file. adapter: what Connector hands over."""

    def __init__(self, config: InstructXConfig, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.config = config
        self.library = build_denoiser(config).eval().requires_grad_(False)
        for name, weight in self.library.named_parameters():
            if any(part in name for part in EMBEDDERS):
                torch.nn.init.normal_(weight, std=0.1)
            elif weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.05)
        state = self.library.state_dict()
        self.state = {dit_to_original(k): v.clone() for k, v in state.items() if not k.startswith(EMBEDDERS)}
        own = {name: getattr(self.library, name) for name in EMBEDDERS}
        self.adapter = SimpleNamespace(
            denoiser=config.denoiser, name="test", **{k: None if m is None else m.state_dict() for k, m in own.items()}
        )

    def load(self, **options: Any) -> Any:
        """A fresh MODEL of the host with these weights."""
        from comfy.sd import load_diffusion_model_state_dict

        return load_diffusion_model_state_dict({k: v.clone() for k, v in self.state.items()}, model_options=options)


def draw(config: InstructXConfig, frames: int = 3, references: int = 0, batch: int = 1, seed: int = 1) -> Any:
    """Random tensors for one forward, model space: noisy, source, references, context."""
    generator = torch.Generator().manual_seed(seed)
    channels = config.denoiser.in_channels

    def latent(count: int) -> Tensor:
        return torch.randn(batch, channels, count, 8, 6, generator=generator)

    return SimpleNamespace(
        noisy=latent(frames),
        source=latent(frames),
        references=latent(references) if references else None,
        context=torch.randn(batch, LENGTH, config.denoiser.context_dim, generator=generator),
    )


def forward(model: Any, given: Any, sigma: float = 0.3, options: dict[str, Any] | None = None, **extra: Any) -> Tensor:
    """One forward of a MODEL's DiT with its wrappers, below the host's sampler."""
    denoiser = model.model.diffusion_model
    timestep = torch.full((len(given.noisy),), 1000.0 * sigma)
    source = {} if given.source is None else {"instructx_source": given.source}
    return denoiser(
        given.noisy,
        timestep,
        context=given.context,
        time_dim_concat=given.references,
        transformer_options={"wrappers": model.wrappers, **(options or {})},
        **source,
        **extra,
    )


def sample(
    model: Any,
    positive: Any,
    negative: Any,
    latent: Tensor,
    cfg: float = 1.0,
    steps: int = 2,
    seed: int = 0,
    noise_mask: Tensor | None = None,
) -> Tensor:
    """What KSampler does: euler, simple."""
    from comfy import sample as host

    noise = host.prepare_noise(latent, seed)
    return host.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        positive,
        negative,
        latent,
        noise_mask=noise_mask,
        seed=seed,
        disable_pbar=True,
    )


def noise_of(shape: tuple[int, ...] = (1, 16, 3, 8, 6), seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.manual_seed(seed))


def one_step(case: Case, given: Any, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """Model-space x0 after one euler step, by the library."""
    count = len(noise)

    def repeat(part: Tensor | None) -> Tensor | None:
        return None if part is None else part[:1].expand(count, *part.shape[1:])

    with torch.no_grad():
        velocity = case.library(
            noise,
            torch.full((count,), 1000.0),
            repeat(given.context if context is None else context),
            source=repeat(given.source),
            references=repeat(given.references),
        ).sample
    return noise - velocity


def sampled(model: Any, positive: Any, negative: Any = None, **options: Any) -> Tensor:
    """Model-space result of the host's sampling from pure noise, one step unless told otherwise."""
    shape = options.pop("shape", (1, 16, 3, 8, 6))
    options = {"steps": 1, **options}
    latent = options.pop("latent", torch.zeros(shape))
    result = sample(model, positive, positive if negative is None else negative, latent, **options)
    return model.get_model_object("latent_format").process_in(result)


def near(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    difference = float((got - want).abs().max())
    assert difference < tolerance, difference
