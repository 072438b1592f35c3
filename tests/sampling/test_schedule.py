"""Noise levels and schedulers: the list that each starts from, what the DiT is told of it, and what is refused."""

from __future__ import annotations

import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from tiny import clip, pipeline, small_config
from torch import Tensor

from instructx_core.errors import InputError
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.schedule import SCHEDULERS, build_scheduler, flow_sigmas, shift_sigmas, start


@pytest.fixture(scope="module")
def pipe() -> InstructXPipeline:
    return pipeline()


def edit(pipe: InstructXPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return pipe(clip(), "make it blue", generator=generator, output_type="latent").frames


def test_schedulers_can_be_swapped(pipe):
    original = pipe.scheduler
    results = {"euler": edit(pipe)}
    try:
        for name, scheduler in {
            "shift": FlowMatchEulerDiscreteScheduler(shift=1.0),
            "unipc": build_scheduler(pipe.instructx_config, "unipc"),
            "heun": FlowMatchHeunDiscreteScheduler(shift=3.0),
        }.items():
            pipe.scheduler = scheduler
            results[name] = edit(pipe)
            assert torch.isfinite(results[name]).all()
            assert torch.equal(edit(pipe), results[name]), f"{name} keeps state between edits"
        values = list(results.values())
        assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[i + 1 :])
        pipe.scheduler = DDIMScheduler()
        with pytest.raises(InputError, match="flow"):
            edit(pipe)
    finally:
        pipe.scheduler = original


def takes(scheduler) -> bool:
    """Older UniPC keeps its own list, which ends at 0.001 instead of 0 before the shift."""
    return "sigmas" in inspect.signature(scheduler.set_timesteps).parameters


def test_schedule_lists():
    config = small_config()
    for kind in SCHEDULERS:
        scheduler = build_scheduler(config, kind)
        levels = start(scheduler, 5, "cpu")
        sigmas = torch.stack([level.sigma for level in levels])
        want = shift_sigmas(flow_sigmas(5), config.sampling.shift)
        torch.testing.assert_close(sigmas, torch.from_numpy(want), rtol=0, atol=2e-6 if takes(scheduler) else 3e-3)
        assert len(levels) == 5 and sigmas.dtype == torch.float32
        assert all(level.following is after.sigma for level, after in pairwise(levels)) and levels[-1].following == 0
    assert flow_sigmas(4, 0.2).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4])
    with pytest.raises(InputError, match="num_inference_steps"):
        flow_sigmas(0)
    with pytest.raises(InputError, match="sigma_min"):
        flow_sigmas(4, 1.0)
    with pytest.raises(InputError, match="unknown scheduler"):
        build_scheduler(config, "ddim")


@pytest.mark.parametrize("sigma_min", [0.0, 0.2, 0.9])
def test_sigma_min_is_the_level_before_the_shift_that_comes_next(sigma_min: float) -> None:
    sigmas_N = flow_sigmas(4, sigma_min)
    assert sigmas_N.dtype == np.float32 and sigmas_N[0] == 1.0
    assert sigmas_N[-1] - sigma_min == pytest.approx((1 - sigma_min) / 4, abs=1e-6)
    for kind in SCHEDULERS:
        scheduler = build_scheduler(small_config(), kind)
        if takes(scheduler):
            levels = start(scheduler, 4, "cpu", sigma_min)
            want = shift_sigmas(sigmas_N, small_config().sampling.shift)
            assert [float(level.sigma) for level in levels] == pytest.approx(list(want), abs=2e-6)


def test_shift_moves_levels_up_and_keeps_the_ends() -> None:
    sigmas_N = np.linspace(0.0, 1.0, 5)
    shifted_N = shift_sigmas(sigmas_N, 5.0)
    assert shifted_N[0] == 0 and shifted_N[-1] == 1 and (shifted_N[1:-1] > sigmas_N[1:-1]).all()
    assert shifted_N[2] == pytest.approx(5 * 0.5 / 3) and np.array_equal(shift_sigmas(sigmas_N, 1.0), sigmas_N)


@pytest.mark.parametrize(
    ("steps", "sigma_min", "message"),
    [
        (0, 0.0, "num_inference_steps is 0; use at least 1"),
        (-3, 0.0, "num_inference_steps is -3"),
        (4, 1.0, r"sigma_min is 1.0; it must lie in \[0, 1\)"),
        (4, -0.1, "sigma_min is -0.1"),
        (4, float("nan"), "sigma_min is nan"),
    ],
)
def test_levels_out_of_range_are_refused(steps: int, sigma_min: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flow_sigmas(steps, sigma_min)
    with pytest.raises(InputError, match=message):
        start(build_scheduler(small_config()), steps, "cpu", sigma_min)


def test_timestep_given_to_the_model_is_1000_sigma(pipe):
    seen = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    original, pipe.scheduler = pipe.scheduler, build_scheduler(pipe.instructx_config, "unipc")
    edit(pipe)  # UniPC rounds its own timesteps to integers
    hook.remove()
    want = 1000 * pipe.scheduler.sigmas[:3]
    assert not torch.equal(want, want.round()) and all(t.dtype == torch.float32 for t in seen)
    assert torch.equal(torch.cat(seen), want)
    pipe.scheduler = original
