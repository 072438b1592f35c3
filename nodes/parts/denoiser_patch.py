"""What turns one forward of ComfyUI's own Wan DiT into InstructX's: source latent, references and connector's context.

Around the host's DiT while it samples (model_patch.py puts it there). Nothing of the model is replaced for good: a
DIFFUSION_MODEL wrapper lends three of its submodules another `forward` for one call, so LoRA names, offloading,
quantised weights and clones stay the host's business. The arithmetic is the library's (conditioning.py, paper 3.1).
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent size, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...instructx_core import conditioning as cond
from ...instructx_core.errors import InputError
from .graph_checks import check_conditioning, check_grids
from .keys import NO_NEGATIVE, SOURCE, SOURCE_NODE

if TYPE_CHECKING:
    from .dit_adapter import DitAdapter


@dataclass(frozen=True)
class Call:
    """What one forward of the DiT is given, beside the noisy latent. timestep: (B,), or (B, T) one a frame."""

    source_BCTHW: Tensor
    timestep: Tensor
    frames: int
    references: int


class DenoiserPatch:
    """DIFFUSION_MODEL wrapper. Holds the switches and own embedders of one adapter; no reference to any model."""

    def __init__(self, adapter: DitAdapter) -> None:
        self.config = adapter.denoiser
        self.source_embedder = adapter.source_embedder
        self.reference_embedder = adapter.reference_embedder

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        clip_fea: Tensor | None = None,
        time_dim_concat: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The host's Wan forward with source and references in it. x (B, C, T, H, W) -> velocity of the same shape.

        timestep: (B,) or, from Wan2.2's noise mask, (B, T). context (B, L, D). Raises InputError on a wrong graph.
        """
        model, options = executor.class_obj, transformer_options or {}
        source = kwargs.pop(SOURCE, None)
        check_conditioning(self.config.context_dim, context, source, kwargs.pop(NO_NEGATIVE, False))
        source_BCTHW = window_of(source, x, options)
        check_grids(x, source_BCTHW, time_dim_concat)
        references = 0 if time_dim_concat is None else time_dim_concat.shape[2]
        if references and self.config.reference_embedder == "none":
            raise InputError(f"this checkpoint takes no references; disconnect them from {SOURCE_NODE}")
        call = Call(_pad_to_patch(source_BCTHW, model), timestep, x.shape[2], references)
        with self.patched_forwards(model, call):
            timestep = cond.timestep_with_references(timestep, references, self.config.reference_position)
            timestep = cond.round_timestep(timestep, self.config.timestep_rounding)
            return executor(x, timestep, context, clip_fea, time_dim_concat, transformer_options, **kwargs)

    @contextmanager
    def patched_forwards(self, model: nn.Module, call: Call) -> Iterator[None]:
        """Give patch embedding, text embedding and head our forward; what was there comes back whatever happens."""
        patch_embedding, head = model.patch_embedding.forward, model.head.forward
        forwards: dict[nn.Module, Callable[..., Tensor]] = {
            model.patch_embedding: lambda joined: self.embed(patch_embedding, joined, call),
        }
        if self.config.context == "direct":
            forwards[model.text_embedding] = lambda context: context
        if call.references and self.config.reference_position == "first":
            forwards[model.head] = lambda *args, **kw: _video_first(head(*args, **kw), call)
        before = {module: module.__dict__.get("forward") for module in forwards}
        try:
            for module, forward in forwards.items():
                module.forward = forward
            yield
        finally:
            for module, forward in before.items():
                if forward is None:
                    module.__dict__.pop("forward", None)
                else:
                    module.forward = forward

    def embed(self, patch_embedding: Callable[[Tensor], Tensor], joined_BCTHW: Tensor, call: Call) -> Tensor:
        """Noisy video and, behind it, reference latents -> patch grid (B, D, T + R, H/2, W/2), in the trained order."""
        embedders = cond.Embedders(
            noisy=patch_embedding,
            source=None if self.source_embedder is None else self._convolution(self.source_embedder),
            reference=patch_embedding
            if self.reference_embedder is None
            else self._convolution(self.reference_embedder),
        )
        return cond.embed_latents(
            joined_BCTHW[:, :, : call.frames],
            call.timestep,
            call.source_BCTHW.to(joined_BCTHW),
            joined_BCTHW[:, :, call.frames :] if call.references else None,
            embedders,
            self.config.source_scale,
            self.config.reference_position,
        )

    def _convolution(self, embedder: Mapping[str, Tensor] | None) -> Callable[[Tensor], Tensor] | None:
        """An own embedder in fp32, as it was trained. Its few megabytes stay on the CPU between the calls."""
        if embedder is None:
            return None

        def convolve(latent_BCTHW: Tensor) -> Tensor:
            weight, bias = (embedder[name].to(latent_BCTHW.device, torch.float32) for name in ("weight", "bias"))
            return nn.functional.conv3d(latent_BCTHW.float(), weight, bias, stride=self.config.patch_size)

        return convolve


def _video_first(token_BLP: Tensor, call: Call) -> Tensor:
    """The host keeps the first T frames of the sequence; bring the video there."""
    return cond.video_first(token_BLP, token_BLP.shape[1] // (call.frames + call.references) * call.frames)


def _pad_to_patch(latent_BCTHW: Tensor, model: nn.Module) -> Tensor:
    """An area of the picture may cut a patch; the host pads the noisy latent then, so the source gets the same."""
    if all(side % patch == 0 for side, patch in zip(latent_BCTHW.shape[2:], model.patch_size, strict=True)):
        return latent_BCTHW
    from .host_model import pad_to_patch_size

    return pad_to_patch_size(latent_BCTHW, model.patch_size)


def window_of(source_BCTHW: Tensor, x: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The frames of the source that the current context window shows; hosts from 0.4.0 on have cut them already."""
    window = options.get("context_window")
    if window is None or source_BCTHW.shape[2] == x.shape[2]:
        return source_BCTHW
    return source_BCTHW[:, :, window.index_list]
