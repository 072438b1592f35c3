"""A cast -> the players themselves, light objects: a model's weights are read when it plays for the first time.

Place: cast.py -> players -> pipeline.py. Back ends are imported when a role of theirs is cast.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .cast import Casting, Player
from .classic.eraser import PlateEraser
from .classic.finder import MotionFinder
from .classic.flow import DisFlow
from .classic.seen import MotionGrounder, MotionTracker
from .classic.writer import TemplateWriter
from .grounded import GroundedFinder
from .terms.roles import Animator, Eraser, Finder, Flow, FrameEditor, Grounder, Inpainter, PairJudge, PoseReader, Writer

CLASSES = {  # what a folder of weights must say that it holds
    "grounding-dino": "GroundingDinoForObjectDetection",
    "sam2": "Sam2VideoModel",
    "vitpose": "VitPoseForPoseEstimation",
    "vace": "WanVACEPipeline",
    "kontext": "FluxKontextPipeline",
    "animate": "WanAnimatePipeline",
}


@dataclass(frozen=True, slots=True)
class Players:
    """What the stages are given. grounder: None where what moves is found without words."""

    finder: Finder
    grounder: Grounder | None
    eraser: Eraser
    flow: Flow
    writer: Writer
    inpainter: Inpainter | None = None
    frame_editor: FrameEditor | None = None
    poses: PoseReader | None = None
    animator: Animator | None = None
    judge: PairJudge | None = None


def players_of(casting: Casting) -> Players:
    """Reads no weights."""
    by = {role: play(role, player, casting) for role, player in casting.players}
    roles = dict(casting.players)
    words = None
    finder: Finder = MotionFinder()
    if not roles["grounder"].by == roles["tracker"].by == "motion":
        finder = GroundedFinder(by["grounder"], by["tracker"], by["writer"].things)
        words = None if roles["grounder"].by == "motion" else by["grounder"]
    return Players(
        finder,
        words,
        by["eraser"],
        by["flow"],
        by["writer"],
        by.get("inpainter"),
        by.get("frame editor"),
        by.get("poses"),
        by.get("animator"),
        by.get("judge"),
    )


def play(role: str, player: Player, casting: Casting) -> Any:
    """The player of a role."""
    made: dict[str, Callable[[], Any]] = {
        "motion": MotionGrounder if role == "grounder" else MotionTracker,
        "plate": PlateEraser,
        "dis": DisFlow,
        "templates": lambda: TemplateWriter(casting.things, casting.others),
        "instructx": lambda: _instructx(role, player),
    }
    return made[player.by]() if player.by in made else _model(role, player)


def _instructx(role: str, player: Player) -> Any:
    from .ours import OwnEditor, OwnEraser, OwnGrounder, OwnInpainter, OwnTracker

    editor = OwnEditor(player.weights, player.device)
    own = {"grounder": OwnGrounder, "tracker": OwnTracker, "eraser": OwnEraser, "inpainter": OwnInpainter}
    return own[role](editor) if role in own else editor


def _model(role: str, player: Player) -> Any:
    place, steps = (player.weights, player.device), player.steps
    if player.by == "server":
        from .models.server import ServerJudge, ServerWriter

        return (ServerJudge if role == "judge" else ServerWriter)(player.url, player.model)
    if player.by in ("command", "python"):
        from .models.plugin import CommandPlayer, python_player

        if player.by == "python":
            return python_player(role, player.python, *place)
        return CommandPlayer(player.command, player.weights)
    if player.by in ("vace", "kontext", "animate"):
        from .models.diffusion import Animate, Kontext, Vace

        return {"vace": Vace, "kontext": Kontext, "animate": Animate}[player.by](*place, steps)
    if player.by == "grounding-dino":
        from .models.grounding_dino import DinoGrounder

        return DinoGrounder(*place)
    if player.by == "sam2":
        from .models.sam2 import Sam2Tracker

        return Sam2Tracker(*place)
    if player.by == "raft":
        from .models.raft import RaftFlow

        return RaftFlow(*place)
    from .models.poses import RtmPoses, VitPoses

    return (VitPoses if player.by == "vitpose" else RtmPoses)(*place)


def check_players(casting: Casting) -> None:
    """Before any work: every folder holds what its player is, commands say what they need, classes can be imported.

    Raises InputError naming the role, what is wrong and the remedy. Reads no weights.
    """
    for role, player in casting.players:
        if player.by in CLASSES:
            _check_folder(role, player)
        elif player.by == "command":
            from .models.plugin import check_command

            check_command(role, player.command)
        elif player.by == "server":
            from ..evaluation.judge.chat import ClientSettings, Pace, connect

            connect(ClientSettings(url=player.url, model=player.model), Pace(None))
    players_of(casting)


def _check_folder(role: str, player: Player) -> None:
    folder, wanted = Path(player.weights), CLASSES[player.by]
    found = list[str]()
    for name, key in (("model_index.json", "_class_name"), ("config.json", "architectures")):
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8")).get(key)
        except (OSError, ValueError):
            continue
        found += [value] if isinstance(value, str) else value or []
    if wanted not in found:
        holds = ", ".join(found) or "no model_index.json or config.json"
        raise InputError(f"{role}: {folder} holds {holds}; {player.by} needs a folder of {wanted}")
