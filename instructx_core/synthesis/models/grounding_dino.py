"""Grounding DINO as grounder: phrases -> boxes in the middle frame.

Place: transformers -> grounding_dino -> ../grounded.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..terms.camera import CameraPath
from ..terms.roles import Sighting
from .reading import read_part, weights_name

SURE = 0.35  # of a box and of its words, below which it is none


@dataclass(frozen=True, slots=True)
class DinoGrounder:
    weights: str
    device: str = ""

    @property
    def name(self) -> str:
        return f"grounding dino {weights_name(self.weights)}"

    @torch.no_grad()
    def ground(self, frames_FHWC: np.ndarray, phrases: Sequence[str], path: CameraPath) -> list[Sighting]:
        model: Any = read_part("GroundingDinoForObjectDetection", self.weights, self.device)
        processor: Any = read_part("GroundingDinoProcessor", self.weights)
        number, found = len(frames_FHWC) // 2, list[Sighting]()
        height, width = frames_FHWC.shape[1:3]
        for phrase in phrases:  # one at a time: in one text the words of phrases mix
            inputs = processor(images=frames_FHWC[number], text=f"{phrase.lower()}.", return_tensors="pt")
            outputs = model(**inputs.to(model.device))
            (result,) = processor.post_process_grounded_object_detection(
                outputs, inputs["input_ids"], threshold=SURE, text_threshold=SURE, target_sizes=[(height, width)]
            )
            for score, box in zip(result["scores"].tolist(), result["boxes"].tolist(), strict=True):
                left, top = max(0, int(box[0])), max(0, int(box[1]))
                right, bottom = min(width, round(box[2])), min(height, round(box[3]))
                if right > left and bottom > top:
                    found.append(Sighting(phrase, number, (left, top, right, bottom), float(score)))
        return found
