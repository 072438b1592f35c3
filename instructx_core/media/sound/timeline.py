"""Decoded frames of any set-up -> frames of one set-up, from the first picture to the last, without a hole.

Between decode.py and the encoder; FFmpeg's filters do the work: pan orders the channels, aresample converts and keeps
to the time stamps (silence where there is nothing, cut where two things are), atrim ends it.
Legend: times in seconds, from the first picture; positions in samples of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter

from .decode import SoundFrame
from .layout import is_usual, pan
from .source import SoundSetup

# Time stamps jitter (whole milliseconds in Matroska): below this nothing is filled or cut.
JITTER = 0.01
HOLE = 1  # second; a longer one is filled piece by piece, aresample would hold all of it in memory


@dataclass(frozen=True, slots=True)
class Target:
    """What an encoder is given. sample: FFmpeg's name of the kind of number, planar or not."""

    rate: int
    layout: str
    sample: str


class Timeline:
    """Puts frames, which may come in any set-up, on one line of time that ends at `end`."""

    def __init__(self, target: Target, end: float) -> None:
        self.target, self.end, self.position = target, round(end * target.rate), 0
        self.setup: SoundSetup | None = None
        self.converter: Any = None
        self.line = _graph(
            ("abuffer", _input(target.rate, target.sample, target.layout)),
            ("aresample", f"{target.rate}:async=1:min_hard_comp={JITTER}:first_pts=0"),
            ("atrim", f"end_sample={self.end}"),
        )

    def put(self, sound: SoundFrame) -> Iterator[Any]:
        """What can be said for certain once this frame is known."""
        if sound.end <= 0 or sound.start * self.target.rate >= self.end:
            return
        if sound.setup != self.setup:
            yield from self._converted(None)
            self.setup, self.converter = sound.setup, self._conversion(sound.setup)
        frame = sound.frame
        frame.pts, frame.time_base = round(sound.start * sound.setup.rate), Fraction(1, sound.setup.rate)
        yield from self._converted(frame)

    def finish(self) -> Iterator[Any]:
        """What is left."""
        yield from self._converted(None)
        yield from _through(self.line, None)

    def _converted(self, frame: Any) -> Iterator[Any]:
        if self.converter is None:
            return
        for part in _through(self.converter, frame):
            yield from self._silence(part)
            self.position = max(self.position, part.pts + part.samples)
            yield from _through(self.line, part)

    def _conversion(self, setup: SoundSetup) -> Any:
        """The graph that makes the target of one set-up."""
        target = self.target
        usual = is_usual(setup.layout)
        layout = setup.layout if usual else f"{len(setup.channels)}C"
        return _graph(
            ("abuffer", _input(setup.rate, setup.sample, layout)),
            *([] if usual else [("pan", pan(setup.channels))]),
            ("aresample", f"{target.rate}"),
            ("aformat", f"sample_fmts={target.sample}:sample_rates={target.rate}:channel_layouts={target.layout}"),
        )

    def _silence(self, part: Any) -> Iterator[Any]:
        """Fills a long hole before a converted frame, but for less than HOLE."""
        hole = part.pts - self.position
        if hole > HOLE * self.target.rate:
            for quiet in silence(self.target, hole // self.target.rate, self.position):
                self.position += quiet.samples
                yield from _through(self.line, quiet)


def silence(target: Target, seconds: float, position: int = 0) -> Iterator[Any]:
    """Frames in which nothing is heard."""
    graph = _graph(
        ("anullsrc", f"r={target.rate}:cl={target.layout}:d={seconds}"), ("aformat", f"sample_fmts={target.sample}")
    )
    for frame in _pulled(graph):
        frame.pts += position
        yield frame


def _input(rate: int, sample: str, layout: str) -> str:
    return f"sample_rate={rate}:sample_fmt={sample}:channel_layout={layout}:time_base=1/{rate}"


def _graph(*filters: tuple[str, str]) -> Any:
    graph: Any = av.filter.Graph()
    nodes = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(*nodes, graph.add("abuffersink")).configure()
    return graph


def _through(graph: Any, frame: Any) -> Iterator[Any]:
    """What comes out of a graph for one more frame; None ends it."""
    try:
        graph.push(frame)
    except av.error.EOFError:
        return  # it has ended already
    yield from _pulled(graph)


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
