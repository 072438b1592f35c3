"""A benchmark run over any samples of a procedural world: edit, score, keep; and the sheet of the worst failures.

Place: batch -> running -> shapes, world (which samples, which report). Samples are made in portions when their turn
comes; what is already scored is not edited again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ..errors import InputError
from .batch import Editable, edit_samples, group_samples
from .partial import Key, Partial
from .sheet import SheetRow, draw_sheet

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..pipeline import InstructXPipeline

OnSample = Callable[[int, int], None]
PORTION = 8  # batches of samples made at once; all at once would take memory for nothing


class Judgement(Protocol):
    @property
    def success(self) -> bool: ...

    @property
    def task(self) -> str: ...


V = TypeVar("V", bound=Judgement)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How the edits are made; two runs with equal settings and weights give equal numbers on one device."""

    steps: int | None = None  # None: the model's
    guidance: float | None = None
    seed: int = 0
    batch_size: int = 16  # no effect on results

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps is {self.steps}; use at least 1")
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}; use at least 1")


@dataclass(frozen=True)
class Benchmark(Generic[V]):
    """Samples by key, and who judges an edit of one."""

    sample: Callable[[Key], Any]
    score: Callable[[Any, np.ndarray], V]


def run_edits(
    pipe: InstructXPipeline,
    benchmark: Benchmark[V],
    wanted: Sequence[Key],
    settings: RunSettings,
    done: Mapping[Key, V],
    partial: Partial[V] | None = None,
    progress: OnSample | None = None,
) -> dict[Key, V]:
    """Scores of all wanted keys, in their order; those in `done` are taken over, new ones go to `partial` as well."""
    found = dict(done)
    todo = [key for key in wanted if key not in found]
    step = PORTION * settings.batch_size
    for start in range(0, len(todo), step):
        keys = todo[start : start + step]
        samples: list[Editable] = [benchmark.sample(key) for key in keys]
        for positions in group_samples(samples, settings.batch_size):
            batch = [samples[i] for i in positions]
            edited = edit_samples(pipe, batch, settings.steps, settings.guidance, settings.seed)
            scored = {keys[i]: benchmark.score(samples[i], f) for i, f in zip(positions, edited, strict=True)}
            found.update(scored)
            if partial is not None:
                partial.add(scored)
            if progress is not None:
                progress(len(found), len(wanted))
    return {key: found[key] for key in wanted}


@dataclass(frozen=True)
class FailureSheet(Generic[V]):
    """How failures are ranked and shown."""

    badness: Callable[[V], float]
    row: Callable[[Any, np.ndarray, V], SheetRow]
    tasks: Sequence[str]  # their order on the sheet
    title: str  # of the model


def draw_failures(
    pipe: InstructXPipeline,
    benchmark: Benchmark[V],
    scores: Mapping[Key, V],
    settings: RunSettings,
    sheet: FailureSheet[V],
    count: int = 24,
) -> Image.Image | None:
    """Sheet of the worst failures, at most two a task and set first. None when nothing failed.

    The edits are made again: they depend on the sample and the seed alone, so nothing but scores has to be kept.
    """
    failed = sorted((key for key, v in scores.items() if not v.success), key=lambda key: -sheet.badness(scores[key]))
    chosen = _spread(failed, scores, sheet.tasks, count)
    samples = [benchmark.sample(key) for key in chosen]
    rows: dict[int, SheetRow] = {}
    for positions in group_samples(samples, settings.batch_size):
        batch = [samples[i] for i in positions]
        edited = edit_samples(pipe, batch, settings.steps, settings.guidance, settings.seed)
        for position, sample, frames in zip(positions, batch, edited, strict=True):
            rows[position] = sheet.row(sample, frames, scores[chosen[position]])
    if not rows:
        return None
    title = f"worst failures of {sheet.title} ({len(failed)} of {len(scores)} failed)"
    return draw_sheet([rows[i] for i in range(len(samples))], title=title)


def _spread(failed: Sequence[Key], scores: Mapping[Key, Judgement], tasks: Sequence[str], count: int) -> list[Key]:
    taken: dict[tuple[str, str], int] = {}
    first: list[Key] = []
    for key in failed:
        kind = (key[0], scores[key].task)
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] <= 2:
            first.append(key)
    rest = [key for key in failed if key not in set(first)]
    order = {task: i for i, task in enumerate(tasks)}
    return sorted((first + rest)[:count], key=lambda key: (key[0], order[scores[key].task]))
