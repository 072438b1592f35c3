"""What the MLLM sees: frames -> patches_BSP -> vision tokens (paper 3.1; Qwen2.5-VL's vision tower).

The forward runs over the submodules of transformers' tower (patch_embed, blocks, merger) with our own window order and
rotary tables, because releases of transformers differ there and because it runs a whole batch of equal grids in a few
SDPA calls instead of one call a window. Full-attention blocks see one temporal slice, the others 4x4 merged cells.
Legend: B batch, F pixel frames, S patches, P values a patch (3*2*14*14), N patches of one temporal slice, D width,
K head dim, grid (t, h, w) in patches; a cell is the 2x2 patches that become one token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import InstructXConfig, VisionConfig
from ..errors import InputError
from ..geometry import sample_frame_indices
from .positions import Grid
from .resize import resize_for_mllm

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def check_frames(frames_FHWC: Tensor, what: str) -> None:
    """Raises InputError unless frames are a non-empty uint8 (F, H, W, 3) tensor."""
    shape = tuple(frames_FHWC.shape)
    if frames_FHWC.ndim != 4 or shape[-1] != 3 or 0 in shape or frames_FHWC.dtype != torch.uint8:
        raise InputError(f"{what} is {frames_FHWC.dtype} {shape}; give uint8 of shape (frames, height, width, 3)")


def patchify(frames_FHWC: Tensor, vision: VisionConfig) -> tuple[Tensor, Grid]:
    """uint8 frames -> (patches_SP float32, grid). Missing frames of the last temporal patch repeat the last frame.

    Patches are ordered t, cell row, cell column, row in cell, column in cell; values c, frame, y, x; CLIP mean and std.
    Raises InputError when a side is no multiple of patch * merge (28 px).
    """
    frames, height, width, _ = frames_FHWC.shape
    factor = vision.patch_size * vision.spatial_merge_size
    if height % factor or width % factor:
        raise InputError(f"a frame is {width}x{height}; the vision tower needs multiples of {factor}: resize first")
    x_FHWC = (frames_FHWC.float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    missing = -frames % vision.temporal_patch_size
    x_FHWC = torch.cat([x_FHWC, repeat(x_FHWC[-1:], "1 h w c -> n h w c", n=missing)])
    patches_SP = rearrange(
        x_FHWC,
        "(t f) (h mh p) (w mw q) c -> (t h w mh mw) (c f p q)",
        f=vision.temporal_patch_size,
        mh=vision.spatial_merge_size,
        mw=vision.spatial_merge_size,
        p=vision.patch_size,
        q=vision.patch_size,
    )
    grid = (x_FHWC.shape[0] // vision.temporal_patch_size, height // vision.patch_size, width // vision.patch_size)
    return patches_SP, grid


def prepare_pictures(frames_FHWC: Tensor, config: InstructXConfig, kind: str) -> tuple[Tensor, Grid]:
    """Choose frames, resize and patchify one clip ('video'), image ('image') or reference ('reference').

    frames_FHWC: uint8, the WHOLE clip (sampling happens here). Returns (patches_SP, grid); raises InputError.
    """
    check_frames(frames_FHWC, kind)
    patches_BSP, grid = prepare_batch(frames_FHWC[None], config, kind)
    return patches_BSP[0], grid


def prepare_batch(clips_BFHWC: Tensor, config: InstructXConfig, kind: str) -> tuple[Tensor, Grid]:
    """The same of several clips, images or references of one size at once: (patches_BSP, grid)."""
    return patch_batch(seen_frames(clips_BFHWC, config, kind), config)


def seen_frames(clips_BFHWC: Tensor, config: InstructXConfig, kind: str) -> Tensor:
    """The frames that the MLLM sees, in its size, uint8; the last one again where a temporal patch lacks one."""
    rule, vision = config.instruction, config.mllm.vision
    if kind == "video":
        clips_BFHWC = clips_BFHWC[:, sample_frame_indices(clips_BFHWC.shape[1], rule.mllm_frames, rule.frame_rule)]
    missing = -clips_BFHWC.shape[1] % vision.temporal_patch_size
    clips_BFHWC = torch.cat([clips_BFHWC, repeat(clips_BFHWC[:, -1:], "b 1 h w c -> b n h w c", n=missing)], 1)
    frames_FHWC = resize_for_mllm(clips_BFHWC.flatten(0, 1), config, kind)
    return rearrange(frames_FHWC, "(b f) h w c -> b f h w c", b=len(clips_BFHWC))


def patch_batch(seen_BFHWC: Tensor, config: InstructXConfig) -> tuple[Tensor, Grid]:
    """What seen_frames gives -> (patches_BSP, grid)."""
    batch = len(seen_BFHWC)
    patches_SP, (t, h, w) = patchify(seen_BFHWC.flatten(0, 1), config.mllm.vision)
    if config.instruction.pixel_rounding == "bfloat16":
        patches_SP = patches_SP.bfloat16().float()
    return rearrange(patches_SP, "(b s) p -> b s p", b=batch), (t // batch, h, w)


@dataclass(frozen=True, slots=True)
class VisionPlan:
    """Tables of one (h, w): cell order by window, (windows, patches) of each group of equal windows, rotary cos/sin."""

    order_N: Tensor  # cells, gathers row-major cells into window order
    inverse_N: Tensor
    groups: tuple[tuple[int, int], ...]
    cos_NK: Tensor  # patches in window order, head dim
    sin_NK: Tensor


@lru_cache(maxsize=64)
def vision_plan(height: int, width: int, vision: VisionConfig) -> VisionPlan:
    """Plan for a temporal slice of height x width patches; cached, so callers must not write into it.

    Windows are 4x4 cells from the top left corner; the border holds smaller ones. Windows of one shape form a group.
    """
    with torch.device("cpu"):  # a caller under torch.device("meta") must not leave meta tensors in the cache
        return _build_plan(height, width, vision)


def _build_plan(height: int, width: int, vision: VisionConfig) -> VisionPlan:
    merge = vision.spatial_merge_size
    rows, columns = height // merge, width // merge
    side = vision.window_size // merge // vision.patch_size
    index = torch.arange(rows * columns).reshape(rows, columns)
    full_r, full_c = rows - rows % side, columns - columns % side
    order, groups = [], []
    for block in (index[:full_r, :full_c], index[:full_r, full_c:], index[full_r:, :full_c], index[full_r:, full_c:]):
        if block.numel():
            y, x = min(side, block.shape[0]), min(side, block.shape[1])
            windows = rearrange(block, "(a y) (b x) -> (a b) (y x)", y=y, x=x)
            order.append(windows.flatten())
            groups.append((windows.shape[0], windows.shape[1] * merge * merge))
    order_N = torch.cat(order)

    y_N, x_N = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position_2N = torch.stack(
        [rearrange(axis, "(r y) (c x) -> (r c) (y x)", y=merge, x=merge)[order_N].flatten() for axis in (y_N, x_N)]
    )
    head = vision.hidden_size // vision.num_heads
    frequency = 1.0 / (10000.0 ** (torch.arange(0, head // 2, 2, dtype=torch.float32) / (head // 2)))
    angle_NK = rearrange(position_2N[..., None].float() * frequency, "a n k -> n (a k)").repeat(1, 2)
    return VisionPlan(order_N, order_N.argsort(), tuple(groups), angle_NK.cos(), angle_NK.sin())


def _rotate(x_BNHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
    x = x_BNHK.float()  # angles need fp32; the tower itself may run in bf16
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x * cos_NK[:, None] + turned * sin_NK[:, None]).to(x_BNHK.dtype)


def _attend(attn: Any, x_BND: Tensor, plan: VisionPlan, cos_NK: Tensor, sin_NK: Tensor, windowed: bool) -> Tensor:
    heads = attn.num_heads
    q, k, v = rearrange(attn.qkv(x_BND), "b n (three h k) -> three b n h k", three=3, h=heads)
    q, k = _rotate(q, cos_NK, sin_NK), _rotate(k, cos_NK, sin_NK)
    outputs, start = [], 0
    for count, size in plan.groups if windowed else ((1, x_BND.shape[1]),):
        part = slice(start, start + count * size)
        start = part.stop
        window_q, window_k, window_v = (rearrange(x[:, part], "b (g n) h k -> (b g) h n k", g=count) for x in (q, k, v))
        out = F.scaled_dot_product_attention(window_q, window_k, window_v)
        outputs.append(rearrange(out, "(b g) h n k -> b (g n) (h k)", g=count))
    return attn.proj(torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0])


def vision_forward(visual: nn.Module, patches_BSP: Tensor, grid: Grid, vision: VisionConfig) -> Tensor:
    """Vision tower on B samples of one grid: patches_BSP -> (B, t*h*w/4, MLLM width), in row-major cell order.

    `visual` is transformers' Qwen2_5_VisionTransformerPretrainedModel; equal to its own forward. Raises InputError when
    the number of patches does not fit the grid.
    """
    tower: Any = visual
    batch, (t, h, w) = patches_BSP.shape[0], grid
    if patches_BSP.shape[1] != t * h * w:
        raise InputError(f"{patches_BSP.shape[1]} patches for grid (t, h, w) = {grid}; expected t*h*w = {t * h * w}")
    plan = vision_plan(h, w, vision)
    device = patches_BSP.device
    order_N, inverse_N = plan.order_N.to(device), plan.inverse_N.to(device)
    cos_NK, sin_NK = plan.cos_NK.to(device), plan.sin_NK.to(device)

    unit = vision.spatial_merge_size**2
    x = tower.patch_embed(patches_BSP.reshape(-1, patches_BSP.shape[-1]))
    x_BND = rearrange(x, "(bt n u) d -> bt n u d", bt=batch * t, u=unit)[:, order_N].flatten(1, 2)

    def block_forward(block: Any, x_BND: Tensor, windowed: bool) -> Tensor:
        x_BND = x_BND + _attend(block.attn, block.norm1(x_BND), plan, cos_NK, sin_NK, windowed)
        return x_BND + block.mlp(block.norm2(x_BND))

    recompute = tower.training and getattr(tower, "gradient_checkpointing", False) and torch.is_grad_enabled()
    for number, block in enumerate(tower.blocks):
        windowed = number not in vision.full_attention_blocks
        if recompute:
            x_BND = checkpoint(block_forward, block, x_BND, windowed, use_reentrant=False)
        else:
            x_BND = block_forward(block, x_BND, windowed)
    cells = rearrange(tower.merger(x_BND), "(bt n) d -> bt n d", bt=batch * t)[:, inverse_N]
    return rearrange(cells, "(b t) n d -> b (t n) d", b=batch)
