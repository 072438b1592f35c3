"""The stages of a back end in their order. One list for the plain loop, for many processes and for many machines.

Place: limits.py, stages/, a back end's roles -> pipeline -> run.py.
"""

from __future__ import annotations

from .classic.eraser import PlateEraser
from .classic.finder import MotionFinder
from .limits import Limits
from .roles import Eraser, Finder
from .stage import ClipStage
from .stages.camera import Camera
from .stages.check import CheckErased
from .stages.describe import Describe
from .stages.erase import Erase
from .stages.fingerprint import Fingerprint
from .stages.gates import Gates
from .stages.instruct import Instruct
from .stages.recolour import Recolour
from .stages.reference import Reference
from .stages.subject import ChooseSubject


def stages_of(limits: Limits, finder: Finder | None = None, eraser: Eraser | None = None) -> tuple[ClipStage, ...]:
    """Every stage; without roles the classic ones."""
    finder, eraser = finder or MotionFinder(), eraser or PlateEraser()
    return (
        Gates(limits),
        Camera(limits),
        ChooseSubject(finder, limits),
        Erase(eraser, limits),
        CheckErased(MotionFinder(), limits),
        Fingerprint(),
        Describe(),
        Recolour(),
        Reference(),
        Instruct(),
    )
