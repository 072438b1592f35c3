"""Questions and answers -> tokens in Qwen's chat: system, user (vision, question), assistant (answer).

Part of the MLLM's pretraining (mllm.py). Only the answer counts in the loss.
Legend: B batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...encoder.positions import Grid, Segment, sequence_positions, temporal_step
from ...encoder.prompt import merged_grid
from ...encoder.tokenizer import encode_plain, token_id

IGNORE = -100  # label of tokens that don't count


@dataclass(frozen=True, slots=True)
class Chat:
    """One batch. Vision features replace the tokens from vision_start on."""

    input_ids_BL: Tensor
    labels_BL: Tensor
    position_ids_3L: Tensor
    vision_start: int
    answer_start: int  # the first token of any answer

    def to(self, device: torch.device) -> Chat:
        ids_BL, labels_BL, positions_3L = (
            each.to(device) for each in (self.input_ids_BL, self.labels_BL, self.position_ids_3L)
        )
        return Chat(ids_BL, labels_BL, positions_3L, self.vision_start, self.answer_start)


def chat_tokens(
    tokenizer: Tokenizer, config: InstructXConfig, pairs: Sequence[tuple[str, ...]], grid: Grid, bucket: Bucket
) -> Chat:
    """`pairs` of question and answer about pictures of one bucket, whose patches have this grid."""
    start, end = token_id(tokenizer, "<|im_start|>"), token_id(tokenizer, "<|im_end|>")
    newline = encode_plain(tokenizer, "\n")
    head = [start, *encode_plain(tokenizer, "system\n" + config.instruction.system_prompt), end, *newline]
    head += [start, *encode_plain(tokenizer, "user\n"), token_id(tokenizer, "<|vision_start|>")]
    cells = merged_grid(grid, config.mllm.vision.spatial_merge_size)
    count = cells[0] * cells[1] * cells[2]
    vision = [token_id(tokenizer, f"<|{bucket.modality}_pad|>")] * count + [token_id(tokenizer, "<|vision_end|>")]
    turn = [end, *newline, start, *encode_plain(tokenizer, "assistant\n")]
    rows, labels = [], []
    for question, answer in pairs:
        asked = [*head, *vision, *encode_plain(tokenizer, question), *turn]
        answered = [*encode_plain(tokenizer, answer), end]
        rows.append(asked + answered)
        labels.append([IGNORE] * len(asked) + answered)
    length, answer_start = max(map(len, rows)), min(row.count(IGNORE) for row in labels)
    # Pads come last: the causal mask hides them from everything that counts.
    ids_BL = torch.tensor([row + [end] * (length - len(row)) for row in rows])
    labels_BL = torch.tensor([row + [IGNORE] * (length - len(row)) for row in labels])
    segments: tuple[Segment, ...] = ((len(head), None), (0, cells), (length - len(head) - count, None))
    step = temporal_step(config, bucket.frames, config.sampling.fps)
    return Chat(ids_BL, labels_BL, sequence_positions(segments, step), len(head), answer_start)
