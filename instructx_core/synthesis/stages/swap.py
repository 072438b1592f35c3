"""Swap: another thing in the subject's place. Writes swapped.mp4, the source of a swap; the film is its target.

After reference.py. The paper's two routes: a person before a ground that stands is driven (an edited first frame moves
as the poses of the film say); everything else is in-painted, so that the ground stays as it is.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import CHANGED, MASK, SWAPPED, read_clip, read_mask, write_clip
from ..terms.limits import Limits
from ..terms.masks import grown
from ..terms.roles import Animator, FrameEditor, Inpainter, PoseReader, Poses, SwapWords, Writer, without_article
from .check import psnr_outside

DRIVEN, INPAINTED = "driven", "in-painted"
SAME = 99.0  # dB, where nothing was drawn
PEOPLE = ("person", "man", "woman", "boy", "girl", "child", "dancer", "player", "people")
NO_SWAP = {"route": ""}


@dataclass(frozen=True, slots=True)
class Puppeteers:
    """The three of the pose-driven route."""

    frame_editor: FrameEditor
    poses: PoseReader
    animator: Animator


@dataclass(frozen=True, slots=True)
class Swap:
    """A clip that gives no swap still gives its other pairs: nothing is rejected here, the facts say why."""

    writer: Writer
    inpainter: Inpainter | None
    puppeteers: Puppeteers | None
    limits: Limits
    gpus: float = 0.0
    name: str = "swap"

    @property
    def version(self) -> str:
        driven = self.puppeteers
        players = [self.writer.name, self.inpainter.name if self.inpainter else "nobody"]
        if driven is not None:
            players += [driven.frame_editor.name, driven.poses.name, driven.animator.name]
        return f"1 {' '.join(players)} posed={self.limits.posed:g} {limits_of(self.name, self.limits)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        phrase = candidate.fact("subject", "phrase")
        route = self._route(candidate)
        if not route:
            return candidate.with_facts(self.name, **NO_SWAP, why="nobody plays the route that it needs")
        frames_FHWC, mask_FHW = read_clip(folder), read_mask(folder, MASK)
        words = self.writer.swap(frames_FHWC, phrase or candidate.fact("describe", "colour") + " object", candidate.id)
        if route == DRIVEN:
            swapped_FHWC, measures = self._driven(frames_FHWC, mask_FHW, words)
            if swapped_FHWC is None:
                return candidate.with_facts(self.name, **NO_SWAP, why="no pose can be read", **measures)
        else:
            assert self.inpainter is not None
            swapped_FHWC = self.inpainter.inpaint(frames_FHWC, read_mask(folder, CHANGED), phrase, words.other)
            measures = {"redrawn": SAME, "start": 0.0, "astray": 0.0}
        write_clip(folder, SWAPPED, swapped_FHWC, candidate.fps)
        swapped_FHWC = read_clip(folder, SWAPPED)
        ground = psnr_outside(frames_FHWC, swapped_FHWC, grown(read_mask(folder, CHANGED), 9))
        measures |= {
            "visible": float(np.abs(frames_FHWC[mask_FHW].astype(np.int16) - swapped_FHWC[mask_FHW]).mean()),
            "flicker": restless(swapped_FHWC, frames_FHWC, mask_FHW),
            **({"outside": SAME, "redrawn": ground} if route == DRIVEN else {"outside": ground}),
        }
        reject = find_reject(self.name, measures, self.limits)
        if reject is not None:
            return candidate.with_facts(self.name, **NO_SWAP, why=reject.reason, **measures)
        text = self.writer.instruction(read_clip(folder, SWAPPED), frames_FHWC, "swap", words.back)
        return candidate.with_facts(
            self.name, route=route, text=text, edit=words.edit, other=without_article(words.other), why="", **measures
        )

    def _route(self, candidate: Candidate) -> str:
        is_person = bool({*candidate.fact("subject", "phrase").lower().split()} & {*PEOPLE})
        if is_person and candidate.fact("ground", "kind") == "static" and self.puppeteers is not None:
            return DRIVEN
        return INPAINTED if self.inpainter is not None else ""

    def _driven(
        self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, words: SwapWords
    ) -> tuple[np.ndarray | None, dict[str, float]]:
        """The whole frame is drawn anew: the first one edited, the others as it moves by the film's poses."""
        cast = self.puppeteers
        assert cast is not None
        poses = cast.poses.read(frames_FHWC, mask_FHW)
        if poses.sureness < self.limits.posed:
            return None, {"sureness": poses.sureness}
        first_HWC = cast.frame_editor.edit_frame(frames_FHWC[0], words.edit)
        driven_FHWC = cast.animator.animate(first_HWC, frames_FHWC, poses, words.other)
        return driven_FHWC, {
            "sureness": poses.sureness,
            "start": float(np.abs(driven_FHWC[0].astype(np.int16) - first_HWC).mean()),
            "astray": apart(poses, cast.poses.read(driven_FHWC, mask_FHW), mask_FHW),
        }


def restless(swapped_FHWC: np.ndarray, frames_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float:
    """How much more the new thing changes from frame to frame than the film's does, where both frames show it."""
    more = list[float]()
    for number in range(1, len(mask_FHW)):
        both_HW = mask_FHW[number] & mask_FHW[number - 1]
        if both_HW.any():
            new, old = (
                np.abs(frames[number][both_HW].astype(np.int16) - frames[number - 1][both_HW]).mean()
                for frames in (swapped_FHWC, frames_FHWC)
            )
            more.append(float(new - old))
    return max(0.0, float(np.mean(more))) if more else 0.0


def apart(first: Poses, second: Poses, mask_FHW: np.ndarray) -> float:
    """Mean distance of the points that are seen in both, as a share of the body's height; 1 where there is none."""
    both_FK = np.minimum(first.points_FK3[..., 2], second.points_FK3[..., 2]) > 0.3
    if not both_FK.any():
        return 1.0
    distance_FK = np.linalg.norm(first.points_FK3[..., :2] - second.points_FK3[..., :2], axis=-1)
    height = float(np.mean([np.ptp(np.flatnonzero(mask.any(axis=1))) + 1 for mask in mask_FHW if mask.any()]))
    return float(distance_FK[both_FK].mean()) / height
