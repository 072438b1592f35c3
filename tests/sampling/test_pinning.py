"""Latent frames that stay the source's own while the others are sampled: what the DiT sees, what comes out."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from tiny import clip, pipeline

from instructx_core.errors import InputError
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.pinning import PinnedFrames, pin, pin_source
from instructx_core.sampling.schedule import build_scheduler

STEPS = 4


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def edit(pipe, pinned, **options):
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": STEPS, "generator": generator, "output_type": "latent", **options}
    return pipe(clip(9), "make it blue", pinned=pinned, **options).frames


def test_the_path_of_a_pinned_frame():
    generator = torch.Generator().manual_seed(0)
    latents, clean, noise = (torch.randn(1, 2, t, 3, 3, generator=generator) for t in (4, 2, 4))
    for sigma in (0.0, 0.3, 1.0):
        out = pin(latents, PinnedFrames(clean, noise[:, :, :2]), torch.tensor(sigma))
        torch.testing.assert_close(out[:, :, :2], clean + sigma * (noise[:, :, :2] - clean))
        assert torch.equal(out[:, :, 2:], latents[:, :, 2:])
    assert torch.equal(pin(latents, PinnedFrames(clean, noise[:, :, :2]), 0.0)[:, :, :2], clean), (
        "no rounding at the end"
    )
    assert pin(latents, None, 0.5) is latents


@pytest.mark.parametrize("pinned", [1, 2])
@pytest.mark.parametrize("options", [{}, {"guidance_scale": 3.0}, {"reference": clip(1, 40, 20)[0]}])
@pytest.mark.parametrize("scheduler", ["euler", "unipc", "heun"])
def test_in_every_step_of_every_scheduler(pipe, scheduler, options, pinned):
    """The DiT sees the clean latent at the noise level of the step, on one path; what comes out is the clean latent."""
    seen: list[tuple[torch.Tensor, float]] = []
    config, before = pipe.instructx_config, pipe.scheduler
    pipe.scheduler = (
        FlowMatchHeunDiscreteScheduler(shift=3.0) if scheduler == "heun" else build_scheduler(config, scheduler)
    )
    hook = pipe.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append((kwargs["hidden_states"].clone(), float(kwargs["timestep"]) / 1000)),
        with_kwargs=True,
    )
    try:
        held, free = edit(pipe, pinned, **options), edit(pipe, 0, **options)
    finally:
        hook.remove()
        pipe.scheduler = before
    source = pipe.encode_pictures(edit_batch(clip(9))).source
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(3))
    branches = 2 if "guidance_scale" in options else 1
    assert len(seen) == 2 * branches * (2 * STEPS - 1 if scheduler == "heun" else STEPS)
    for latents, sigma in seen[: len(seen) // 2]:
        want = (1 - sigma) * source[:, :, :pinned] + sigma * noise[:, :, :pinned]
        torch.testing.assert_close(latents[:, :, :pinned], want, rtol=1e-5, atol=1e-5)
    assert len({sigma for _, sigma in seen}) >= STEPS
    assert torch.equal(held[:, :, :pinned], source[:, :, :pinned])
    assert not torch.equal(free[:, :, :pinned], source[:, :, :pinned])
    assert not torch.equal(held[:, :, pinned:], free[:, :, pinned:]), "the others see what is pinned"


def test_at_least_one_frame_is_sampled(pipe):
    for pinned, message in ((-1, "pinned is -1, of type int"), (3, "pinned is 3; of 3 latent frames 0 to 2")):
        with pytest.raises(InputError, match=message):
            edit(pipe, pinned)
    with pytest.raises(InputError, match="pinned is -1; of 3"):
        pin_source(torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 1, 3, 2, 2), -1)
