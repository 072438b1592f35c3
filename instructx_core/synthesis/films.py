"""Films -> clips of one scene (paper A.2, PySceneDetect), scaled down, at a constant rate.

Place: the first step, before the stages. A film is decoded twice: at small size by the scene detector, then scene by
scene; only one clip lies in memory, so a film of hours costs time and no memory. What is cut is written down in
`films/NAME.json`, so that a film that was begun goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

from ..errors import InputError
from ..media.clip.container import decode_frames, open_container
from ..media.clip.timing import constant_rate, rates_of
from ..media.clip.tracks import video_track
from ..media.clip.video import FrameReader
from ..media.kinds import check_file
from ..media.outputs import atomic_path
from .terms.candidate import STATE, Candidate, save
from .terms.clip import CLIP, write_clip
from .terms.limits import Limits

VERSION = "1"
MULTIPLE = 16  # of the sides of a clip, as the DiT needs them
MARGIN = 0.1  # seconds left out beside a cut: a dissolve or a late keyframe
FILM_SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".ogv",
    ".mxf",
)
_BLOCK = 1 << 20

Span = tuple[float, float]  # seconds of a film at which a clip starts and stops


@dataclass(frozen=True, slots=True)
class Film:
    """A film on disk. id: of its name and content, so that a set may be made in several runs."""

    path: Path
    id: str


def find_films(place: Path, output: Path) -> list[Film]:
    """A film, or all films below a folder but those of the set itself, in the order of their names.

    Raises InputError where there is none.
    """
    if place.is_file():
        return [Film(place, film_id(place))]
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; give a film, or a folder of films")
    paths = sorted(path for path in place.rglob("*") if path.is_file() and path.suffix.lower() in FILM_SUFFIXES)
    paths = [path for path in paths if output.resolve() not in path.resolve().parents]
    if not paths:
        raise InputError(f"{place}: holds no film; films end in {', '.join(FILM_SUFFIXES)}")
    return [Film(path, film_id(path)) for path in paths]


def film_id(path: Path) -> str:
    """Name and a digest of its size, its first and its last MiB: reading whole films to name them would take hours."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
        stream.seek(max(0, size - _BLOCK))
        tail = stream.read(_BLOCK)
    name = "".join(letter if letter.isalnum() else "-" for letter in path.stem)[:40]
    return f"{name}-{hashlib.sha256(str(size).encode() + head + tail).hexdigest()[:10]}"


def cut(film: Film, span: Span, work: Path, limits: Limits) -> Path:
    """The folder of a candidate, made where it is not there yet. Raises InputError where the film cannot be read."""
    start, stop = span
    folder = work / f"{film.id}-{round(start * 1000):09d}-{round(stop * 1000):09d}"
    if (folder / STATE).is_file():
        return folder
    frames_FHWC, fps, size = read_span(film.path, start, stop, limits)
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder, CLIP, frames_FHWC, float(fps))
    count, height, width = frames_FHWC.shape[:3]
    candidate = Candidate(folder.name, film.path.name, start, stop, float(fps), count, height, width)
    version = f"{VERSION} {limits.area} {limits.fastest:g}"
    save(candidate.with_facts("cut", film_id=film.id, film_size=size, version=version), folder)
    return folder


def spans(film: Film, work: Path, limits: Limits) -> list[Span]:
    """Seconds at which clips of the film start and stop; looked for once, then read from the film's file.

    Raises InputError for a film that cannot be read, and for one without a scene that is long enough.
    """
    place, wanted = work / "films" / f"{film.id}.json", {"shortest": limits.shortest, "longest": limits.longest}
    if place.is_file():
        known = json.loads(place.read_text())
        if known["version"] == VERSION and known["limits"] == wanted:
            return [(start, stop) for start, stop in known["spans"]]
    uncut = scenes(film.path)
    found = parts(uncut, limits)
    if not found:
        longest = max((stop - start for start, stop in uncut), default=0.0)
        raise InputError(
            f"{film.path}: none of its {len(uncut)} scenes is long enough: the longest lasts {longest:.1f} s, but "
            f"`shortest` is {limits.shortest:g} s"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(place) as temporary:
        state = {"version": VERSION, "film": str(film.path.name), "limits": wanted, "spans": found}
        temporary.write_text(json.dumps(state) + "\n")
    return found


def scenes(path: Path) -> list[Span]:
    """Start and stop of every scene in seconds. Raises InputError for a file that is no film."""
    from scenedetect import AdaptiveDetector, SceneManager, VideoOpenFailure, open_video

    check_file(path)
    with open_container(path) as container:  # its errors are ours, in words
        video_track(path, container)
    try:
        video = open_video(str(path), backend="pyav", suppress_output=True)
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        manager.detect_scenes(video)
    except (VideoOpenFailure, av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be cut into scenes ({error}); export it again") from None
    found = manager.get_scene_list(start_in_scene=True)
    return [(start.seconds, stop.seconds) for start, stop in found]


def parts(found: list[Span], limits: Limits) -> list[Span]:
    """Scenes without their borders, those that are too long in equal parts, those that are too short left out."""
    cut = list[Span]()
    for start, stop in found:
        inner = (start + MARGIN if start else start, stop - MARGIN)
        length = inner[1] - inner[0]
        if length < limits.shortest:
            continue
        count = math.ceil(length / limits.longest)
        edges = np.linspace(*inner, count + 1).tolist()
        cut += itertools.pairwise(edges)
    return cut


def read_span(path: Path, start: float, stop: float, limits: Limits) -> tuple[np.ndarray, Fraction, tuple[int, int]]:
    """(frames as they will be edited, their rate, height and width in the film) between two times of a film."""
    reader, shown, pictures = FrameReader(path), [], []
    with open_container(path) as container:
        stream = video_track(path, container)
        rates = rates_of(container, stream)
        zero = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
        if start > 0:
            container.seek(int((zero + start) / stream.time_base), stream=stream)
        for frame, when in decode_frames(path, container):
            time = when.start - zero
            if time >= stop - 1e-6:
                break
            colour = reader.check(frame)
            if time >= start - 1e-6 or math.isnan(time):
                shown.append(when)
                pictures.append(fit(reader.upright(frame, colour), limits))
    if len(pictures) < 2:
        raise InputError(f"{path}: no frames between {start:.2f} and {stop:.2f} s; export it again")
    timing = constant_rate(path, shown, rates, [])
    step = math.ceil(timing.fps / Fraction(limits.fastest))
    return np.stack([pictures[number] for number in timing.picked[::step]]), timing.fps / step, reader.size


def fit(frame_HWC: np.ndarray, limits: Limits) -> np.ndarray:
    """A frame scaled down to the area, and cut at its borders to sides that are multiples of 16."""
    height, width = frame_HWC.shape[:2]
    scale = min(1.0, math.sqrt(limits.area / (height * width)))
    if scale < 1.0:
        height, width = round(height * scale), round(width * scale)
        frame_HWC = cv2.resize(frame_HWC, (width, height), interpolation=cv2.INTER_AREA)
    inner = (height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    return frame_HWC[top : top + inner[0], left : left + inner[1]]
