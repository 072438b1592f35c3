"""The sounds of a clip as data: what each is, and where their packets are read while the edited clip is written.

Below all of sound; tracks.py finds them, `Media.audio` carries them from the file that is read to the one written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SoundSetup:
    """What the samples of a sound mean. rate: Hz. layout, channels: FFmpeg's names of the layout and of its channels,
    in their order. sample: of the kind of number."""

    rate: int
    layout: str
    channels: tuple[str, ...]
    sample: str

    def __str__(self) -> str:
        return f"{self.rate} Hz {self.layout}"


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """One sound of a file that can be heard. name: for a person. codec: FFmpeg's name of its kind.

    stream: index in the container. setups: all that it has, one almost always. damaged: packets that cannot be decoded.
    ordered: its packets have times that a file can hold. about: language and title.
    """

    stream: int
    name: str
    codec: str
    lossless: bool
    setups: tuple[SoundSetup, ...]
    ordered: bool = True
    damaged: int = 0
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Where the sound of a clip lies; packets are read from there while the edited clip is written.

    lost: what of it cannot be had, one sentence each. tracks: none where that is all of it. planned: what sound/plan.py
    found for an output's suffix, which it tries out once.
    """

    path: Path
    video_start: float  # seconds; audio timestamps count from here
    tracks: tuple[SoundTrack, ...]
    lost: tuple[str, ...] = ()
    planned: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
