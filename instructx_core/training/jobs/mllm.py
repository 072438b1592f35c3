"""Pretraining of the tiny Qwen2.5-VL: look at pictures and clips, describe them, say what is where (next-token loss).

With instruction_share some questions are an instruction, and the answer is the caption of the edited picture: Qwen
knows the words of editing, its tiny counterpart must have read them before it is frozen. The language model's head is
its own token embedding, as in Qwen2.5-VL-3B.
Legend: B batch, L tokens, S patches, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.source import PretrainingSource
from ...encoder.model import build_encoder
from ...encoder.vision import prepare_pictures
from .. import rng
from ..machine import Machine
from ..recipes.mllm import MllmRecipe
from ..start import final_weights, load_into
from ..tokenizer import run_tokenizer
from .chat import IGNORE, chat_tokens
from .drawing import draw_batch, first_numbers, plain_buckets, validation_counts
from .job import GlobalBatch

DESCRIBE_SHARE = 0.5  # of the questions about scenes
SHOWN = {"image": 8, "video": 8}
PARTS = {"whole": "encoder.mllm.", "language_model": "encoder.mllm.language_model."}


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """frames (F,H,W,3), what is asked about them, and the right answer."""

    frames_FHWC: np.ndarray
    text: str
    answer: str


class MllmJob:
    def __init__(
        self,
        recipe: MllmRecipe,
        config: InstructXConfig,
        source: PretrainingSource,
        output: Path,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.config, self.source = recipe, config, source
        self.tokenizer = run_tokenizer(output, config, source)
        torch.manual_seed(recipe.seed)
        self.encoder = build_encoder(config)
        self.root = nn.ModuleDict({"encoder": self.encoder})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        part = PARTS[recipe.part]
        self.trainable = {name: p for name, p in self.root.named_parameters() if name.startswith(part)}

    def global_batch(self, step: int) -> GlobalBatch:
        return draw_batch(self.recipe, step, plain_buckets(self.source, "train"))

    def questions(self, split: str, numbers: np.ndarray, bucket: Bucket) -> list[Question]:
        """The question of each number: about a scene, or an instruction."""
        share, found = self.recipe.instruction_share, []
        for number in map(int, numbers):
            generator = rng.philox(number, rng.INDEX)
            if share and generator.random() < share:
                edit = self.source.edit(split, number, bucket)
                found.append(Question(edit.source_FHWC, edit.instruction, edit.caption))
                continue
            scene = self.source.scene(split, number, bucket)
            pairs = scene.questions(generator)
            describe = generator.random() < DESCRIBE_SHARE
            pair = pairs[0] if describe else pairs[int(generator.integers(len(pairs)))]
            found.append(Question(scene.frames_FHWC, *pair))
        return found

    def _logits(self, questions: list[Question], bucket: Bucket) -> tuple[Tensor, Tensor]:
        """Logits (B,L-1,V) and the labels they predict (B,L-1)."""
        pictures = [
            prepare_pictures(torch.from_numpy(question.frames_FHWC), self.config, bucket.modality)
            for question in questions
        ]
        patches_BSP, grid = torch.stack([patches for patches, _ in pictures]), pictures[0][1]
        pairs = [(question.text, question.answer) for question in questions]
        chat = chat_tokens(self.tokenizer, self.config, pairs, grid, bucket)
        mllm = self.encoder.mllm
        vision_BSD = self.encoder.encode_vision(patches_BSP, grid)
        text_BLD = mllm.language_model.get_input_embeddings()(chat.input_ids_BL)
        start, stop = chat.vision_start, chat.vision_start + vision_BSD.shape[1]
        hidden_BLD = mllm.language_model(
            inputs_embeds=torch.cat([text_BLD[:, :start], vision_BSD, text_BLD[:, stop:]], 1),
            position_ids=chat.position_ids_3L[:, None].expand(-1, len(questions), -1),
            attention_mask={"full_attention": None},
            use_cache=False,
            return_dict=True,
        ).last_hidden_state
        head_VD = mllm.language_model.get_input_embeddings().weight
        return hidden_BLD[:, :-1] @ head_VD.T, chat.labels_BL[:, 1:]

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        size = self.source.size("train", batch.bucket)
        numbers = rng.draw_indices(self.recipe.seed, step, batch.size, size)[positions.start : positions.stop]
        return answer_loss(*self._logits(self.questions("train", numbers, batch.bucket), batch.bucket))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Answer loss, and the share of answers that are wrong in any token; the mean of all sizes."""
        found: dict[str, list[float]] = {}
        for bucket in plain_buckets(self.source, "val"):
            numbers = first_numbers(self.source, "val", bucket, validation_counts(self.recipe))
            questions = self.questions("val", numbers, bucket)
            logits_BLV, labels_BL = self._logits(questions, bucket)
            right = ((logits_BLV.argmax(-1) == labels_BL) | (labels_BL == IGNORE)).all(1).float().mean().item()
            found.setdefault(f"{bucket.modality} loss", []).append(answer_loss(logits_BLV, labels_BL).item())
            found.setdefault(f"{bucket.modality} wrong answers", []).append(1 - right)
        return {name: sum(values) / len(values) for name, values in found.items()}

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        """Pictures with the question, the answer wanted and the one given (teacher-forced)."""
        bucket = plain_buckets(self.source, "val")[0]
        questions = self.questions("val", first_numbers(self.source, "val", bucket, SHOWN), bucket)
        logits_BLV, labels_BL = self._logits(questions, bucket)
        height, left = bucket.height + 16, bucket.width + 26
        canvas = Image.new("RGB", (left + 810, height * len(questions)), "white")
        draw = ImageDraw.Draw(canvas)
        for row, question in enumerate(questions):
            canvas.paste(Image.fromarray(question.frames_FHWC[0]), (8, row * height + 8))
            given = self.tokenizer.decode(logits_BLV[row].argmax(-1)[labels_BL[row] != IGNORE].tolist())
            text = f"{question.text}\nwant: {question.answer}\ngot:  {given}"
            draw.text((left, row * height + 8), text, fill="black")
        canvas.save(path)

    def finish(self) -> None:
        """Nothing to change."""


def answer_loss(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Mean cross entropy of the answers' tokens."""
    return functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE)
