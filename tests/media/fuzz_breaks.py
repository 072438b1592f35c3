"""Ways to break a clip: its bytes, or the packets of its sound. Each is a function of the clip and a random source.

Called by fuzz_worker.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

Break = Callable[[Path, Path, random.Random], None]  # (clip, where the broken one goes, numbers)


def _bytes(change: Callable[[bytearray, random.Random], bytearray]) -> Break:
    def broken(clip: Path, target: Path, chance: random.Random) -> None:
        target.write_bytes(change(bytearray(clip.read_bytes()), chance))

    return broken


def flipped(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 3, 20, 100))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def zeroed(data: bytearray, chance: random.Random) -> bytearray:
    start, size = _range(data, chance)
    data[start : start + size] = bytes(size)
    return data


def noise(data: bytearray, chance: random.Random) -> bytearray:
    start, size = _range(data, chance)
    data[start : start + size] = chance.randbytes(size)
    return data


def lost(data: bytearray, chance: random.Random) -> bytearray:
    start, size = _range(data, chance)
    del data[start : start + size]
    return data


def twice(data: bytearray, chance: random.Random) -> bytearray:
    start, size = _range(data, chance)
    return data[: start + size] + data[start:]


def cut_off(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data) // 4, len(data))]


def _range(data: bytearray, chance: random.Random) -> tuple[int, int]:
    size = min(len(data) // 2, chance.choice((16, 200, 2000)))
    return chance.randrange(len(data) - size), size


def _packets(change: Callable[[list[Any], random.Random], list[Any]]) -> Break:
    def broken(clip: Path, target: Path, chance: random.Random) -> None:
        with av.open(str(clip)) as source, av.open(str(target), "w") as out:
            streams = [out.add_stream_from_template(stream) for stream in source.streams]
            packets = [packet for packet in source.demux() if packet.pts is not None and packet.size]
            sound = [packet for packet in packets if packet.stream.type == "audio"]
            rest = [packet for packet in packets if packet.stream.type != "audio"]
            for packet in sorted([*rest, *change(sound, chance)], key=_time):
                packet.stream = streams[packet.stream.index]
                try:
                    out.mux(packet)
                except av.error.FFmpegError:  # a time stamp that the container does not take
                    continue

    return broken


def _time(packet: Any) -> float:
    return float(packet.dts * packet.time_base)


def _moved(packet: Any, seconds: float) -> None:
    ticks = round(seconds / packet.time_base)
    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks


def some_lost(sound: list[Any], chance: random.Random) -> list[Any]:
    share = chance.choice((0.05, 0.3, 0.8))
    return [packet for packet in sound if chance.random() > share]


def all_lost(sound: list[Any], _: random.Random) -> list[Any]:
    return sound[:0]


def shifted(sound: list[Any], chance: random.Random) -> list[Any]:
    seconds = chance.choice((-0.9, -0.3, -0.03, 0.03, 0.4, 1.0, 90.0))
    for packet in sound:
        _moved(packet, seconds)
    return sound


def jittered(sound: list[Any], chance: random.Random) -> list[Any]:
    for packet in sound:
        _moved(packet, chance.uniform(-0.004, 0.004))
    return sound


def late_end(sound: list[Any], chance: random.Random) -> list[Any]:
    """As after a pause of the recorder."""
    start = chance.randrange(len(sound))
    for packet in sound[start:]:
        _moved(packet, chance.choice((0.2, 0.5, 3600.0)))
    return sound


def one_wild(sound: list[Any], chance: random.Random) -> list[Any]:
    _moved(chance.choice(sound), chance.choice((-5.0, 0.3, 7.0, 90000.0)))
    return sound


def mixed_up(sound: list[Any], chance: random.Random) -> list[Any]:
    """Contents of some packets in others."""
    for _ in range(chance.choice((1, 5))):
        one, other = chance.sample(range(len(sound)), 2)
        sound[one], sound[other] = _with(sound[one], bytes(sound[other])), _with(sound[other], bytes(sound[one]))
    return sound


def spoiled(sound: list[Any], chance: random.Random) -> list[Any]:
    """Contents that are noise, too short or endless ones."""
    for _ in range(chance.choice((1, 4, len(sound)))):
        place = chance.randrange(len(sound))
        size = max(1, sound[place].size // chance.choice((1, 2, 10)))
        sound[place] = _with(sound[place], chance.choice((chance.randbytes(size), b"\xff" * size)))
    return sound


def _with(packet: Any, content: bytes) -> Any:
    new: Any = av.Packet(content)
    new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    new.stream, new.is_keyframe = packet.stream, True
    return new


BREAKS: dict[str, Break] = {
    **{change.__name__: _bytes(change) for change in (flipped, zeroed, noise, lost, twice, cut_off)},
    **{
        change.__name__: _packets(change)
        for change in (some_lost, all_lost, shifted, jittered, late_end, one_wild, mixed_up, spoiled)
    },
}
