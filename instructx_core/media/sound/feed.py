"""Feeds the sounds of a clip into the file that is written, in step with its pictures, cut to their length.

Last part of the sound; encode.py and join.py call it. What goes wrong with a sound ends that sound with a note, never
the file.
Legend: times in seconds, from the first picture.
"""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Iterator
from typing import Any

import av
import av.error

from ..clip.container import open_container
from .packets import Packets, copy_packets, encode_packets, new_stream
from .plan import Plan, plan_sound
from .source import AudioSource

# Of the place that is written to, whatever the sound is; anything else that a muxer does not take is the sound's.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EPIPE)


class Sound:
    """Feeds the sounds of another file into `out`, so that nothing piles up in the muxer. For a `with` block.

    duration: of the pictures. notes: what is done with each sound is said here.
    """

    def __init__(self, out: Any, suffix: str, audio: AudioSource | None, duration: float, notes: list[str]) -> None:
        self.out, self.notes, self.sources = out, notes, contextlib.ExitStack()
        plans, left_out = plan_sound(audio, suffix)
        self.feeds = [_Feed(self, audio, plan, duration) for plan in plans] if audio is not None else []
        notes += [*(plan.note for plan in plans), *left_out]

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self.sources.close()

    def mux_until(self, time: float) -> None:
        """Write what is heard up to `time`."""
        for feed in self.feeds:
            feed.mux_until(time)

    def finish(self) -> None:
        """Write the rest."""
        self.mux_until(math.inf)


class _Feed:
    """One of them."""

    def __init__(self, sound: Sound, audio: AudioSource, plan: Plan, duration: float) -> None:
        self.sound, self.plan = sound, plan
        self.waiting: Packets | None = None
        container = sound.sources.enter_context(open_container(audio.path))
        source, encoding, start = container.streams[plan.track.stream], plan.encoding, audio.video_start
        stream = new_stream(sound.out, source, plan.track, encoding)
        self.packets: Iterator[Packets] = (
            copy_packets(container, source, stream, start, duration)
            if encoding is None
            else encode_packets(container, source, stream, encoding.target, start, duration)
        )

    def mux_until(self, time: float) -> None:
        while True:
            item = self.waiting or self._next(time)
            if item is None or item[0] > time:
                self.waiting = item
                return
            self.waiting = None
            try:
                self.sound.out.mux(list(item[1]))
            except av.error.FFmpegError as error:
                if error.errno in DISK_ERRORS:
                    raise
                self._end(item[0], error)

    def _next(self, time: float) -> Packets | None:
        try:
            return next(self.packets, None)
        except av.error.FFmpegError as error:
            self._end(time, error)
            return None

    def _end(self, time: float, error: Exception) -> None:
        self.packets = iter(())
        reason = getattr(error, "strerror", None) or error
        self.sound.notes.append(f"{self.plan.track.name}: ends at about {time:.2f} s, it cannot be written ({reason})")
