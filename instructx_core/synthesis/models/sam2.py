"""SAM 2 as tracker: a box in one frame -> the thing's pixels in all of them, forwards and backwards.

Place: transformers -> sam2 -> ../grounded.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..terms.camera import CameraPath
from ..terms.roles import Sighting
from .reading import read_part, weights_name


@dataclass(frozen=True, slots=True)
class Sam2Tracker:
    weights: str
    device: str = ""

    @property
    def name(self) -> str:
        return f"sam 2 {weights_name(self.weights)}"

    @torch.no_grad()
    def track(self, frames_FHWC: np.ndarray, sighting: Sighting, path: CameraPath) -> np.ndarray:
        model: Any = read_part("Sam2VideoModel", self.weights, self.device)
        processor: Any = read_part("Sam2VideoProcessor", self.weights)
        size = frames_FHWC.shape[1:3]
        session = processor.init_video_session(video=list(frames_FHWC), inference_device=model.device)
        box = [[[float(edge) for edge in sighting.box]]]
        processor.add_inputs_to_inference_session(session, frame_idx=sighting.frame, obj_ids=1, input_boxes=box)
        mask_FHW = np.zeros(frames_FHWC.shape[:3], dtype=bool)
        model(inference_session=session, frame_idx=sighting.frame)
        for reverse in (False, True):
            for output in model.propagate_in_video_iterator(session, sighting.frame, reverse=reverse):
                (masks,) = processor.post_process_masks([output.pred_masks], original_sizes=[size])
                mask_FHW[output.frame_idx] = masks[0, 0].cpu().numpy()
        return mask_FHW
