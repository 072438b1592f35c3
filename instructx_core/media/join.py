"""Finished parts of a clip -> one file: their packets are copied, so nothing is encoded twice.

Last step of an edit in windows. The parts are H.264 files that encode.write_frames made.
Legend: times in seconds, fps in Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from ..errors import InputError
from .clip.container import open_container
from .encode import new_container
from .outputs import atomic_path, not_written
from .sound.feed import Sound
from .sound.source import AudioSource

REORDER = 2  # frames by which H.264 with B-frames decodes ahead of what it shows


def join_clips(
    path: str | Path, parts: Sequence[Path], lengths: Sequence[int], fps: Fraction, audio: AudioSource | None = None
) -> tuple[str, ...]:
    """Put clips that write_frames made (same size, rate and settings, no sound) one after the other, atomically.

    lengths: frames of each part. audio: as in write_frames. Returns notes on the audio. Raises InputError when the file
    cannot be written, or a part does not hold its number of frames.
    """
    path, rate = Path(path), Fraction(fps).limit_denominator(1001)
    suffix, total, notes = path.suffix.lower(), sum(lengths), list[str]()
    with atomic_path(path) as temporary:
        try:
            with new_container(temporary, suffix) as out:
                target = _target(out, parts[0], rate)
                with Sound(out, suffix, audio, float(total / rate), notes) as sound:
                    written = 0
                    for part, length in zip(parts, lengths, strict=True):
                        if _copy(part, out, target, rate, written) != length:
                            raise InputError(
                                f"{part}: does not hold its {length} frames; delete it and run the edit again"
                            )
                        written += length
                        sound.mux_until(float(written / rate))
                    sound.finish()
        except av.error.FFmpegError as error:
            raise not_written(path, error) from None
    return tuple(notes)


def _target(out: Any, part: Path, rate: Fraction) -> Any:
    with open_container(part) as first:
        target = out.add_stream_from_template(first.streams.video[0])
    target.time_base = 1 / rate
    return target


def _copy(part: Path, out: Any, target: Any, rate: Fraction, offset: int) -> int:
    """Copies the packets of one part, its frames numbered from `offset`; how many there were."""
    count = 0
    with open_container(part) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is None:
                continue  # the empty packet that ends a stream
            packet.pts = offset + round(packet.pts * packet.time_base * rate)
            packet.dts = offset + count - REORDER  # even steps: each part would start its own delay anew
            packet.duration, packet.time_base, packet.stream = 1, 1 / rate, target
            out.mux(packet)
            count += 1
    return count
