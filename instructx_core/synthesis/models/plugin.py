"""A player that the user brings: a program, or a class in Python (MiniMax-Remover, DiffuEraser, whatever comes next).

    {"eraser": {"by": "command", "command": "my-eraser --video {source} --mask {mask} --out {output}"}}
    {"eraser": {"by": "python", "python": "my_package.remover:MiniMax", "weights": "DIR"}}

Place: cast.py -> plugin -> ../stages/. A program is given files, without a shell, and writes as many frames of the same
size; a class is made with (weights, device) and has the role's method and a `name`.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...media.files import read_media, write_image, write_video
from ..terms.camera import CameraPath
from ..terms.fill import pasted
from ..terms.masks import grown
from ..terms.roles import Erasure, Poses, Unplayable
from .poses import draw_poses

FIELD = re.compile(r"\{(\w+)\}")
FPS = 16  # Hz, of the files that a program is given; it gives frames back, not seconds
NEEDED = {
    "eraser": ("source", "mask", "output"),
    "inpainter": ("source", "mask", "prompt", "output"),
    "frame editor": ("source", "prompt", "output"),
    "animator": ("source", "poses", "output"),
}
METHODS = {
    "grounder": "ground",
    "tracker": "track",
    "eraser": "erase",
    "flow": "flow",
    "writer": "instruction",
    "inpainter": "inpaint",
    "frame editor": "edit_frame",
    "poses": "read",
    "animator": "animate",
    "judge": "judge",
}
OPTIONAL = ("prompt", "video")


def check_command(role: str, line: str) -> None:
    """Raises InputError for a line that cannot be split, or does not say what its role needs."""
    try:
        shlex.split(line)
    except ValueError as error:
        raise InputError(f"{role}: {line!r} cannot be split ({error}); check the quotes") from None
    used = set(FIELD.findall(line))
    missing = [field for field in NEEDED[role] if field not in used]
    unknown = sorted(used - {*NEEDED[role], *OPTIONAL})
    if missing or unknown:
        fields = ", ".join(f"{{{field}}}" for field in (*NEEDED[role], *OPTIONAL))
        raise InputError(f"{role}: the command says {sorted(used)}; it is filled in with {fields}")


@dataclass(frozen=True, slots=True)
class CommandPlayer:
    """Eraser, in-painter, frame editor or animator."""

    line: str
    weights: str = ""

    @property
    def name(self) -> str:
        return f"command {self.line}"

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath, phrase: str) -> Erasure:
        media = {"source": frames_FHWC, "mask": _white(grown(changed_FHW))}
        return pasted(frames_FHWC, self._run(media, {"prompt": phrase}, frames_FHWC.shape), changed_FHW)

    def inpaint(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, phrase: str, other: str) -> np.ndarray:
        media = {"source": frames_FHWC, "mask": _white(grown(mask_FHW))}
        return pasted(frames_FHWC, self._run(media, {"prompt": other}, frames_FHWC.shape), mask_FHW).frames_FHWC

    def edit_frame(self, frame_HWC: np.ndarray, instruction: str) -> np.ndarray:
        frames_FHWC = frame_HWC[None]
        return self._run({"source": frames_FHWC}, {"prompt": instruction}, frames_FHWC.shape)[0]

    def animate(self, first_HWC: np.ndarray, driving_FHWC: np.ndarray, poses: Poses, prompt: str) -> np.ndarray:
        media = {
            "source": first_HWC[None],
            "poses": draw_poses(poses, first_HWC.shape[:2]),
            "video": driving_FHWC,
        }
        return self._run(media, {"prompt": prompt}, driving_FHWC.shape)

    def _run(self, media: dict[str, np.ndarray], words: dict[str, str], shape: tuple[int, ...]) -> np.ndarray:
        """The parts are filled in after the line is split, so that no words can become a command."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            places = {name: _write(folder, name, frames_FHWC) for name, frames_FHWC in media.items()}
            output = folder / ("output.png" if shape[0] == 1 else "output.mp4")
            values = {**words, **{name: str(place) for name, place in places.items()}, "output": str(output)}
            parts = [FIELD.sub(lambda match: values[match[1]], part) for part in shlex.split(self.line)]
            try:
                done = subprocess.run(parts, capture_output=True, stdin=subprocess.DEVNULL, check=False)
            except OSError as error:
                raise Unplayable(f"{parts[0]}: cannot be started ({error.strerror}); check the cast file") from None
            if done.returncode:
                lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
                raise InputError(f"{parts[0]}: ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
            made_FHWC = read_media(output).frames_FHWC
        if made_FHWC.shape != shape:
            raise InputError(f"{parts[0]}: gave frames {made_FHWC.shape} and not {shape}; it must keep size and length")
        return made_FHWC


def _white(mask_FHW: np.ndarray) -> np.ndarray:
    return np.repeat(mask_FHW[..., None], 3, axis=-1).astype(np.uint8) * np.uint8(255)


def _write(folder: Path, name: str, frames_FHWC: np.ndarray) -> Path:
    if len(frames_FHWC) == 1:
        write_image(folder / f"{name}.png", frames_FHWC[0])
        return folder / f"{name}.png"
    write_video(folder / f"{name}.mp4", frames_FHWC, FPS, crf=0 if name == "mask" else 8)
    return folder / f"{name}.mp4"


@lru_cache(maxsize=8)
def python_player(role: str, entry: str, weights: str, device: str) -> Any:
    """The user's class, made once a process. Raises Unplayable for an entry that is none or plays another role."""
    module, colon, name = entry.partition(":")
    try:
        made = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise Unplayable(f"{role}: {entry} cannot be imported ({error}); give MODULE:NAME of a class") from None
    if made is None:
        raise Unplayable(f"{role}: {entry!r} is no MODULE:NAME of a class")
    player = made(weights, device)
    if not isinstance(getattr(player, "name", None), str) or not callable(getattr(player, METHODS[role], None)):
        raise Unplayable(f"{role}: {entry} needs a `name` and a method `{METHODS[role]}` (synthesis/terms/roles.py)")
    return player
