"""Source injection and reference tokens as pure tensor functions: between the VAE and the DiT blocks.

Paper 3.1: the VAE encoding of the source is added to the noisy latent; the reference is concatenated along the
sequence. Adding a latent BEFORE the patch embedding W x + b equals adding a bias-free second embedding that shares W,
so both profiles are one code path: `instructx` ties the embedder to the DiT's, `kiwi` owns one and scales it by sigma.
`embed_latents` is all of it: denoiser.py calls it, and so does the patch of ComfyUI's own Wan in nodes/parts. Imports
torch and einops only.
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent height and width, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from .errors import InputError

ReferencePosition = Literal["last", "first"]
SourceScale = Literal["none", "sigma"]
TimestepRounding = Literal["none", "bfloat16"]

# Per-channel mean and standard deviation of the VAE's latents, as published with the Wan models.
WAN21_MEAN = (
    (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
    + (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
)  # fmt: skip
WAN21_STD = (
    (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
    + (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)
)  # fmt: skip
WAN22_MEAN = (
    (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557)
    + (-0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825)
    + (-0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502)
    + (-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230)
    + (-0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748)
    + (0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667)
)  # fmt: skip
WAN22_STD = (
    (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013)
    + (0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978)
    + (0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659)
    + (0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093)
    + (0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887)
    + (0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744)
)  # fmt: skip
LATENT_STATS = {16: (WAN21_MEAN, WAN21_STD), 48: (WAN22_MEAN, WAN22_STD)}


def latent_stats(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the VAE family with `channels` latent channels: 16 is Wan2.1, 48 is Wan2.2.

    Raises InputError for any other count.
    """
    if channels not in LATENT_STATS:
        known = ", ".join(str(c) for c in LATENT_STATS)
        raise InputError(f"no latent statistics for {channels} channels; use a VAE with {known} channels")
    return LATENT_STATS[channels]


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    if len(values) != like.shape[1]:
        raise InputError(f"latent has {like.shape[1]} channels, the statistics {len(values)}; use its own VAE's")
    return torch.tensor(values, device=like.device, dtype=torch.float32).view(1, -1, 1, 1, 1)


def normalise_latents(latent_BCTHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """VAE output -> DiT input, (z - mean) / std per channel. Computed in fp32, returned in the input's dtype."""
    shifted_BCTHW = latent_BCTHW.float() - _per_channel(mean, latent_BCTHW)
    return (shifted_BCTHW / _per_channel(std, latent_BCTHW)).to(latent_BCTHW.dtype)


def denormalise_latents(latent_BCTHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """DiT output -> VAE input, the inverse of `normalise_latents`."""
    scaled_BCTHW = latent_BCTHW.float() * _per_channel(std, latent_BCTHW)
    return (scaled_BCTHW + _per_channel(mean, latent_BCTHW)).to(latent_BCTHW.dtype)


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
