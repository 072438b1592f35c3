"""Pretraining of the tiny Qwen2.5-VL: look at pictures and clips, describe them, say what is where, read instructions.

Next-token loss on the answers. Half of the samples show a scene; of the others the questions are about an instruction,
or are one, answered by the target in words: Qwen knows the words of editing, its tiny counterpart must have read them
before it is frozen. The language model's head is its own token embedding, as in Qwen2.5-VL-3B.
Legend: B batch, L tokens, S patches, D width, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.cache import Pool, select_samples
from ...data.source import PretrainingSource
from ...encoder.designs import build_encoder
from ...encoder.vision import prepare_batch
from ...errors import InputError
from .. import rng
from ..job import GlobalBatch
from ..machine import Machine
from ..recipes.mllm import MllmRecipe
from ..start import final_weights, load_into
from ..tokenizer import run_tokenizer
from .chat import IGNORE, chat_tokens
from .drawing import draw_batch

SHOWN = 12
Pair = tuple[str, ...]  # a question and its answer


class MllmJob:
    needs: ClassVar[type] = PretrainingSource

    def __init__(
        self,
        recipe: MllmRecipe,
        config: InstructXConfig,
        source: PretrainingSource,
        output: Path,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.config, self.device = recipe, config, machine.device
        self.tokenizer = run_tokenizer(output, config, source)
        torch.manual_seed(recipe.seed)
        self.encoder = build_encoder(config)
        self.root = nn.ModuleDict({"encoder": self.encoder})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        self.root.to(self.device)
        self.trainable = {n: p for n, p in self.root.named_parameters() if n.startswith("encoder.mllm.")}
        cache = machine.cache(output, source)
        counts = {("image", False): recipe.image_pool, ("video", False): recipe.video_pool}
        unseen = {("image", False): recipe.image_validation, ("video", False): recipe.video_validation}
        wanted = {kind: count for kind, count in unseen.items() if counts[kind]}
        self.pools = {each.bucket: cache.questions(each) for each in select_samples(source, "train", counts)}
        self.validation = {each.bucket: cache.questions(each) for each in select_samples(source, "val", wanted)}
        if not self.pools:
            raise InputError(f"{recipe.name} has no samples to train on: give image_pool or video_pool in the recipe")

    def global_batch(self, step: int) -> GlobalBatch:
        return draw_batch(self.recipe, step, tuple(self.pools))

    def _logits(self, frames: Tensor, pairs: list[Pair], bucket: Bucket) -> tuple[Tensor, Tensor]:
        """Logits (B,L,V) from the first answer on, and the labels they predict (B,L). frames (B,F,H,W,3), of 255.

        What comes before answers nothing, and the head is as wide as the vocabulary.
        """
        patches_BSP, grid = prepare_batch(frames.byte(), self.config, bucket.modality)
        chat = chat_tokens(self.tokenizer, self.config, pairs, grid, bucket).to(self.device)
        mllm = self.encoder.mllm
        vision_BSD = self.encoder.encode_vision(patches_BSP.to(self.device), grid)
        text_BLD = mllm.language_model.get_input_embeddings()(chat.input_ids_BL)
        start, stop = chat.vision_start, chat.vision_start + vision_BSD.shape[1]
        hidden_BLD = mllm.language_model(
            inputs_embeds=torch.cat([text_BLD[:, :start], vision_BSD.to(text_BLD), text_BLD[:, stop:]], 1),
            position_ids=chat.position_ids_3L[:, None].expand(-1, len(pairs), -1),
            attention_mask={"full_attention": None},
            use_cache=False,
            return_dict=True,
        ).last_hidden_state
        head_VD = mllm.language_model.get_input_embeddings().weight
        return hidden_BLD[:, chat.answer_start - 1 : -1] @ head_VD.T, chat.labels_BL[:, chat.answer_start :]

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        pool, part = self.pools[batch.bucket], slice(positions.start, positions.stop)
        rows = rng.draw_indices(self.recipe.seed, step, batch.size, len(pool))[part]
        draws = rng.draw_texts(self.recipe.seed, step, batch.size)[part]
        pairs = [pool.text(row, draw) for row, draw in zip(rows, draws, strict=True)]
        return answer_loss(*self._logits(pool.take("frames", rows), pairs, batch.bucket))

    def _first(self, bucket: Bucket, pool: Pool, count: int) -> tuple[list[Pair], Tensor, Tensor]:
        """Of each of the first samples one of its questions in turn; logits and labels."""
        pairs = [pool.text(row, row // 2) for row in range(min(count, len(pool)))]
        return pairs, *self._logits(pool.take("frames", np.arange(len(pairs))), pairs, bucket)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Answer loss, and the share of answers that are wrong in any token; the mean of all sizes."""
        found: dict[str, list[float]] = {}
        for bucket, pool in self.validation.items():
            _, logits_BLV, labels_BL = self._first(bucket, pool, len(pool))
            right = ((logits_BLV.argmax(-1) == labels_BL) | (labels_BL == IGNORE)).all(1).float().mean().item()
            found.setdefault(f"{bucket.modality} loss", []).append(answer_loss(logits_BLV, labels_BL).item())
            found.setdefault(f"{bucket.modality} wrong answers", []).append(1 - right)
        return {name: sum(values) / len(values) for name, values in found.items()}

    @torch.no_grad()
    def picture(self, path: Path | None) -> None:
        """Pictures with the question, the answer wanted and the one given (teacher-forced)."""
        bucket, pool = next(iter(self.validation.items()))
        pairs, logits_BLV, labels_BL = self._first(bucket, pool, SHOWN)
        frames = pool.take("frames", np.arange(len(pairs)))[:, 0].byte().numpy()
        height, left = bucket.height + 16, bucket.width + 26
        canvas = Image.new("RGB", (left + 810, height * len(pairs)), "white")
        draw = ImageDraw.Draw(canvas)
        for row, (question, answer) in enumerate(pairs):
            canvas.paste(Image.fromarray(frames[row]), (8, row * height + 8))
            given = self.tokenizer.decode(logits_BLV[row].argmax(-1)[labels_BL[row] != IGNORE].tolist())
            lines = (question, f"want: {answer}", f"got:  {given}")
            text = "\n".join(line.encode("ascii", "backslashreplace").decode() for line in lines)  # the font's letters
            draw.text((left, row * height + 8), text, fill="black")
        canvas.save(path)

    def finish(self) -> None:
        """Nothing to change."""


def answer_loss(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Mean cross entropy of the answers' tokens."""
    return functional.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=IGNORE)
