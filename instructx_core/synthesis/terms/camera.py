"""How the camera moved: each frame of a clip laid over its middle one, by points that most of the picture agrees on.

Place: frames -> camera -> finders, erasers. Points are tracked from frame to frame (pyramidal Lucas-Kanade, there and
back) and an affine motion is fitted that ignores what moves by itself (RANSAC); a second fit against the middle frame
takes out drift.
Shapes: frames_FHWC uint8; matrices (3, 3), from pixels of a frame to pixels of the middle frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

POINTS, LEAST_POINTS = 400, 20
STILL = 0.4  # pixels that a corner may move before the camera counts as moving
AGREE = 0.5  # part of the points that must follow one motion
REACH = 0.75  # pixels, RANSAC
ALIKE = 4.0  # levels by which most of two frames may differ and still be the same place
BETTER = 0.9  # a motion must take the rest to this part of what it is without any


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """to_middle_F33: pixels of each frame -> pixels of the middle one. shift: how far a corner moves at most, pixels.

    agreement: the smallest part of the tracked points that follows the fit; 0 where none could be made.
    """

    to_middle_F33: np.ndarray
    shift: float
    agreement: float

    @property
    def is_static(self) -> bool:
        return self.shift <= STILL


def camera_path(frames_FHWC: np.ndarray) -> CameraPath:
    """The path of a clip's camera. It is not known where points do not agree on one."""
    gray_FHW = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (5, 5), 0) for frame in frames_FHWC]
    middle, size = len(gray_FHW) // 2, gray_FHW[0].shape
    to_middle_F33 = np.tile(np.eye(3), (len(gray_FHW), 1, 1))
    agreement = 1.0
    for numbers in (range(middle + 1, len(gray_FHW)), range(middle - 1, -1, -1)):
        for number in numbers:
            nearer = number - 1 if number > middle else number + 1
            step, agreed = _fit(gray_FHW[number], gray_FHW[nearer])
            guess = to_middle_F33[nearer] @ step
            rest, better = _fit(_laid(gray_FHW[number], guess), gray_FHW[middle])
            # Far from the middle little may be left in common with it; the step alone is good enough then.
            to_middle_F33[number] = rest @ guess if better >= AGREE else guess
            agreement = min(agreement, max(agreed, better))
    shift, (with_motion, without) = _shift(to_middle_F33, size), _rests(gray_FHW, to_middle_F33)
    if shift <= STILL or with_motion > BETTER * without:
        # Noise was tracked, a plain ground, or points of what moves: frames lie on the middle one as they are.
        agreement = 1.0 if without < ALIKE else agreement
        return CameraPath(np.tile(np.eye(3), (len(gray_FHW), 1, 1)), min(shift, STILL), agreement)
    return CameraPath(to_middle_F33, shift, agreement)


def _rests(gray_FHW: list[np.ndarray], to_middle_F33: np.ndarray) -> tuple[float, float]:
    """Mean levels by which frames differ from the middle one, laid over it by their motion and as they are."""
    middle, with_motion, without = gray_FHW[len(gray_FHW) // 2], 0.0, 0.0
    picked = np.unique(np.linspace(0, len(gray_FHW) - 1, 7).astype(int))
    for number in picked:
        laid = _laid(gray_FHW[number], to_middle_F33[number])
        seen = _laid(np.full(middle.shape, 255, np.uint8), to_middle_F33[number]) > 250
        if seen.any():
            with_motion += _rest(laid, middle, seen)
            without += _rest(gray_FHW[number], middle, seen)
    return with_motion / len(picked), without / len(picked)


def _rest(first_HW: np.ndarray, second_HW: np.ndarray, seen_HW: np.ndarray) -> float:
    """Mean difference of the 80 % of pixels that differ least: the rest may move by itself."""
    levels = np.sort(cv2.absdiff(first_HW, second_HW)[seen_HW])
    return float(levels[: max(1, int(0.8 * levels.size))].mean())


def _laid(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpPerspective(picture, matrix, picture.shape[1::-1], flags=cv2.INTER_LINEAR)


def _fit(moved_HW: np.ndarray, fixed_HW: np.ndarray) -> tuple[np.ndarray, float]:
    """(pixels of the first -> pixels of the second, part of the points that agree with it)."""
    points = cv2.goodFeaturesToTrack(moved_HW, POINTS, 0.01, 5)
    if points is None or len(points) < LEAST_POINTS:
        return np.eye(3), 1.0  # nothing to hold on to: a plain ground looks alike wherever the camera turns
    there, good, _ = cv2.calcOpticalFlowPyrLK(moved_HW, fixed_HW, points, None, winSize=(15, 15))
    back, good_back, _ = cv2.calcOpticalFlowPyrLK(fixed_HW, moved_HW, there, None, winSize=(15, 15))
    kept = (good.ravel() > 0) & (good_back.ravel() > 0) & (np.linalg.norm(back - points, axis=-1).ravel() < 0.5)
    if kept.sum() < LEAST_POINTS:
        return np.eye(3), 0.0
    cv2.setRNGSeed(1)
    matrix, inside = cv2.estimateAffine2D(points[kept], there[kept], method=cv2.RANSAC, ransacReprojThreshold=REACH)
    if matrix is None:
        return np.eye(3), 0.0
    return np.vstack([matrix, [0.0, 0.0, 1.0]]), float(inside.mean())


def _shift(matrices_F33: np.ndarray, size: tuple[int, ...]) -> float:
    height, width = size[:2]
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], dtype=np.float64)
    moved = np.concatenate([cv2.perspectiveTransform(corners, matrix) for matrix in matrices_F33])
    return float(np.linalg.norm(moved - corners, axis=-1).max())


def plate_size(path: CameraPath, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """(from pixels of each frame to pixels of the plate, height and width of the plate)."""
    height, width = size
    if path.is_static:
        return path.to_middle_F33, size
    corners = np.array([[[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]], dtype=np.float64)
    places = np.concatenate([cv2.perspectiveTransform(corners, matrix)[0] for matrix in path.to_middle_F33])
    low, high = np.floor(places.min(axis=0)), np.ceil(places.max(axis=0))
    shift = np.eye(3)
    shift[:2, 2] = -low
    across, down = (high - low + 1).astype(int)
    return shift @ path.to_middle_F33, (int(down), int(across))


def plate_area(path: CameraPath, size: tuple[int, int]) -> float:
    """What the camera sees, in frames: 1 where it stands."""
    _, (down, across) = plate_size(path, size)
    return down * across / (size[0] * size[1])
