"""Large frames through the VAE in tiles, when they do not fit whole; and how much memory the VAE needs.

Beside vae.py: pixels -> latent -> pixels, tile by tile, blended over the overlap. Not diffusers' own tiling, whose last
tiles can be a few cells wide, with nothing around them, and which keeps every tile on the device: here all tiles of an
axis have one size and the device holds one at a time. Time needs no tiles, the VAE is causal and streams 4 frames at a
time. docs/large-and-robust.md has the measured seams.
Legend: B batch, C channels, F pixel frames, T latent frames, H W; a cell is one latent position (8 or 16 pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..config import VaeConfig
from ..errors import InputError

if TYPE_CHECKING:
    from diffusers.models import AutoencoderKLWan

Span = tuple[int, int]  # start, stop

# Live values of the decoder at its widest, per pixel of a frame and channel of decoder_base_dim: counted on the meta
# device over whole clips (Wan2.1 52.4, Wan2.2 84.7 with pixels counted after its patching), rounded up.
_VALUES = {False: 53, True: 85}  # by VaeConfig.is_residual
_WORKSPACE = 1.25  # of convolutions; not measured on every card, so a margin
SIZES = (768, 512, 256)  # pixels; the largest that fits is taken
OVERLAP = 128


@dataclass(frozen=True, slots=True)
class Tiling:
    """size: largest side of a tile; overlap: of neighbours, at least; in pixels. Raises InputError if impossible."""

    size: int = 512
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.overlap < 1 or self.size < 2 * self.overlap:
            raise InputError(
                f"tiles of {self.size} px with {self.overlap} px overlap; the overlap must be positive and at most half"
            )

    def describe(self, height: int, width: int) -> str:
        """For a report: how many tiles a frame of height x width pixels becomes."""
        rows, columns = (len(tile_spans(side, self.size, self.overlap)) for side in (height, width))
        return f"VAE in {rows * columns} tiles of at most {self.size} px, {self.overlap} px blended"


def tile_spans(length: int, size: int, overlap: int) -> list[Span]:
    """Equal spans that cover [0, length), at most `size` long, neighbours sharing `overlap` or a little more."""
    if length <= size:
        return [(0, length)]
    count = math.ceil((length - overlap) / (size - overlap))
    side = math.ceil((length + (count - 1) * overlap) / count)
    starts = [i * (length - side) // (count - 1) for i in range(count)]
    return [(start, start + side) for start in starts]


def _ramps(spans: list[Span], scale: int) -> list[Tensor]:
    """One weight a position of each span, `scale` positions a cell: linear over shared parts; they sum to 1."""
    ramps = [torch.ones((stop - start) * scale) for start, stop in spans]
    for i in range(len(spans) - 1):
        shared = (spans[i][1] - spans[i + 1][0]) * scale
        rise = (torch.arange(shared) + 0.5) / shared
        ramps[i][-shared:] *= 1 - rise
        ramps[i + 1][:shared] *= rise
    return ramps


@dataclass(frozen=True, slots=True)
class _Grid:
    """Cells down and across, positions a cell of what is read and of what is written; tiles counted in cells."""

    cells: tuple[int, int]
    into: int
    out: int
    size: int
    overlap: int

    @classmethod
    def of(cls, cells: tuple[int, int], cell: int, tiling: Tiling, decode: bool) -> _Grid:
        """cell: its pixels."""
        into, out = (1, cell) if decode else (cell, 1)
        return cls(cells, into, out, tiling.size // cell, math.ceil(tiling.overlap / cell))


def _run_tiles(run: Callable[[Tensor], Tensor], source: Tensor, grid: _Grid, device: torch.device) -> Tensor:
    """Cuts `source` on the grid of cells, runs each tile, adds it to a canvas on the CPU under its weights (fp32)."""
    into, out = grid.into, grid.out
    rows, columns = (tile_spans(length, grid.size, grid.overlap) for length in grid.cells)
    weights = [_ramps(rows, out), _ramps(columns, out)]
    canvas: Tensor | None = None
    for (top, bottom), down in zip(rows, weights[0], strict=True):
        for (left, right), across in zip(columns, weights[1], strict=True):
            tile = source[..., top * into : bottom * into, left * into : right * into]
            made = run(tile.to(device)).float().cpu() * (down[:, None] * across)
            if canvas is None:
                canvas = made.new_zeros(*made.shape[:3], grid.cells[0] * out, grid.cells[1] * out)
            canvas[..., top * out : bottom * out, left * out : right * out] += made
    assert canvas is not None
    return canvas


@torch.no_grad()
def encode_tiled(vae: AutoencoderKLWan, video_BCFHW: Tensor, tiling: Tiling, device: torch.device) -> Tensor:
    """Pixels in [-1, 1], on any device, -> latent means (B, C, T, h, w) as the VAE gives them, fp32 on the CPU."""
    cell = int(vae.config["scale_factor_spatial"])
    height, width = video_BCFHW.shape[-2:]

    def run(tile: Tensor) -> Tensor:
        return vae.encode(tile.to(vae.dtype), return_dict=False)[0].mode()

    grid = _Grid.of((height // cell, width // cell), cell, tiling, decode=False)
    return _run_tiles(run, video_BCFHW, grid, device)


@torch.no_grad()
def decode_tiled(vae: AutoencoderKLWan, latent_BCTHW: Tensor, tiling: Tiling, device: torch.device) -> Tensor:
    """Latents as the VAE takes them -> pixels (B, 3, F, H, W) in [-1, 1], fp32 on the CPU."""
    height, width = latent_BCTHW.shape[-2:]

    def run(tile: Tensor) -> Tensor:
        return vae.decode(tile.to(vae.dtype), return_dict=False)[0]

    grid = _Grid.of((height, width), int(vae.config["scale_factor_spatial"]), tiling, decode=True)
    return _run_tiles(run, latent_BCTHW, grid, device)


class VideoShape(NamedTuple):
    """Of pixels that the VAE takes or gives."""

    batch: int
    frames: int
    height: int
    width: int


def vae_bytes(config: VaeConfig, shape: VideoShape, dtype: torch.dtype) -> int:
    """Peak memory of the VAE without its weights: decoding, which needs more than encoding.

    The widest layers hold 4 frames of each clip at a time whatever F is; only the finished frames, counted twice, grow
    with it.
    """
    inner = shape.height * shape.width / (config.patch_size or 1) ** 2
    values = _VALUES[config.is_residual] * (config.decoder_base_dim or config.base_dim) * inner
    values *= 1.0 if shape.frames > 1 else 0.35  # one frame: a chunk of 1 instead of 4 (measured 0.34, 0.27)
    each = values * _WORKSPACE + 6 * shape.frames * shape.height * shape.width
    return int(shape.batch * each * dtype.itemsize)


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be used on a device; None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.exists():
        return None
    available = next((line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")), None)
    return None if available is None else int(available.split()[1]) * 1024


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The tiles to use, and why, for a report."""

    tiling: Tiling
    reason: str


def plan_tiling(config: VaeConfig, dtype: torch.dtype, shape: VideoShape, device: torch.device) -> TilePlan | None:
    """None where whole frames fit into four fifths of the free memory, else the largest tiles that fit.

    The smallest when none fits by this count, which has a margin.
    """
    free = free_bytes(device)
    need = vae_bytes(config, shape, dtype)
    if free is None or need <= 0.8 * free:
        return None
    chosen = SIZES[-1]
    for size in SIZES:
        tile = shape._replace(height=min(size, shape.height), width=min(size, shape.width))
        if vae_bytes(config, tile, dtype) <= 0.8 * free:
            chosen = size
            break
    tiling = Tiling(chosen, min(OVERLAP, chosen // 4))
    reason = f"whole frames need about {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    return TilePlan(tiling, f"{tiling.describe(shape.height, shape.width)} ({reason})")
