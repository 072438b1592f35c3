"""The token sequence the MLLM reads, as ids, mask and positions (paper 3.1; layout of Kiwi-Edit, weights are public).

    <|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n
    <|vision_start|>{source cells}<|vision_end|>{instruction}[pads]
    [<|vision_start|>{reference cells}<|vision_end|> ...]<|object_ref_start|> x Q<|im_end|>\n

Instructions of a batch are padded INSIDE the sequence, so that every sample has the same layout: positions are computed
once per layout, and the pads, masked out as keys and skipped by the positions, change no result.
Legend: B batch, L tokens, Q queries, grid (t, h, w) in patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from ..instruction import check_instruction
from .pictures import Pictures
from .positions import Grid, Segment, sequence_positions
from .tokenizer import encode_plain, token_id

MAX_INSTRUCTION_TOKENS = 2048
PAD = "<|endoftext|>"  # masked out: which id it is changes nothing


@dataclass(frozen=True, slots=True)
class Prompt:
    """input_ids_BL, attention_mask_BL (bool, False = pad), position_ids_3BL and where the parts start (token index)."""

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    position_ids_3BL: Tensor
    vision_start: int
    reference_starts: tuple[int, ...]
    query_start: int
    padded: bool


def merged_grid(grid: Grid, merge: int) -> Grid:
    """Grid of the tokens the MLLM sees: merge x merge patches each. Raises InputError when it does not divide."""
    t, h, w = grid
    if min(grid) < 1 or h % merge or w % merge:
        raise InputError(f"grid (t, h, w) = {grid}; h and w must be positive multiples of {merge} patches")
    return t, h // merge, w // merge


def encode_instruction(tokenizer: Any, text: str, suffix: str = "", allow_empty: bool = False) -> list[int]:
    """Ids of one instruction followed by `suffix`. Special token strings in it are plain text.

    Raises InputError as check_instruction, and above 2048 tokens.
    """
    check_instruction(text, allow_empty)
    # a token is at least one byte and rarely above 16 characters: refuse before tokenising megabytes
    too_long = len(text) > 16 * MAX_INSTRUCTION_TOKENS
    ids = [] if too_long else encode_plain(tokenizer, text + suffix)
    if too_long or len(ids) > MAX_INSTRUCTION_TOKENS:
        size = f"{len(text)} characters" if too_long else f"{len(ids)} tokens"
        raise InputError(f"the instruction has {size}; at most {MAX_INSTRUCTION_TOKENS} tokens: shorten it")
    return ids


@dataclass(frozen=True, slots=True)
class _Layout:
    row: list[int]  # ids of one sample, its instruction still pads
    segments: tuple[Segment, ...]
    vision_start: int
    text_start: int
    reference_starts: tuple[int, ...]
    query_start: int


def _lay_out(
    tokenizer: Any, config: InstructXConfig, text_length: int, pictures: Pictures, query_count: int
) -> _Layout:
    names = ("im_start", "im_end", "object_ref_start", "vision_start", "vision_end", "image_pad", "video_pad")
    ids = {name: token_id(tokenizer, f"<|{name}|>") for name in names}
    newline = encode_plain(tokenizer, "\n")
    merge = config.mllm.vision.spatial_merge_size

    system = encode_plain(tokenizer, "system\n" + config.instruction.system_prompt)
    row = [ids["im_start"], *system, ids["im_end"], *newline]
    row += [ids["im_start"], *encode_plain(tokenizer, "user\n"), ids["vision_start"]]
    vision_start = len(row)
    cells = merged_grid(pictures.grid, merge)
    row += [ids["video_pad" if pictures.modality == "video" else "image_pad"]] * (cells[0] * cells[1] * cells[2]) + [
        ids["vision_end"]
    ]
    segments: list[Segment] = [(vision_start, None), (0, cells), (1 + text_length, None)]
    text_start = len(row)
    row += [token_id(tokenizer, PAD)] * text_length

    reference_starts: list[int] = []
    for reference in pictures.reference_grids:
        cells = merged_grid(reference, merge)
        row.append(ids["vision_start"])
        reference_starts.append(len(row))
        row += [ids["image_pad"]] * (cells[0] * cells[1] * cells[2]) + [ids["vision_end"]]
        segments += [(1, None), (0, cells), (1, None)]
    query_start = len(row)
    row += [ids["object_ref_start"]] * query_count + [ids["im_end"], *newline]
    segments.append((query_count + 1 + len(newline), None))
    return _Layout(row, tuple(segments), vision_start, text_start, tuple(reference_starts), query_start)


def build_prompt(
    tokenizer: Any,
    config: InstructXConfig,
    texts: list[list[int]],
    pictures: Pictures,
    query_count: int,
    *,
    text_length: int | None = None,
) -> Prompt:
    """Assemble B sequences from instruction ids and the grids of source and references.

    text_length: pad instructions to this many tokens (default: the longest of the batch), for static shapes. Raises
    InputError when an instruction is longer than that.
    """
    longest = max(len(text) for text in texts)
    width = longest if text_length is None else text_length
    if longest > width:
        raise InputError(f"an instruction has {longest} tokens; text_length is {width}: raise it")
    layout = _lay_out(tokenizer, config, width, pictures, query_count)
    text = slice(layout.text_start, layout.text_start + width)
    lengths_B = torch.tensor([len(ids) for ids in texts])
    text_mask_BL = torch.arange(width) < lengths_B[:, None]
    input_ids_BL = torch.tensor(layout.row).repeat(len(texts), 1)
    input_ids_BL[:, text][text_mask_BL] = torch.tensor(list(chain.from_iterable(texts)), dtype=torch.long)
    attention_mask_BL = torch.ones_like(input_ids_BL, dtype=torch.bool)
    attention_mask_BL[:, text] = text_mask_BL
    # Everything after the text moves back by the number of pads, as if there were none.
    position_ids_3BL = sequence_positions(layout.segments, pictures.temporal_step)[:, None].repeat(1, len(texts), 1)
    position_ids_3BL[:, :, text.stop :] -= (width - lengths_B)[None, :, None]
    return Prompt(
        input_ids_BL=input_ids_BL,
        attention_mask_BL=attention_mask_BL,
        position_ids_3BL=position_ids_3BL,
        vision_start=layout.vision_start,
        reference_starts=layout.reference_starts,
        query_start=layout.query_start,
        padded=any(len(ids) != width for ids in texts),
    )
