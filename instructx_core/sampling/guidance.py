"""One velocity of a whole batch: what the DiT says under its conditions, strengthened against saying it without them.

Called by denoise.py in every step. Guidance is not in the paper: v = v_free + scale (v - v_free), where v_free sees the
same pictures and no instruction; scale 1 is off and costs one forward, any other two.
Legend: B batch, C channels, T latent frames, R references, H W cells, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoiser import InstructXTransformer3DModel
from ..errors import InputError
from ..speed.attention import session_of
from ..speed.step_cache import branch_context
from .schedule import Level

logger = logging.getLogger("instructx")

_TENSORS = ("context", "negative_context", "source", "references")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the DiT is given beside the noisy latent, all on its device and in its number format.

    context (B, L, D) and, for guidance, negative_context; source (B, C, T, H, W); references (B, C, R, H, W).
    text: the context is text features, for the DiT's own text embedding; None follows its config.
    """

    context: Tensor
    negative_context: Tensor | None = None
    source: Tensor | None = None
    references: Tensor | None = None
    text: bool | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those there are, by name."""
        named = {name: getattr(self, name) for name in _TENSORS}
        return {name: part for name, part in named.items() if part is not None}

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditions:
        return self.changed({name: part.to(device, dtype) for name, part in self.tensors().items()})

    def free(self) -> Conditions:
        """The same pictures without the instruction: what guidance leads away from."""
        assert self.negative_context is not None, "Guidance.check"
        return dataclasses.replace(self, context=self.negative_context)

    def changed(self, tensors: Mapping[str, Tensor]) -> Conditions:
        """With these in place of those of the same name; other names are left out."""
        return dataclasses.replace(self, **{name: part for name, part in tensors.items() if name in _TENSORS})


@dataclass(frozen=True, slots=True)
class Guidance:
    """How the DiT is asked. attention_kwargs: as in every transformer of diffusers; {"scale": s} scales LoRA layers."""

    scale: float = 1.0
    attention_kwargs: Mapping[str, Any] | None = None

    @property
    def branches(self) -> int:
        """Forwards a step."""
        return 1 if self.scale == 1.0 else 2

    def check(self, conditions: Conditions) -> None:
        """Raises InputError where there is nothing to guide away from."""
        if self.branches == 2 and conditions.negative_context is None:
            raise InputError("guidance with a given context needs negative_context too; or set guidance_scale=1")


def predict(
    model: InstructXTransformer3DModel, latents_BCTHW: Tensor, level: Level, conditions: Conditions, guidance: Guidance
) -> Tensor:
    """Velocity of the latents at one level, guidance included, fp32.

    Where int8 attention made it non-finite it is computed once more with exact attention, which then stays.
    Raises FloatingPointError when it is not finite all the same.
    """
    velocity_BCTHW = guided_velocity(model, latents_BCTHW, level, conditions, guidance)
    if torch.isfinite(velocity_BCTHW).all():
        return velocity_BCTHW
    session = session_of(model)
    if session is not None and session.demote(f"output not finite with int8 attention at step {level.step}"):
        logger.warning("attention of %s: %s; the step is repeated exactly", session.name, session.demoted)
        velocity_BCTHW = guided_velocity(model, latents_BCTHW, level, conditions, guidance)
    if not torch.isfinite(velocity_BCTHW).all():
        raise FloatingPointError(
            f"the denoiser's output is not finite at step {level.step} (sigma {float(level.sigma):.3f}, "
            f"{model.dtype}); run in bfloat16 or float32, or check the weights"
        )
    return velocity_BCTHW


def velocity(
    model: InstructXTransformer3DModel,
    conditions: Conditions,
    noisy_BCTHW: Tensor,
    timestep_B: Tensor,
    attention_kwargs: Mapping[str, Any] | None = None,
) -> Tensor:
    """The model called once under these conditions, by a step of sampling as by one of training (its gradient too)."""
    return model(
        hidden_states=noisy_BCTHW,
        timestep=timestep_B,
        encoder_hidden_states=conditions.context,
        source=conditions.source,
        references=conditions.references,
        text=conditions.text,
        attention_kwargs=attention_kwargs,
        return_dict=False,
    )[0]


def guided_velocity(
    model: InstructXTransformer3DModel, latents_BCTHW: Tensor, level: Level, conditions: Conditions, guidance: Guidance
) -> Tensor:
    """v_free + scale (v - v_free), fp32; only v at scale 1."""
    noisy_BCTHW = latents_BCTHW.to(conditions.context.dtype)  # model.dtype looks at every weight
    timestep_B = (level.sigma.float() * 1000.0).expand(noisy_BCTHW.shape[0])

    def branch(name: str, conditions: Conditions) -> Tensor:
        where = {"step_index": level.step, "sigma": level.sigma, "num_inference_steps": level.count}
        with branch_context(model, name, **where):
            return velocity(model, conditions, noisy_BCTHW, timestep_B, guidance.attention_kwargs).float()

    velocity_BCTHW = branch("cond", conditions)
    if guidance.scale == 1.0:
        return velocity_BCTHW
    free_BCTHW = branch("uncond", conditions.free())
    return free_BCTHW + guidance.scale * (velocity_BCTHW - free_BCTHW)
