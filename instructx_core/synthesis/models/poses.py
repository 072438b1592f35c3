"""Poses of a person: ViTPose (transformers), or DW-pose as ONNX (rtmlib). The subject's mask says where the person is.

Place: a clip, its mask -> poses -> diffusion.py.
Shapes: frames_FHWC uint8; mask_FHW bool; points_FK3 x, y in pixels and how sure, of COCO's 17 points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch

from ..terms.masks import box_around, main_piece
from ..terms.roles import Poses, Unplayable
from .reading import read_part, weights_name

POINTS = 17
SEEN = 0.3  # how sure a point must be to be drawn
LIMBS = (
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
)


@dataclass(frozen=True, slots=True)
class VitPoses:
    weights: str
    device: str = ""

    @property
    def name(self) -> str:
        return f"vitpose {weights_name(self.weights)}"

    @torch.no_grad()
    def read(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray) -> Poses:
        model: Any = read_part("VitPoseForPoseEstimation", self.weights, self.device)
        processor: Any = read_part("VitPoseImageProcessor", self.weights)
        points_FK3 = np.zeros((len(frames_FHWC), POINTS, 3), np.float32)
        for number, (frame, mask) in enumerate(zip(frames_FHWC, mask_FHW, strict=True)):
            if not mask.any():
                continue
            left, top, right, bottom = box_around(main_piece(mask))
            boxes = np.array([[left, top, right - left, bottom - top]], dtype=np.float32)
            inputs = processor(images=[frame], boxes=[boxes], return_tensors="pt").to(model.device)
            ((found,),) = processor.post_process_pose_estimation(model(**inputs), boxes=[boxes])
            points_FK3[number, :, :2] = found["keypoints"].numpy()
            points_FK3[number, :, 2] = found["scores"].numpy()
        return Poses(points_FK3)


@dataclass(frozen=True, slots=True)
class RtmPoses:
    """weights: an ONNX file of RTMPose or DW-pose; of whole-body ones the first 17 points are the body's."""

    weights: str
    device: str = ""

    @property
    def name(self) -> str:
        return f"rtmlib {weights_name(self.weights)}"

    def read(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray) -> Poses:
        model = _read_onnx(self.weights, self.device or "cpu")
        points_FK3 = np.zeros((len(frames_FHWC), POINTS, 3), np.float32)
        for number, (frame, mask) in enumerate(zip(frames_FHWC, mask_FHW, strict=True)):
            if mask.any():
                points, scores = model(
                    np.ascontiguousarray(frame[..., ::-1]), bboxes=[list(box_around(main_piece(mask)))]
                )
                points_FK3[number, :, :2] = points[0][:POINTS]
                points_FK3[number, :, 2] = scores[0][:POINTS]
        return Poses(points_FK3)


@lru_cache(maxsize=1)
def _read_onnx(weights: str, device: str) -> Any:
    try:
        from rtmlib import RTMPose  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise Unplayable("poses by rtmlib need it; install it with: pip install rtmlib onnxruntime") from None
    return RTMPose(weights, model_input_size=(288, 384), backend="onnxruntime", device=device)


def draw_poses(poses: Poses, size: tuple[int, int]) -> np.ndarray:
    """Skeletons on black, (F, H, W, 3) uint8: a colour a limb, as pose-driven models were shown."""
    drawn_FHWC = np.zeros((len(poses.points_FK3), *size, 3), np.uint8)
    thick = max(1, round(min(size) / 120))
    for drawn, points_K3 in zip(drawn_FHWC, poses.points_FK3, strict=True):
        for number, (first, second) in enumerate(LIMBS):
            if min(points_K3[first, 2], points_K3[second, 2]) < SEEN:
                continue
            colour = cv2.cvtColor(np.array([[[180 * number // len(LIMBS), 255, 255]]], np.uint8), cv2.COLOR_HSV2RGB)
            ends = [tuple(int(round(float(value))) for value in points_K3[end, :2]) for end in (first, second)]
            cv2.line(drawn, ends[0], ends[1], tuple(int(value) for value in colour[0, 0]), thick, cv2.LINE_AA)
    return drawn_FHWC


def faces(frames_FHWC: np.ndarray, poses: Poses, side: int) -> np.ndarray:
    """The square around the head in every frame, (F, side, side, 3); black where it is not seen."""
    found_FHWC = np.zeros((len(frames_FHWC), side, side, 3), np.uint8)
    for number, points_K3 in enumerate(poses.points_FK3):
        head = points_K3[:5][points_K3[:5, 2] >= SEEN]
        if len(head) < 2:
            continue
        middle, reach = head[:, :2].mean(axis=0), max(8.0, 1.5 * float(np.ptp(head[:, :2], axis=0).max()))
        left, top = (int(value - reach) for value in middle)
        right, bottom = (int(value + reach) for value in middle)
        part = frames_FHWC[number, max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if part.size:
            found_FHWC[number] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return found_FHWC
