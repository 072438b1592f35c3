"""Which of a file's tracks is edited, and which are left out.

Part of reading a clip, beside container.py: a film may hold several pictures and sounds, covers and subtitles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from av.stream import Disposition

from ...errors import InputError

_STILLS = (Disposition.attached_pic, Disposition.timed_thumbnails)


def is_cover(stream: Any) -> bool:
    """A picture that goes with the film, such as its cover, and is none of it."""
    return any(kind in stream.disposition for kind in _STILLS)


def video_track(path: Path, container: Any) -> Any:
    """The film: FFmpeg's choice, which is the default track, and of several the best. Raises InputError without one."""
    films = [stream for stream in container.streams.video if not is_cover(stream)]
    if not films:
        covers = ", only a cover picture" if container.streams.video else ""
        raise InputError(f"{path}: has no video stream{covers} (audio only?); give an image or a video")
    films = [stream for stream in films if stream.codec_context is not None]
    if not films:
        raise InputError(f"{path}: this FFmpeg has no decoder for its pictures; export it as H.264")
    best = container.streams.best("video")
    stream = best if best in films else films[0]
    stream.thread_type = "AUTO"
    return stream


def sounds_of(container: Any, film: Any) -> list[Any]:
    """The sounds of a film: of several programmes in a broadcast, told by their pictures, those of its own."""
    sounds = list(container.streams.audio)
    if container.format.name != "mpegts":
        return sounds
    pictures = [container.streams.best("video", related=sound) for sound in sounds]
    return [sound for sound, best in zip(sounds, pictures, strict=True) if best is None or best.index == film.index]


def about_left_out(container: Any, film: Any) -> list[str]:
    """A note on the tracks that the result will not have, but for sounds that belong to it."""
    kept = {film.index, *(sound.index for sound in sounds_of(container, film))}
    left = [stream for stream in container.streams if stream.index not in kept]
    if not left:
        return []
    several = any(stream.type == "video" and not is_cover(stream) for stream in left)
    which = f"track {film.index} ({_name(film)}) is edited; " if several else ""
    return [which + "left out: " + ", ".join(f"track {stream.index} ({_name(stream)})" for stream in left)]


def _name(stream: Any) -> str:
    """What a track is, for a person: "video h264 640x360, eng"."""
    kind = "cover picture" if is_cover(stream) else stream.type
    context = stream.codec_context
    words = [kind, context.name if context is not None else "of an unknown codec"]
    if stream.type == "video" and context is not None:
        words.append(f"{context.width}x{context.height}")
    language = stream.metadata.get("language", "und")
    return " ".join(words) + ("" if language == "und" else f", {language}")
