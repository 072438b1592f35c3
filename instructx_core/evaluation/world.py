"""The benchmark on the procedural world, version 2: run the groups, resumably; the table of targets, JSON, failures.

Place: groups (samples) -> running -> world/success (scores) -> table. While it runs, one JSON line a sample goes to
`<OUT>.partial.jsonl`; with resume, samples that are there are not edited again. Intervals are 95 % bootstrap ones, over
samples, or over photos where these are edited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..world import REFERENCE_TASKS, TASKS, RegionScore, Score, Summary, score, summarise
from ..world.benchmark import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, CLIPS, IMAGES, Rate
from .groups import GROUPS, ROWS, Group, Part, SampleLook, TargetRow, build_groups
from .partial import Key, Lines, Partial, fingerprint
from .photos import PHOTOS
from .running import Benchmark, FailureSheet, OnSample, RunSettings, draw_failures, run_edits
from .sheet import SheetRow
from .vae import CROPS, photos_psnr

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline import InstructXPipeline
    from ..world import Sample

LINES = Lines(Score, RegionScore, "part")  # a key is (part, index)


@dataclass(frozen=True, kw_only=True)
class WorldSettings(RunSettings):
    """What is measured and how. images, clips: counts of the groups of that name; other groups shrink alike."""

    images: int = IMAGES
    clips: int = CLIPS
    groups: tuple[str, ...] = GROUPS
    look: SampleLook = field(default_factory=SampleLook)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count, most in (("images", self.images, IMAGES), ("clips", self.clips, CLIPS)):
            if not 0 <= count <= most:
                raise InputError(f"{name} is {count}; use 0 to {most}, which is the whole benchmark")
        if self.images + self.clips == 0:
            raise InputError("images and clips are both 0; one of them must be positive")

    def count(self, part: Part) -> int:
        """Samples of a part in this run."""
        given, whole = (self.images, IMAGES) if part.modality == "image" else (self.clips, CLIPS)
        return 0 if given == 0 else max(1, round(len(part.samples) * given / whole))


@dataclass(frozen=True, slots=True)
class Figure:
    """A row's figure in its unit, with its 95% interval over `count` samples. detail: which kind it is of."""

    value: float
    low: float
    high: float
    count: int
    detail: str = ""


def level_met(row: TargetRow, figure: Figure | None) -> str:
    """In words: the aim, the floor, or not."""
    if figure is None:
        return "not run"
    return "aim" if figure.value >= row.aim else "floor" if figure.value >= row.floor else "no"


