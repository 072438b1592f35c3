"""Source injection and reference tokens as pure tensor functions: between the VAE and the DiT blocks.

Paper 3.1: the VAE encoding of the source is added to the noisy latent; the reference is concatenated along the
sequence. Adding a latent BEFORE the patch embedding W x + b equals adding a bias-free second embedding that shares W,
so both profiles are one code path: `instructx` ties the embedder to the DiT's, `kiwi` owns one and scales it by sigma.
`embed_latents` is all of it: denoiser.py calls it, and so does the patch of ComfyUI's own Wan in nodes/parts. Needs
no diffusers.
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent height and width, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import ReferencePosition, SourceScale, TimestepRounding
from .errors import InputError


def latent_embedder(in_channels: int, dim: int, patch_size: tuple[int, int, int]) -> nn.Conv3d:
    """An own source or reference embedder: a second patch embedding, zero at the start so that it changes nothing."""
    patch = (patch_size[0], patch_size[1], patch_size[2])  # a list when it comes from a saved config
    embedder = nn.Conv3d(in_channels, dim, kernel_size=patch, stride=patch)
    for parameter in embedder.parameters():
        nn.init.zeros_(parameter)
    return embedder


def check_source(noisy_BCTHW: Tensor, source_BCTHW: Tensor) -> None:
    """Raises InputError unless the source latent has exactly the shape of the noisy latent."""
    if source_BCTHW.shape != noisy_BCTHW.shape:
        raise InputError(
            f"source latent {tuple(source_BCTHW.shape)} must have the shape of the noisy latent "
            f"{tuple(noisy_BCTHW.shape)}; encode the source at the size and length of the output"
        )


def check_references(noisy_BCTHW: Tensor, references_BCRHW: Tensor) -> None:
    """Raises InputError unless batch, channels, height and width agree with the noisy latent."""
    noisy, reference = noisy_BCTHW.shape, references_BCRHW.shape
    if len(reference) != 5 or reference[:2] != noisy[:2] or reference[3:] != noisy[3:]:
        raise InputError(
            f"reference latents {tuple(reference)} must be (B, C, R, H, W) with the B, C, H, W of the noisy latent "
            f"{tuple(noisy)}; pad the reference image to the output's size before encoding"
        )


class Embedders(NamedTuple):
    """Latents (B, C, T, H, W) -> patch grid (B, D, T, H/2, W/2): three uses of one or several patch embeddings."""

    noisy: Callable[[Tensor], Tensor]  # the DiT's patch embedding
    source: Callable[[Tensor], Tensor] | None  # an own one; None: tied, the source is added to the noisy latent
    reference: Callable[[Tensor], Tensor]  # an own one, or the DiT's


def embed_latents(
    noisy_BCTHW: Tensor,
    timestep: Tensor,
    source_BCTHW: Tensor | None,
    references_BCRHW: Tensor | None,
    embedders: Embedders,
    source_scale: SourceScale,
    reference_position: ReferencePosition,
) -> Tensor:
    """What the DiT's blocks see, as a patch grid (B, D, T + R, H/2, W/2): noisy latent with its source, and references.

    timestep (B,), or (B, T) where every frame has its own. The result has the dtype of the noisy latent's embedding.
    """
    if source_BCTHW is not None and embedders.source is None:
        noisy_BCTHW = noisy_BCTHW + source_BCTHW
    video_BDTHW = embedders.noisy(noisy_BCTHW)
    if source_BCTHW is not None and embedders.source is not None:
        added_BDTHW = scale_source(embedders.source(source_BCTHW), timestep, source_scale)
        video_BDTHW = video_BDTHW + added_BDTHW.to(video_BDTHW)
    if references_BCRHW is None:
        return video_BDTHW
    return join_references(
        video_BDTHW, embedders.reference(references_BCRHW).to(video_BDTHW), reference_position, dim=2
    )


def scale_source(embedded_BDTHW: Tensor, timestep: Tensor, mode: SourceScale) -> Tensor:
    """Scale an own-embedder source by the noise level, bias included (kiwi), or leave it (mode "none")."""
    if mode == "none":
        return embedded_BDTHW
    sigma_BT = timestep.float().reshape(len(timestep), -1) / 1000.0
    return embedded_BDTHW * sigma_BT[:, None, :, None, None].to(embedded_BDTHW)


def join_references(video: Tensor, references: Tensor, position: ReferencePosition, dim: int) -> Tensor:
    """References after the video ("last") or before it ("first"), on the axis of frames or of tokens."""
    return torch.cat((video, references) if position == "last" else (references, video), dim=dim)


def drop_references(token_BLD: Tensor, video_tokens: int, position: ReferencePosition) -> Tensor:
    """The video's tokens of a joined sequence; a view."""
    return token_BLD[:, :video_tokens] if position == "last" else token_BLD[:, token_BLD.shape[1] - video_tokens :]


def video_first(token_BLD: Tensor, video_tokens: int) -> Tensor:
    """A sequence whose references stand first, with the video moved in front of them."""
    lead = token_BLD.shape[1] - video_tokens
    return torch.cat((token_BLD[:, lead:], token_BLD[:, :lead]), dim=1)


def timestep_with_references(timestep: Tensor, references: int, position: ReferencePosition) -> Tensor:
    """One timestep a sample, (B,) or (B, 1), stays; (B, T) grows by the references: they take the noisiest frame's."""
    if timestep.ndim < 2 or timestep.shape[1] == 1 or not references:
        return timestep
    of_reference_BR = timestep.amax(dim=1, keepdim=True).expand(-1, references)
    return join_references(timestep, of_reference_BR, position, dim=1)


def round_timestep(timestep: Tensor, mode: TimestepRounding) -> Tensor:
    """The timestep as the DiT embeds it: as it is, or rounded to bfloat16, which Kiwi-Edit does."""
    return timestep if mode == "none" else timestep.bfloat16().to(timestep.dtype)


def to_tokens(embedded_BDTHW: Tensor) -> Tensor:
    """Patch grid -> sequence, time outermost: (B, T*H*W, D), contiguous."""
    return rearrange(embedded_BDTHW, "b d t h w -> b (t h w) d").contiguous()


def from_tokens(token_BLP: Tensor, grid: tuple[int, int, int], patch_size: Sequence[int]) -> Tensor:
    """Head output -> latent. P = patch volume x channels, channels innermost; `grid` counts patches (t, h, w)."""
    (t, h, w), (p, q, r) = grid, patch_size
    pattern = "b (t h w) (p q r c) -> b c (t p) (h q) (w r)"
    return rearrange(token_BLP, pattern, t=t, h=h, w=w, p=p, q=q, r=r)
