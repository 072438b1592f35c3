"""What turns ComfyUI's own Wan DiT into InstructX's: source latent, reference latents and the connector's context.

Between Source and Reference (which attaches the tensors to the conditioning) and the host's sampler. Nothing of the
model is replaced for good: a DIFFUSION_MODEL wrapper lends three of its submodules another `forward` for one call
(paper 3.1), so LoRA names, offloading, quantised weights and clones stay the host's business.
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent size, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...instructx_core.errors import InputError

if TYPE_CHECKING:
    from ...instructx_core.config import DenoiserConfig
    from .encoder_model import Adapter

KEY = "instructx"  # of our wrappers in a ModelPatcher, and of our entry in a conditioning or a latent
SOURCE = "instructx_source"  # keyword under which the host hands the source latent to the DiT
NO_NEGATIVE = "instructx_no_negative"  # keyword that marks the stand-in for a negative that was not connected
REFERENCES = "time_dim_concat"  # the host's own entry for latents appended on the frame axis

SOURCE_NODE = "Source and Reference (InstructX)"
CONNECTOR_NODE = "Connector (InstructX)"


@dataclass(frozen=True)
class Call:
    """What one forward of the DiT is given, beside the noisy latent. sigma_BT: (B, 1), or (B, T) one a frame."""

    source_BCTHW: Tensor
    sigma_BT: Tensor
    frames: int
    references: int


class DenoiserPatch:
    """DIFFUSION_MODEL wrapper. Holds the switches and own embedders of one adapter; no reference to any model."""

    def __init__(
        self,
        config: DenoiserConfig,
        source_embedder: Mapping[str, Tensor] | None,
        reference_embedder: Mapping[str, Tensor] | None,
    ) -> None:
        """Raises InputError when the config asks for an own embedder that the adapter does not have."""
        self.config = config
        self.source_embedder = _own("source_embedder", config.source_embedder, source_embedder)
        self.reference_embedder = _own("reference_embedder", config.reference_embedder, reference_embedder)

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
        sigma_BT = timestep.float().reshape(timestep.shape[0], -1) / 1000.0
        call = Call(_pad_to_patch(source_BCTHW, model), sigma_BT, x.shape[2], references)
        with self.lent(model, call):
            timestep = self.timestep_of_all(timestep, references)
            if self.config.timestep_rounding == "bfloat16":
                timestep = timestep.bfloat16().to(timestep.dtype)
            return executor(x, timestep, context, clip_fea, time_dim_concat, transformer_options, **kwargs)

    @contextmanager
    def lent(self, model: nn.Module, call: Call) -> Iterator[None]:
        """Give patch embedding, text embedding and head our forward; what was there comes back whatever happens."""
        patch_embedding, head = model.patch_embedding.forward, model.head.forward
        forwards: dict[nn.Module, Callable[..., Tensor]] = {
            model.patch_embedding: lambda joined: self.embed(patch_embedding, joined, call),
        }
        if self.config.context == "direct":
            forwards[model.text_embedding] = lambda context: context
        if call.references and self.config.reference_position == "first":
            forwards[model.head] = lambda *args, **kw: self.video_first(head(*args, **kw), call)
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
        video_BCTHW, reference_BCRHW = joined_BCTHW[:, :, : call.frames], joined_BCTHW[:, :, call.frames :]
        source_BCTHW = call.source_BCTHW.to(joined_BCTHW)
        if self.source_embedder is None:
            video_BDTHW = patch_embedding(video_BCTHW + source_BCTHW)
        else:
            video_BDTHW = patch_embedding(video_BCTHW)
            added_BDTHW = self.convolve(self.source_embedder, source_BCTHW)
            if self.config.source_scale == "sigma":
                added_BDTHW = added_BDTHW * call.sigma_BT[:, None, :, None, None].to(added_BDTHW)
            video_BDTHW = video_BDTHW + added_BDTHW.to(video_BDTHW)
        if not call.references:
            return video_BDTHW
        if self.reference_embedder is None:
            reference_BDRHW = patch_embedding(reference_BCRHW)
        else:
            reference_BDRHW = self.convolve(self.reference_embedder, reference_BCRHW).to(video_BDTHW)
        parts = (video_BDTHW, reference_BDRHW)
        return torch.cat(parts if self.config.reference_position == "last" else parts[::-1], dim=2)

    def convolve(self, embedder: Mapping[str, Tensor], latent_BCTHW: Tensor) -> Tensor:
        """An own embedder in fp32, as it was trained. Its few megabytes stay on the CPU between the calls."""
        weight, bias = (embedder[name].to(latent_BCTHW.device, torch.float32) for name in ("weight", "bias"))
        return nn.functional.conv3d(latent_BCTHW.float(), weight, bias, stride=self.config.patch_size)

    def video_first(self, token_BLP: Tensor, call: Call) -> Tensor:
        """The host keeps the first T frames of the sequence; bring the video there."""
        lead = token_BLP.shape[1] // (call.frames + call.references) * call.references
        return torch.cat((token_BLP[:, lead:], token_BLP[:, :lead]), dim=1)

    def timestep_of_all(self, timestep: Tensor, references: int) -> Tensor:
        """One timestep a sample stays; one a frame grows by the references, which take the noisiest frame's."""
        if timestep.ndim < 2 or timestep.shape[1] == 1 or not references:
            return timestep
        of_reference_BR = timestep.amax(dim=1, keepdim=True).expand(-1, references)
        parts = (timestep, of_reference_BR)
        return torch.cat(parts if self.config.reference_position == "last" else parts[::-1], dim=1)