@dataclass(frozen=True)
class WorldResult:
    """Scores by (part, index), PSNR of photos where asked for."""

    scores: dict[Key, Score]
    groups: dict[str, Group]
    settings: WorldSettings
    model: str
    psnr: list[float] = field(default_factory=list)

    def of(self, parts: Iterable[str]) -> list[tuple[Key, Score]]:
        wanted = set(parts)
        return [(key, value) for key, value in self.scores.items() if key[0] in wanted]

    def summaries(self) -> dict[str, Summary]:
        """By part, of those that have scores."""
        names = dict.fromkeys(part for part, _ in self.scores)
        return {name: summarise(value for _, value in self.of([name])) for name in names}

    def figure(self, row: TargetRow) -> Figure | None:
        """None where a group that the row needs was not run."""
        if row.measure == "psnr":
            return _over_photos(enumerate(self.psnr), 1.0) if self.psnr else None
        found: list[tuple[Key, Score]] = []
        for name in row.needs:
            scores = self.of(part.name for part in self.groups[name].parts) if name in self.groups else []
            if not scores:
                return None
            found.extend(scores)
        return _figure(row.measure, found)

    def table(self) -> str:
        """Plain text: each part's kinds, then the table of targets."""
        parts = [f"{name}\n{summary.table()}" for name, summary in self.summaries().items()]
        return "\n\n".join([*parts, self.targets()])

    def targets(self) -> str:
        """The table of targets, in Markdown."""
        lines = ["| | aim | floor | reached | 95% interval | n | met |", "| --- | --- | --- | --- | --- | --- | --- |"]
        for row in ROWS:
            found = self.figure(row)
            figures = "- | - | -"
            if found is not None:
                detail = f" ({found.detail})" if found.detail else ""
                figures = f"{found.value:.1f}{detail} | {found.low:.1f} to {found.high:.1f} | {found.count}"
            unit = "" if row.unit == "%" else f" {row.unit}"
            lines.append(
                f"| {row.title} | {row.aim:g}{unit} | {row.floor:g}{unit} | {figures} | {level_met(row, found)} |"
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        rows = []
        for row in ROWS:
            found = self.figure(row)
            figures = {} if found is None else dataclasses.asdict(found)
            rows.append({"row": row.title, "aim": row.aim, "floor": row.floor, "met": level_met(row, found), **figures})
        return {
            "model": self.model,
            "settings": dataclasses.asdict(self.settings),
            "targets": rows,
            "parts": {name: summary.as_dict() for name, summary in self.summaries().items()},
            "psnr": [round(value, 3) for value in self.psnr],
            "samples": [LINES.line(key, value) for key, value in self.scores.items()],
        }


def _percent(rate: Rate, detail: str = "") -> Figure:
    return Figure(100.0 * rate.success, 100.0 * rate.low, 100.0 * rate.high, rate.count, detail)


def _figure(measure: str, found: Sequence[tuple[Key, Score]]) -> Figure | None:
    if measure == "photos":
        return _over_photos(((index, value.success) for (_, index), value in found), 100.0)
    scores = [value for _, value in found]
    if measure == "reference":
        scores = [value for value in scores if value.task in REFERENCE_TASKS]
        return _percent(summarise(scores).overall) if scores else None
    summary = summarise(scores)
    if measure == "mean":
        return _percent(summary.overall)
    rates = dict(summary.tasks)
    if measure == "lowest sub-kind":  # where a kind has sub-kinds, each of them instead
        split = {kind.split(":")[0] for kind in summary.kinds}
        rates = {name: rate for name, rate in rates.items() if name not in split} | summary.kinds
    name = min(rates, key=lambda each: rates[each].success)
    return _percent(rates[name], name)


def _over_photos(values: Iterable[tuple[int, float]], scale: float) -> Figure:
    """The mean over all crops, from (number, value); the interval is over photos, which are drawn with replacement."""
    sums, counts = np.zeros(len(PHOTOS)), np.zeros(len(PHOTOS))
    for number, value in values:
        sums[number % len(PHOTOS)] += scale * value
        counts[number % len(PHOTOS)] += 1
    seen = np.flatnonzero(counts)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).choice(seen, (BOOTSTRAP_DRAWS, len(seen)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (2.5, 97.5))
    count = int(counts.sum())
    return Figure(float(sums.sum() / count), float(low), float(high), count, f"{len(seen)} photos")


def _header(settings: WorldSettings, model: str) -> dict[str, Any]:
    """What must be equal to go on with a run; counts and groups may grow, the batch size does not change results."""
    kept = dataclasses.asdict(settings)
    for name in ("images", "clips", "groups", "batch_size"):
        del kept[name]
    kept["look"]["size"] = list(kept["look"]["size"])
    return {"model": model, **kept}


def _benchmark(groups: dict[str, Group]) -> Benchmark[Score]:
    parts = {part.name: part for group in groups.values() for part in group.parts}
    return Benchmark(lambda key: parts[key[0]].samples[key[1]], score)


def run_world(
    pipe: InstructXPipeline,
    settings: WorldSettings,
    path: Path | None = None,
    resume: bool = False,
    progress: OnSample | None = None,
) -> WorldResult:
    """Edit and score the samples of the groups. path: file of JSON lines to write and, with resume, to continue from.

    Raises InputError when `path` is another run's, the groups are unknown or the model gives no finite pictures.
    """
    model, groups = fingerprint(pipe), build_groups(settings.groups, settings.look)
    parts = [part for group in groups.values() for part in group.parts]
    wanted: list[Key] = [(part.name, index) for part in parts for index in range(settings.count(part))]
    partial = None if path is None else Partial(path, LINES)
    done = {} if partial is None else partial.open(_header(settings, model), wanted, resume)
    scores = run_edits(pipe, _benchmark(groups), wanted, settings, done, partial, progress)
    with_photos = "vae" in settings.groups and settings.images > 0
    crops = max(1, round(CROPS * settings.images / IMAGES))
    psnr = photos_psnr(pipe, crops, settings.batch_size) if with_photos else []
    return WorldResult(scores, groups, settings, model, psnr)


def badness(value: Score) -> float:
    """How far a failed edit is from success: how near to what is wrong, or its largest error over the limit."""
    errors = [region.error / region.limit for region in value.regions.values()]
    return 0.0 if value.success else max([value.share, *errors])


def sheet_row(sample: Sample, frames_FHWC: np.ndarray, value: Score) -> SheetRow:
    """A row for draw_sheet, with what is wrong in words."""
    return SheetRow(
        title=f"[{sample.task}] {sample.instruction}",
        source_FHWC=sample.source_FHWC,
        edited_FHWC=frames_FHWC,
        target_FHWC=sample.target_FHWC,
        reference_HWC=sample.reference_HWC,
        success=value.success,
        detail=f"({'; '.join(value.reasons)})" if value.reasons else "",
    )


def worst_failures(pipe: InstructXPipeline, result: WorldResult, count: int = 24) -> Image.Image | None:
    """Sheet of the worst failures, at most two a task and part first. None when nothing failed."""
    sheet = FailureSheet(badness, sheet_row, TASKS, result.model)
    return draw_failures(pipe, _benchmark(result.groups), result.scores, result.settings, sheet, count)
