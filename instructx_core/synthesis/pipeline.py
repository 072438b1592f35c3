"""The stages of a back end in their order. One list for the plain loop, for many processes and for many machines.

Place: setup.py, stages/, players.py -> pipeline -> run.py.
"""

from __future__ import annotations

from .classic.finder import MotionFinder
from .players import players_of
from .setup import Setup
from .stage import ClipStage
from .stages.back_check import BackCheck
from .stages.camera import Camera
from .stages.check import CheckErasure
from .stages.describe import Describe
from .stages.erase import Erase
from .stages.fingerprint import Fingerprint
from .stages.gates import Gates
from .stages.ground import Ground
from .stages.instruct import Instruct
from .stages.recolour import Recolour
from .stages.reference import Reference
from .stages.subject import ChooseSubject
from .stages.swap import Puppeteers, Swap


def stages_of(setup: Setup) -> tuple[ClipStage, ...]:
    """Every stage, with those who play its roles."""
    limits, cast, gpus = setup.limits, players_of(setup.casting), setup.casting.gpus
    swaps, judges = list[ClipStage](), list[ClipStage]()
    if setup.casting.swaps:
        puppeteers = None
        if cast.frame_editor is not None and cast.poses is not None and cast.animator is not None:
            puppeteers = Puppeteers(cast.frame_editor, cast.poses, cast.animator)
        needed = gpus("inpainter", "frame editor", "poses", "animator")
        swaps.append(Swap(cast.writer, cast.inpainter, puppeteers, limits, needed))
    if cast.judge is not None:
        judges.append(BackCheck(cast.judge, limits, gpus("judge")))
    return (
        Gates(limits),
        Camera(limits),
        ChooseSubject(cast.finder, limits, gpus("grounder", "tracker")),
        Ground(cast.flow, limits, gpus("flow")),
        Erase(cast.eraser, limits, gpus("eraser")),
        CheckErasure(MotionFinder(), cast.grounder, limits, gpus("grounder")),
        Fingerprint(),
        Describe(),
        Recolour(),
        Reference(),
        *swaps,
        Instruct(cast.writer, setup.casting.noun),
        *judges,
    )
