"""How near what was put in is to its reference: cosine of CLIP's or DINO's features, by weights that the user gives.

Place: reference, output, mask -> similarity -> measure. Any folder that transformers' AutoModel and AutoImageProcessor
read: CLIP and SigLIP by their image features, DINO and others by the pooled token. Of the output the box of the mask is
seen, or all of it without one; of a clip the first, middle and last frame.
Shapes: frames_FHWC uint8, mask_FHW bool.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...digests import weights_digest
from ...errors import InputError
from ...precision import usual_dtype
from ..sheet import shown_frames


class ReferenceSimilarity:
    """Features of pictures and their cosine."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that is no model of pictures. Loads nothing from elsewhere."""
        from transformers import AutoImageProcessor, AutoModel

        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no config.json in it; give the folder of a CLIP or DINO for transformers")
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
            self.model = model.to(usual_dtype("cpu")).eval()  # where it stays
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder}: is no model of pictures for transformers ({error}); give a CLIP or DINO"
            ) from None

    @property
    def key(self) -> str:
        """Identifies the weights, in their number format, and how pictures are prepared for them."""
        digest = hashlib.sha256(weights_digest(self.model.state_dict()).encode())
        digest.update(json.dumps(self.processor.to_dict(), sort_keys=True, default=str).encode())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def features(self, pictures: list[np.ndarray]) -> Tensor:
        """(pictures, width), each of length 1."""
        values = self.processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
        if hasattr(self.model, "get_image_features"):
            found = self.model.get_image_features(pixel_values=values["pixel_values"])
        else:
            found = self.model(pixel_values=values["pixel_values"])
        if not isinstance(found, Tensor):  # newer transformers give an output object
            pooled = getattr(found, "pooler_output", None)
            found = found.last_hidden_state[:, 0] if pooled is None else pooled
        return found / found.norm(dim=-1, keepdim=True)

    def __call__(self, reference_HWC: np.ndarray, frames_FHWC: np.ndarray, mask_FHW: np.ndarray | None) -> float:
        numbers = shown_frames(len(frames_FHWC))
        seen = [_boxed(frames_FHWC[n], None if mask_FHW is None else mask_FHW[n % len(mask_FHW)]) for n in numbers]
        features = self.features([reference_HWC, *seen])
        return float((features[1:] @ features[0]).mean())


def _boxed(frame_HWC: np.ndarray, mask_HW: np.ndarray | None) -> np.ndarray:
    """The part of a frame that the mask's box holds; all of it without a mask, or where that is empty."""
    if mask_HW is None or not mask_HW.any():
        return frame_HWC
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return np.ascontiguousarray(frame_HWC[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
