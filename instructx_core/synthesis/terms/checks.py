"""What candidates are judged by: each measure with its limit, its side, and the reason if it fails.

Place: limits.py -> checks -> stages/, report.py. One table, so that a stage, its version and the report that shows what
another limit would cost cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .candidate import Reject
from .limits import Limits


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """measure: of the stage's facts; limit: a field of Limits that it must reach ("least") or not exceed ("most")."""

    measure: str
    limit: str
    side: Literal["least", "most"]
    reason: str

    def fails(self, value: float, limits: Limits) -> bool:
        limit = float(getattr(limits, self.limit))
        return value < limit if self.side == "least" else value > limit


CHECKS: dict[str, tuple[LimitCheck, ...]] = {
    "gates": (
        LimitCheck("side", "least_side", "least", "the film is too small"),
        LimitCheck("black", "black", "most", "black frames"),
        LimitCheck("change", "change", "least", "nothing changes"),
        LimitCheck("sharpness", "sharpness", "least", "not sharp"),
        LimitCheck("text", "text", "most", "letters in the picture"),
    ),
    "camera": (
        LimitCheck("agreement", "agreement", "least", "the camera cannot be followed"),
        LimitCheck("area", "plate_area", "most", "the camera sees too many places"),
    ),
    "subject": (
        LimitCheck("area", "smallest", "least", "the subject is too small"),
        LimitCheck("area", "largest", "most", "the subject is too large"),
        LimitCheck("present", "present", "least", "the subject is not there for long enough"),
        LimitCheck("jump", "jump", "most", "the subject's area jumps"),
        LimitCheck("lone", "lone", "least", "the subject is not one piece"),
        LimitCheck("stray", "stray", "most", "something else belongs to the subject"),
    ),
    "erase": (
        LimitCheck("hole", "hole", "most", "what lies behind is never seen"),
        LimitCheck("drift", "drift", "most", "the plate does not lie where the clip does"),
        LimitCheck("misfit", "misfit", "most", "something else moves beside the subject"),
    ),
    "swap": (
        LimitCheck("visible", "visible", "least", "the swap is hardly visible"),
        LimitCheck("outside", "outside", "least", "it changed outside of the swap"),
        LimitCheck("redrawn", "redrawn", "least", "the ground was drawn differently"),
        LimitCheck("start", "start", "most", "it does not begin with the edited frame"),
        LimitCheck("astray", "astray", "most", "it does not move as the film does"),
        LimitCheck("flicker", "flicker", "most", "the swapped region flickers"),
    ),
    "check": (
        LimitCheck("outside", "outside", "least", "it changed outside of the edit"),
        LimitCheck("visible", "visible", "least", "the edit is hardly visible"),
        LimitCheck("found", "found", "most", "the subject is still found"),
        LimitCheck("remainder", "remainder", "most", "something of the subject is left"),
        LimitCheck("flicker", "flicker", "most", "the filled region flickers"),
        LimitCheck("seam", "seam", "most", "the border of the filled region shows"),
    ),
}


def find_reject(stage: str, measures: Mapping[str, float], limits: Limits) -> Reject | None:
    """The first check that fails, with all measures of the stage."""
    for check in CHECKS[stage]:
        value = measures[check.measure]
        if check.fails(value, limits):
            return Reject(stage, check.reason, value, float(getattr(limits, check.limit)), dict(measures))
    return None


def limits_of(stage: str, limits: Limits) -> str:
    """The limits that a stage uses, as a part of its version."""
    return " ".join(f"{check.limit}={getattr(limits, check.limit):g}" for check in CHECKS[stage])
