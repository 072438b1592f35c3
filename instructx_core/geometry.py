"""Frame, latent, token and resolution arithmetic: pure Python, no tensors.

Everything that decides a shape lives here, so that the nodes, the pipeline and the trainer agree: Wan's causal VAE
takes F = 4(T-1)+1 pixel frames to T latent frames, the DiT sees (T, h/2, w/2) patches, the MLLM sees frames resized
by Qwen's rule and sampled over the whole clip (paper 3.1: 13 frames).
Legend: F pixel frames, T latent frames, h w in pixels unless a name says latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .config import InstructXConfig
from .errors import InputError

MAX_ASPECT_RATIO = 200  # Qwen2.5-VL refuses longer strips


@dataclass(frozen=True, slots=True)
class ClipSize:
    """Of the pixels of a clip, or of a picture, which is one frame."""

    width: int
    height: int
    frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {self.frames} frames"


def _positive(name: str, value: int | float) -> None:
    if value <= 0:
        raise InputError(f"{name} is {value}; it must be positive")


def latent_frames(frames: int, stride: int = 4) -> int:
    """Latent frames T of a clip of F = stride*(T-1)+1 pixel frames. Raises InputError for any other F."""
    if frames < 1 or (frames - 1) % stride:
        fix = pad_frames(max(frames, 1), stride)
        raise InputError(
            f"the clip has {frames} frames; the VAE needs {stride}n+1 (1, {stride + 1}, {2 * stride + 1}, ...): "
            f"repeat the last frame up to {fix}"
        )
    return (frames - 1) // stride + 1


def pixel_frames(latents: int, stride: int = 4) -> int:
    """Pixel frames F = stride*(T-1)+1 that T latent frames decode to."""
    _positive("latent frame count", latents)
    return stride * (latents - 1) + 1


def pad_frames(frames: int, stride: int = 4) -> int:
    """Smallest stride*n+1 that is >= frames: the length to pad a clip to by repeating its last frame."""
    _positive("frame count", frames)
    return stride * math.ceil((frames - 1) / stride) + 1


def check_size(height: int, width: int, config: InstructXConfig) -> None:
    """Raises InputError unless both sides are positive multiples of config.size_multiple (pixels)."""
    multiple = config.size_multiple
    for name, side in (("height", height), ("width", width)):
        if side < multiple or side % multiple:
            low = max(side // multiple, 1) * multiple
            raise InputError(
                f"{name} is {side} px; this model needs a multiple of {multiple}: use {low} or {low + multiple}"
            )


def latent_size(height: int, width: int, config: InstructXConfig) -> tuple[int, int]:
    """Latent (h, w) of a frame of height x width pixels. Raises InputError on a size the model cannot take."""
    check_size(height, width, config)
    return height // config.vae.scale_factor_spatial, width // config.vae.scale_factor_spatial


def dit_tokens(frames: int, height: int, width: int, config: InstructXConfig) -> int:
    """Self-attention tokens of the DiT for a clip of F frames, height x width pixels (references not counted)."""
    h, w = latent_size(height, width, config)
    pt, ph, pw = config.denoiser.patch_size
    return (latent_frames(frames, config.vae.scale_factor_temporal) // pt) * (h // ph) * (w // pw)


@dataclass(frozen=True, slots=True)
class FitBox:
    """How a picture is fitted: scale both axes by `scale`, then cut height x width at (top, left). Never stretches.

    Lengths in pixels; `scaled_*` is the picture after scaling, the box lies inside it. The rounding of `scaled_*` to
    whole pixels is the only deviation from one common scale (at most half a pixel over the whole side).
    """

    source_height: int
    source_width: int
    scale: float
    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int

    @property
    def is_identity(self) -> bool:
        """True when the picture is used as it is."""
        return (self.height, self.width) == (self.source_height, self.source_width) and self.scale == 1.0

    @property
    def source_box(self) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) of the kept region, in pixels of the source picture."""
        sy, sx = self.source_height / self.scaled_height, self.source_width / self.scaled_width
        return self.top * sy, self.left * sx, (self.top + self.height) * sy, (self.left + self.width) * sx

    def describe(self) -> str:
        """One line for a log or a node: what was scaled and what was cut off."""
        kept = f"{self.source_width}x{self.source_height} -> {self.width}x{self.height}"
        if self.is_identity:
            return f"{kept}: unchanged"
        cut_w, cut_h = self.scaled_width - self.width, self.scaled_height - self.height
        return f"{kept}: scaled by {self.scale:.4f}, cut {cut_w} px in width and {cut_h} px in height, centred"


def fit_size(height: int, width: int, multiple: int, max_pixels: int | None = None) -> FitBox:
    """Fit a picture to sides that are multiples of `multiple` and at most `max_pixels` in area, by scale and crop.

    Sides are floored (never enlarged), the crop is centred; this is also Kiwi-Edit's rule for its source clip.
    Raises InputError when a side would become zero.
    """
    _positive("height", height)
    _positive("width", width)
    shrink = 1.0 if max_pixels is None else min(1.0, math.sqrt(max_pixels / (height * width)))
    target_h = int(height * shrink + 1e-6) // multiple * multiple
    target_w = int(width * shrink + 1e-6) // multiple * multiple
    if target_h == 0 or target_w == 0:
        limit = "" if max_pixels is None else f" within {max_pixels} pixels"
        raise InputError(
            f"a {width}x{height} picture cannot be fitted to a multiple of {multiple}{limit}: "
            f"both sides must keep at least {multiple} px; use a larger picture or crop the long side"
        )
    return fill_size(height, width, target_h, target_w)


