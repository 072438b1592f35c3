"""The inside of a clip's file through PyAV: opened without looking anywhere else, its picture stream, its frames.

First part of reading a clip: container, tracks -> video (pixels), timing (rate and length), sound.
Legend: times in seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import av.error

from ...errors import InputError
from .alpha import decoder_of
from .timing import FrameTime
from .tracks import video_track

# Playlists and network protocols are shut out: a media file must never make the program open something else.
_CLIPS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,mxf,dv,h264,hevc,ivf,m4v,yuv4mpegpipe"


Listeners = Mapping[int, Callable[[Any], None]]  # by the index of the stream
NOBODY: Listeners = MappingProxyType({})


def open_container(path: Path, formats: str = _CLIPS) -> Any:
    """formats: FFmpeg's names of those that are opened. Raises InputError for a file that FFmpeg does not know."""
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        # Not `options`: PyAV up to 16 gives those to each stream as well, and reads beyond them where FLV and MPEG find
        # their streams later.
        return av.open("file:" + os.path.abspath(path), container_options=options)
    except (av.error.FFmpegError, UnicodeError) as error:
        known = getattr(error, "errno", None) != errno.EINVAL  # FFmpeg's word for a format that is shut out above
        reason = (getattr(error, "strerror", None) or error) if known else "no kind of file that is known here"
        raise InputError(
            f"{path}: cannot be read as an image or a video ({reason}); give a PNG, JPEG, MP4, MOV, MKV or WebM file"
        ) from None


def decode_frames(
    path: Path, container: Any, notes: list[str] | None = None, listeners: Listeners = NOBODY
) -> Iterator[tuple[Any, FrameTime]]:
    """(frame as PyAV gives it, when it is shown) of the film.

    notes: where it is given, a damaged file is read up to the damage, which is noted there. listeners: are given all
    packets of other streams, so that the file is read once. Raises InputError where the file is damaged or empty.
    """
    count, stream = 0, video_track(path, container)
    decoder = decoder_of(path, stream)
    durations: dict[int, float] = {}  # by the packet's time: a frame of PyAV before 15 has none
    packets = container.demux([stream, *(container.streams[index] for index in listeners)])
    try:
        for packet in packets:
            if packet.stream.index != stream.index:
                listeners[packet.stream.index](packet)
                continue
            _refuse_protected(path, packet)
            if packet.pts is not None:
                durations[packet.pts] = float((packet.duration or 0) * packet.time_base)
            for frame in decoder.decode(packet):
                start = float("nan") if frame.time is None else float(frame.time)
                yield frame, FrameTime(start, durations.pop(frame.pts, 0.0))
                count += 1
    except (av.error.PatchWelcomeError, av.error.NotImplementedError, av.error.ExperimentalError) as error:
        raise InputError(
            f"{path}: this FFmpeg cannot decode its pictures yet ({error.strerror}); export it as H.264"
        ) from None
    except av.error.FFmpegError as error:
        if notes is None or not count:
            raise InputError(
                f"{path}: damaged at frame {count} ({error.strerror}); export it again, or use --partial to edit "
                "the frames before"
            ) from None
        notes.append(f"damaged at frame {count} ({error.strerror}): only the frames before are used")
        _listen(packets, listeners)  # their packets may lie behind the damage
    if not count:
        raise InputError(f"{path}: holds no decodable video frame (0 frames); export the clip again")


def _listen(packets: Iterator[Any], listeners: Listeners) -> None:
    with contextlib.suppress(av.error.FFmpegError):
        for packet in packets:
            if packet.stream.index in listeners:
                listeners[packet.stream.index](packet)


def _refuse_protected(path: Path, packet: Any) -> None:
    """Raises InputError for encrypted pictures, which decode to noise, or look damaged."""
    side = packet.iter_sidedata() if hasattr(packet, "iter_sidedata") else ()  # not in the oldest PyAV that is taken
    if any(data.data_type == "encryption_info" for data in side):
        raise InputError(f"{path}: is protected (encrypted, as rented films are); give a clip without protection")