def _own(name: str, mode: str, embedder: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    if mode != "own":
        return None
    if embedder is None:
        raise InputError(f"the adapter has no {name}, its config asks for one; use the adapter file of this checkpoint")
    return embedder


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


# --- wrong graphs --------------------------------------------------------------------------------------------------


def check_conditioning(dim: int, context: Tensor | None, source: Tensor | None, no_negative: bool) -> None:
    """Raises InputError unless the conditioning went through Connector and Source and Reference."""
    if no_negative:
        raise InputError(f"cfg is above 1 but {SOURCE_NODE} has no negative; connect one or set cfg to 1")
    width = None if context is None else context.shape[-1]
    if width != dim:
        raise InputError(
            f"a conditioning of width {width} reached a model patched for InstructX, whose context is {dim} wide: text "
            f"encoder (T5, CLIP) prompts do not fit; take positive and negative from {SOURCE_NODE}"
        )
    if source is None:
        raise InputError(
            f"a conditioning without a source reached a model patched for InstructX; take positive and negative from "
            f"{SOURCE_NODE}, not from {CONNECTOR_NODE} directly"
        )


def check_grids(x: Tensor, source_BCTHW: Tensor, references_BCRHW: Tensor | None) -> None:
    """Raises InputError unless source and references lie on the grid of the noisy latent (B, C, T, H, W)."""
    if source_BCTHW.shape[1:] != x.shape[1:]:
        raise InputError(
            f"the source latent is {_grid(source_BCTHW)}, the latent being sampled {_grid(x)} (channels, frames, "
            f"height, width); sample the LATENT of {SOURCE_NODE}"
        )
    if references_BCRHW is not None and references_BCRHW.shape[3:] != x.shape[3:]:
        raise InputError(
            f"a reference covers {_grid(references_BCRHW)[2:]} latent cells, the conditioning only an area of "
            f"{_grid(x)[2:]}; use Conditioning (Set Mask) with set_cond_area 'default', not Conditioning (Set Area)"
        )


def _grid(latent_BCTHW: Tensor) -> tuple[int, ...]:
    return tuple(latent_BCTHW.shape[1:])


def check_model(model: Any, adapter: Adapter) -> None:
    """Raises InputError unless MODEL is a Wan text-to-video DiT of the adapter's width and channels."""
    denoiser = model.get_model_object("diffusion_model")
    if not all(hasattr(denoiser, name) for name in ("patch_embedding", "text_embedding", "head", "dim", "in_dim")):
        raise InputError(f"MODEL is a {type(denoiser).__name__}, not a Wan DiT; load the file for {adapter.name}")
    want = adapter.denoiser
    if denoiser.dim != want.dim:
        raise InputError(
            f"MODEL is {denoiser.dim} wide, the adapter {adapter.name} was made for {want.dim}; load the DiT and the "
            "adapter of one checkpoint"
        )
    if denoiser.in_dim != want.in_channels:
        raise InputError(
            f"MODEL takes {denoiser.in_dim} channels, the adapter {adapter.name} {want.in_channels}; use a "
            "text-to-video Wan of the adapter's family, not an image-to-video one"
        )


# --- the patch -----------------------------------------------------------------------------------------------------


def reference_count(conds: Mapping[str, Any]) -> int:
    """Most reference frames in one conditioning of the sampler's {"positive": [...], "negative": [...]}."""
    shapes = [cond[REFERENCES].shape for group in conds.values() for cond in group or () if REFERENCES in cond]
    return max((shape[2] for shape in shapes), default=0)


def count_references(executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
    """PREPARE_SAMPLING wrapper: the host's memory estimate knows the video only, reference frames cost as much.

    The frames are counted as extra height, because the host's context windows clip the frame axis before or after us.
    """
    extra = reference_count(conds)
    if extra and len(noise_shape) == 5:
        options = kwargs.get("model_options") or {}
        handler = options.get("context_handler")
        frames = noise_shape[2] if handler is None else min(noise_shape[2], handler.context_length)
        noise_shape = list(noise_shape)
        noise_shape[3] = -(-noise_shape[3] * (frames + extra) // frames)
    return executor(model, noise_shape, conds, *args, **kwargs)


def patch_model(model: Any, adapter: Adapter) -> Any:
    """A clone of the MODEL that takes source, references and context; patching it again replaces the patch.

    Raises InputError when model and adapter do not fit.
    """
    from .host_model import wrapper_kinds

    check_model(model, adapter)
    patch = DenoiserPatch(adapter.denoiser, adapter.source_embedder, adapter.reference_embedder)
    kinds = wrapper_kinds()
    patched = model.clone()
    for kind, wrapper in ((kinds.DIFFUSION_MODEL, patch), (kinds.PREPARE_SAMPLING, count_references)):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    counted = tuple(patched.get_model_object("memory_usage_factor_conds"))
    if REFERENCES not in counted:  # when the host decides how many conditionings fit into one batch
        patched.add_object_patch("memory_usage_factor_conds", (*counted, REFERENCES))
    return patched


def is_patched(model: Any) -> bool:
    """Whether MODEL came out of Source and Reference."""
    from .host_model import wrapper_kinds

    return bool(model.get_wrappers(wrapper_kinds().DIFFUSION_MODEL, KEY))