def fill_size(height: int, width: int, target_h: int, target_w: int) -> FitBox:
    """A picture of height x width pixels scaled until it covers target_h x target_w, what juts out cut evenly."""
    scale = max(target_h / height, target_w / width)
    scaled_h, scaled_w = max(round(height * scale), target_h), max(round(width * scale), target_w)
    return FitBox(
        source_height=height,
        source_width=width,
        scale=scale,
        scaled_height=scaled_h,
        scaled_width=scaled_w,
        top=(scaled_h - target_h) // 2,
        left=(scaled_w - target_w) // 2,
        height=target_h,
        width=target_w,
    )


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2.5-VL's rule: nearest multiples of `factor` whose area lies in [min_pixels, max_pixels], aspect about kept.

    Raises InputError for an aspect ratio above 200 or limits no multiple can meet.
    """
    _positive("height", height)
    _positive("width", width)
    if max_pixels < min_pixels or max_pixels < factor * factor:
        raise InputError(f"max_pixels {max_pixels} must be at least min_pixels {min_pixels} and {factor}x{factor}")
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise InputError(f"{width}x{height} has aspect ratio {ratio:.0f}; at most {MAX_ASPECT_RATIO}: crop the picture")
    new_h = max(factor, round(height / factor) * factor)
    new_w = max(factor, round(width / factor) * factor)
    if new_h * new_w > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        # max(): a thin strip must keep one cell; the public rule returns 0 there in some versions
        new_h = max(factor, math.floor(height / beta / factor) * factor)
        new_w = max(factor, math.floor(width / beta / factor) * factor)
    elif new_h * new_w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        new_h = math.ceil(height * beta / factor) * factor
        new_w = math.ceil(width * beta / factor) * factor
    return new_h, new_w


def mllm_frame_sizes(height: int, width: int, config: InstructXConfig, kind: str) -> tuple[tuple[int, int], ...]:
    """The sizes (h, w) in pixels to which a picture is brought, one after the other, until the MLLM sees it.

    kind is 'image', 'video' or 'reference'. Rule: smart_resize with factor patch*merge (28 px); a single picture has at
    least 4 merged cells, a video frame at least config.min_pixels. With video_size_factor 2 a video frame is first
    sized with twice that factor: Kiwi-Edit hands its frames over as a list, and that path of qwen_vl_utils sizes each
    frame with the doubled factor and then the clip with the plain one (832x480 -> 672x336, not 672x364). Raises
    InputError for an unknown kind or a size smart_resize refuses.
    """
    vision, rule = config.mllm.vision, config.instruction
    factor = vision.patch_size * vision.spatial_merge_size
    floor = 4 * factor * factor
    if kind == "image":
        return (smart_resize(height, width, factor, floor, rule.max_image_pixels),)
    if kind == "reference":
        return (smart_resize(height, width, factor, floor, rule.max_reference_pixels),)
    if kind != "video":
        raise InputError(f"unknown kind {kind!r}; use 'image', 'video' or 'reference'")
    if rule.video_size_factor == 1:
        return (smart_resize(height, width, factor, rule.min_pixels, rule.max_pixels),)
    scale = rule.video_size_factor
    first = smart_resize(height, width, scale * factor, scale * scale * floor, rule.max_pixels)
    return first, smart_resize(*first, factor, rule.min_pixels, rule.max_pixels)


def mllm_frame_size(height: int, width: int, config: InstructXConfig, kind: str) -> tuple[int, int]:
    """Size (h, w) in pixels at which the MLLM sees a picture: the last of mllm_frame_sizes."""
    return mllm_frame_sizes(height, width, config, kind)[-1]


def sample_frame_indices(frames: int, count: int, rule: str = "always") -> list[int]:
    """Indices of the frames the MLLM sees: `count` evenly spaced over the clip, first and last included.

    A clip of at most `count` frames is used whole under both rules ('always': the paper's 13; 'cap': Kiwi-Edit's 16).
    Raises InputError for an empty clip, a non-positive count or an unknown rule.
    """
    _positive("frame count", frames)
    _positive("number of sampled frames", count)
    if rule not in ("always", "cap"):
        raise InputError(f"unknown frame rule {rule!r}; use 'always' or 'cap'")
    if frames <= count:
        return list(range(frames))
    if count == 1:
        return [0]
    return [round(i * (frames - 1) / (count - 1)) for i in range(count)]


def mllm_grid(frames: int, height: int, width: int, config: InstructXConfig, kind: str) -> tuple[int, int, int]:
    """Patch grid (t, h, w) of the vision tower for a whole clip of F frames (sampling and resize included).

    t counts temporal patches (2 frames each, the last frame repeated when odd), h and w count 14 px patches.
    """
    vision, rule = config.mllm.vision, config.instruction
    shown = len(sample_frame_indices(frames, rule.mllm_frames, rule.frame_rule)) if kind == "video" else 1
    h, w = mllm_frame_size(height, width, config, kind)
    return math.ceil(shown / vision.temporal_patch_size), h // vision.patch_size, w // vision.patch_size
