"""The benchmark: a balanced set of test edits and a summary of how many a model gets right.

Place: sampling, success -> benchmark -> evaluation. Tasks come round-robin, so every prefix of the set is balanced. The
overall number is the mean over tasks, each task weighing the same; sub-kinds (greyscale, invert, outline; tone by
direction) stand apart beside them. Intervals are 95% percentile bootstrap, seeded. A published score has IMAGES images,
CLIPS clips, and of the kinds never trained on clips at least 100 clips of each sub-kind (zero_shot_clips).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ..errors import InputError
from .edits import TASKS
from .language import Manner
from .sampling import Sample, sample
from .scene.canvas import SIZE, Size
from .splits import tasks_of
from .success import Score

BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 0


IMAGES, CLIPS = 600, 400
ZERO_SHOT = {"style": 420, "segment": 100}  # clips that make at least 100 of each sub-kind
ZERO_SHOT_START = {"style": 1_000_000, "segment": 2_000_000}  # their first number, far from the balanced set


@dataclass(frozen=True)
class BenchmarkSet(Sequence[Sample]):
    """Test samples of one modality by number, made when asked for: sample k is task k mod 12, or always that task."""

    modality: str
    count: int
    size: Size | None = (SIZE, SIZE)
    finish: str | None = None
    manner: Manner | None = None
    task: str | None = None
    start: int = 0  # number of the first

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self.count))]
        number = index + self.count if index < 0 else index
        if not 0 <= number < self.count:
            raise IndexError(index)
        tasks = tasks_of("test", self.modality)
        task = tasks[number % len(tasks)] if self.task is None else self.task
        number += self.start
        return sample("test", number, self.modality, task, self.size, finish=self.finish, manner=self.manner)


def benchmark_samples(
    modality: str,
    count: int,
    size: Size | None = (SIZE, SIZE),
    *,
    finish: str | None = None,
    manner: Manner | None = None,
) -> BenchmarkSet:
    """The first `count` samples of the balanced test set of "image" or "video"; size, finish and manner as in sample().

    Raises InputError on other values.
    """
    tasks_of("test", modality)
    if count < 1:
        raise InputError(f"count is {count}, must be >= 1; {len(TASKS)} gives one sample a task")
    return BenchmarkSet(modality, int(count), size, finish, manner)


def zero_shot_clips(size: Size | None = (SIZE, SIZE), manner: Manner | None = None) -> list[BenchmarkSet]:
    """Clips of the kinds that training never shows as clips: at least 100 of each style and of segmentation."""
    return [
        BenchmarkSet("video", count, size, None, manner, task, ZERO_SHOT_START[task])
        for task, count in ZERO_SHOT.items()
    ]


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of successes in [0, 1] with its 95% interval, over `count` samples."""

    success: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Success by task and sub-kind, the mean over tasks, and the seen and held-out parts (None without a sample)."""

    tasks: dict[str, Rate]
    kinds: dict[str, Rate]  # "style: invert", "tone: darker", "hybrid: + tone"
    overall: Rate
    seen: Rate | None
    held_out: Rate | None
    pixel_error: float  # mean |prediction - target| in [0, 1], over samples

    def rows(self) -> list[tuple[str, Rate]]:
        parts = [("seen pairs", self.seen), ("held-out pairs", self.held_out)]
        return [
            *self.tasks.items(),
            *self.kinds.items(),
            ("mean over tasks", self.overall),
            *((n, r) for n, r in parts if r is not None),
        ]

    def table(self) -> str:
        """Plain text, one row a task; success in percent."""
        lines = [f"{'task':<24} {'success':>8}   {'95% interval':<15} {'n':>5}"]
        for name, rate in self.rows():
            interval = f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
            lines.append(f"{name:<24} {100 * rate.success:>7.1f}%   {interval:<15} {rate.count:>5}")
        lines.append(f"{'pixel error':<24} {self.pixel_error:>8.4f}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: row name -> success, low, high, count; and pixel_error."""
        rates: dict[str, Any] = {
            name: {"success": rate.success, "low": rate.low, "high": rate.high, "count": rate.count}
            for name, rate in self.rows()
        }
        return {**rates, "pixel_error": self.pixel_error}


def _resampled(rng: np.random.Generator, successes: int, count: int) -> np.ndarray:
    """Means of bootstrap resamples; drawing `count` of them with replacement is a binomial draw."""
    return rng.binomial(count, successes / count, size=BOOTSTRAP_DRAWS) / count


def _rate(means: np.ndarray, success: float, count: int) -> Rate:
    low, high = np.percentile(means, (2.5, 97.5))
    return Rate(success, float(low), float(high), count)


def _share(rng: np.random.Generator, scores: list[Score]) -> Rate | None:
    if not scores:
        return None
    successes, count = sum(score.success for score in scores), len(scores)
    return _rate(_resampled(rng, successes, count), successes / count, count)


def kind_of(score: Score) -> str:
    """Task and sub-kind in words, "" where the task has but one; of hybrids what comes second."""
    if score.task == "hybrid" and score.sub_kind:
        return f"hybrid: + {score.sub_kind.split(' + ')[-1]}"
    return f"{score.task}: {score.sub_kind}" if score.sub_kind not in ("", score.task) else ""


def summarise(scores: Iterable[Score]) -> Summary:
    """Success by task and overall. Raises InputError without scores or with a score whose task is unknown."""
    scores = list(scores)
    if not scores:
        raise InputError("no scores to summarise; score at least one sample")
    unknown = sorted({score.task for score in scores} - set(TASKS))
    if unknown:
        raise InputError(f"scores of unknown tasks {unknown}; use score(sample, prediction) on samples of this world")
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    tasks: dict[str, Rate] = {}
    resamples = []
    for task in TASKS:
        results = [score.success for score in scores if score.task == task]
        if results:
            means = _resampled(rng, sum(results), len(results))
            tasks[task] = _rate(means, sum(results) / len(results), len(results))
            resamples.append(means)
    kinds: dict[str, Rate] = {}
    for kind in sorted(
        {kind_of(score) for score in scores} - {""}, key=lambda kind: (TASKS.index(kind.split(":")[0]), kind)
    ):
        share = _share(rng, [score for score in scores if kind_of(score) == kind])
        if share is not None:
            kinds[kind] = share
    success = float(np.mean([rate.success for rate in tasks.values()]))
    return Summary(
        tasks=tasks,
        kinds=kinds,
        overall=_rate(np.mean(resamples, axis=0), success, len(scores)),
        seen=_share(rng, [score for score in scores if not score.held_out]),
        held_out=_share(rng, [score for score in scores if score.held_out]),
        pixel_error=float(np.mean([score.pixel_error for score in scores])),
    )
