"""Pretraining of the tiny Qwen2.5-VL: look at pictures and clips, describe them, say what is where (next-token loss).

With instructions (tiny_mllm_words), some questions are an instruction, and the answer is the caption of the edited
picture: Qwen knows the words of editing, its tiny counterpart must have read them before it is frozen.
The sequence is Qwen's chat: system, user (vision, question), assistant (answer); only the answer counts. The language
model's head is its own token embedding, as in Qwen2.5-VL-3B.
Legend: B batch, L tokens, S patches, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from .. import shapes
from ..config import InstructXConfig
from ..encoder.model import build_encoder
from ..encoder.positions import Segment, sequence_positions, temporal_step
from ..encoder.prompt import merged_grid
from ..encoder.tokenizer import encode_plain, token_id
from ..encoder.vision import prepare_pictures
from ..shapes.scene import FRAMES
from . import rng
from .pools import edit_sample
from .recipes import Recipe
from .start import final_weights, load_into
from .trainer import Bucket
from .world_text import world_tokenizer

DESCRIBE_SHARE = 0.5  # of the questions
IGNORE = -100  # label of tokens that don't count


class MllmJob:
    def __init__(self, recipe: Recipe, config: InstructXConfig, output: Path) -> None:
        self.recipe, self.config = recipe, config
        self.tokenizer = world_tokenizer(output, config)
        torch.manual_seed(recipe.seed)
        self.encoder = build_encoder(config)
        self.root = nn.ModuleDict({"encoder": self.encoder})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        prefixes = tuple(f"encoder.{group}." for group in recipe.train)
        self.trainable = {n: p for n, p in self.root.named_parameters() if n.startswith(prefixes)}

    def bucket(self, step: int) -> Bucket:
        modality = rng.draw_modality(self.recipe.seed, step, self.recipe.video_probability)
        recipe = self.recipe
        if modality == "video":
            return Bucket(modality, False, recipe.video_batch, recipe.micro_video_batch)
        return Bucket(modality, False, recipe.image_batch, recipe.micro_image_batch)

    def _questions(self, split: str, indices: np.ndarray, modality: str) -> list[tuple[np.ndarray, str, str]]:
        """(frames (F,H,W,3), question, answer) by number."""
        share, found = self.recipe.instruction_share, []
        for index in map(int, indices):
            generator = rng.philox(index, rng.INDEX)
            if share and generator.random() < share:
                edit = edit_sample(split, index, modality, has_reference=False)
                found.append((edit.source_FHWC, edit.instruction, edit.caption))
                continue
            frames_FHWC, _, scene = shapes.scene_sample(split, index, modality, shapes.looks_of(modality))
            pairs = shapes.qa_pairs(scene, generator)
            first = generator.random() < DESCRIBE_SHARE
            found.append((frames_FHWC, *(pairs[0] if first else pairs[int(generator.integers(len(pairs)))])))
        return found

    def _batch(self, split: str, indices: np.ndarray, modality: str) -> tuple[Tensor, tuple, list[str], list[str]]:
        """Patches (B,S,P), their grid, questions and answers."""
        patches, questions, answers, grid = [], [], [], (0, 0, 0)
        for frames_FHWC, question, answer in self._questions(split, indices, modality):
            picture, grid = prepare_pictures(torch.from_numpy(frames_FHWC), self.config, modality)
            patches.append(picture)
            questions.append(question)
            answers.append(answer)
        return torch.stack(patches), grid, questions, answers

    def _tokens(self, questions: list[str], answers: list[str], grid: tuple, modality: str) -> tuple[Tensor, ...]:
        """input_ids_BL, labels_BL, position_ids_3L and where the vision tokens start."""
        tokenizer, merge = self.tokenizer, self.config.mllm.vision.spatial_merge_size
        start, end = token_id(tokenizer, "<|im_start|>"), token_id(tokenizer, "<|im_end|>")
        newline = encode_plain(tokenizer, "\n")
        head = [start, *encode_plain(tokenizer, "system\n" + self.config.instruction.system_prompt), end, *newline]
        head += [start, *encode_plain(tokenizer, "user\n"), token_id(tokenizer, "<|vision_start|>")]
        cells = merged_grid(grid, merge)
        count = cells[0] * cells[1] * cells[2]
        vision = [token_id(tokenizer, f"<|{modality}_pad|>")] * count + [token_id(tokenizer, "<|vision_end|>")]
        turn = [end, *newline, start, *encode_plain(tokenizer, "assistant\n")]
        rows, labels = [], []
        for question, answer in zip(questions, answers, strict=True):
            asked = [*head, *vision, *encode_plain(tokenizer, question), *turn]
            said = [*encode_plain(tokenizer, answer), end]
            rows.append(asked + said)
            labels.append([IGNORE] * len(asked) + said)
        length = max(map(len, rows))
        # Pads come last: the causal mask hides them from everything that counts.
        ids_BL = torch.tensor([row + [end] * (length - len(row)) for row in rows])
        labels_BL = torch.tensor([row + [IGNORE] * (length - len(row)) for row in labels])
        segments: tuple[Segment, ...] = ((len(head), None), (0, cells), (length - len(head) - count, None))
        step = temporal_step(self.config, FRAMES[modality], self.config.sampling.fps)
        return ids_BL, labels_BL, sequence_positions(segments, step), torch.tensor(len(head))

    def _logits(self, split: str, indices: np.ndarray, modality: str) -> tuple[Tensor, Tensor]:
        """Logits (B,L-1,V) and the labels they predict (B,L-1)."""
        patches_BSP, grid, questions, answers = self._batch(split, indices, modality)
        ids_BL, labels_BL, positions_3L, start = self._tokens(questions, answers, grid, modality)
        mllm = self.encoder.mllm
        vision_BSD = self.encoder.encode_vision(patches_BSP, grid)
        text_BLD = mllm.language_model.get_input_embeddings()(ids_BL)
        at, count = int(start), vision_BSD.shape[1]
        embeds_BLD = torch.cat([text_BLD[:, :at], vision_BSD, text_BLD[:, at + count :]], 1)
        hidden_BLD = mllm.language_model(
            inputs_embeds=embeds_BLD,
            position_ids=positions_3L[:, None].expand(-1, len(ids_BL), -1),
            attention_mask={"full_attention": None},
            use_cache=False,
            return_dict=True,
        ).last_hidden_state
        return hidden_BLD[:, :-1] @ mllm.language_model.get_input_embeddings().weight.T, labels_BL[:, 1:]

    def loss(self, step: int, bucket: Bucket, positions: range) -> Tensor:
        indices = rng.draw_indices(self.recipe.seed, step, bucket.batch, 10**9)[positions.start : positions.stop]
        logits_BLV, labels_BL = self._logits("train", indices, bucket.modality)
        return functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Answer loss, and the share of answers that are right in every token (1 = all wrong, as an error)."""
        values = {}
        for modality, count in (("image", 128), ("video", 32)):
            logits_BLV, labels_BL = self._logits("val", np.arange(count), modality)
            counted = labels_BL != IGNORE
            right = ((logits_BLV.argmax(-1) == labels_BL) | ~counted).all(1).float().mean().item()
            loss = functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE)
            values |= {f"{modality} loss": loss.item(), f"{modality} wrong answers": 1 - right}
        return values

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        """Eight pictures with the question, the answer wanted and the one given (teacher-forced)."""
        indices = np.arange(8)
        shown = self._questions("val", indices, "image")
        logits_BLV, labels_BL = self._logits("val", indices, "image")
        canvas = Image.new("RGB", (900, 80 * len(indices)), "white")
        draw = ImageDraw.Draw(canvas)
        for row, (frames_FHWC, question, answer) in enumerate(shown):
            canvas.paste(Image.fromarray(frames_FHWC[0]), (8, row * 80 + 8))
            said = self.tokenizer.decode(logits_BLV[row].argmax(-1)[labels_BL[row] != IGNORE].tolist())
            draw.text((90, row * 80 + 8), f"{question}\nwant: {answer}\ngot:  {said}", fill="black")
        canvas.save(path)

    def finish(self) -> None:
        """Nothing to change."""
