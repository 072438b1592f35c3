"""The benchmark on the procedural world, version 1: run a model over it, resumably; table, JSON and worst failures.

shapes.benchmark (samples) -> running -> shapes.success (scores) -> summary. While it runs, one JSON line a sample goes
to `<OUT>.partial.jsonl`; with resume, samples that are there are not edited again. World is what the next model's is.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..shapes import REFERENCE_TASKS, TASKS, RegionScore, Sample, Score, score
from ..shapes.benchmark import Summary, benchmark_samples, summarise
from .partial import Key, Lines, Partial, fingerprint
from .running import Benchmark, FailureSheet, OnSample, RunSettings, draw_failures, run_edits
from .sheet import SheetRow

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline import InstructXPipeline

ZERO_SHOT_TASKS = ("style", "segment")  # never trained on clips
LINES = Lines(Score, RegionScore, "modality")  # a key is (modality, index)


@dataclass(frozen=True, kw_only=True)
class EvalSettings(RunSettings):
    """What is measured and how."""

    images: int = 500
    clips: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images < 0 or self.clips < 0 or self.images + self.clips == 0:
            raise InputError(f"images {self.images}, clips {self.clips}: both >= 0 and one of them positive")


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Scores by (modality, index), and their summaries."""

    scores: dict[Key, Score]
    settings: EvalSettings
    model: str

    def summary(self, modality: str) -> Summary | None:
        chosen = [s for (kind, _), s in self.scores.items() if kind == modality]
        return summarise(chosen) if chosen else None

    def groups(self) -> dict[str, Summary]:
        """The two special claims: reference edits of both modalities, and zero-shot tasks on clips."""
        pick = {
            "reference": [s for s in self.scores.values() if s.task in REFERENCE_TASKS],
            "zero-shot clips": [
                s for (kind, _), s in self.scores.items() if kind == "video" and s.task in ZERO_SHOT_TASKS
            ],
        }
        return {name: summarise(chosen) for name, chosen in pick.items() if chosen}

    def table(self) -> str:
        """Plain text for the terminal and the model card."""
        parts = []
        for modality, name in (("image", "images"), ("video", "clips")):
            summary = self.summary(modality)
            if summary is not None:
                parts.append(f"{name}\n{summary.table()}")
        for name, summary in self.groups().items():
            rate = summary.overall
            parts.append(f"{name}: {100 * rate.success:.1f}% [{100 * rate.low:.1f}, {100 * rate.high:.1f}]")
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        summaries = {m: self.summary(m) for m in ("image", "video")}
        return {
            "model": self.model,
            "settings": dataclasses.asdict(self.settings),
            **{name: summary.as_dict() for name, summary in summaries.items() if summary is not None},
            "groups": {name: summary.as_dict()["mean over tasks"] for name, summary in self.groups().items()},
            "samples": [LINES.line(key, value) for key, value in sorted(self.scores.items())],
        }


def _settings_header(settings: EvalSettings, model: str) -> dict[str, Any]:
    """What must be equal to go on with a run; counts may grow and the batch size does not change results."""
    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("images", "clips", "batch_size")}
    return {"model": model, **kept}


def _sample(key: Key) -> Sample:
    modality, index = key
    return benchmark_samples(modality, index + 1)[index]


BENCHMARK: Benchmark[Score] = Benchmark(_sample, score)


def run_benchmark(
    pipe: InstructXPipeline,
    settings: EvalSettings,
    path: Path | None = None,
    resume: bool = False,
    progress: OnSample | None = None,
) -> EvalResult:
    """Edit and score every sample. path: file of JSON lines to write and, with resume, to continue from.

    Raises InputError when `path` is another run's, or the model gives no finite pictures.
    """
    model = fingerprint(pipe)
    counts = {"image": settings.images, "video": settings.clips}
    wanted: list[Key] = [(modality, index) for modality, count in counts.items() for index in range(count)]
    partial = None if path is None else Partial(path, LINES)
    done = {} if partial is None else partial.open(_settings_header(settings, model), wanted, resume)
    scores = run_edits(pipe, BENCHMARK, wanted, settings, done, partial, progress)
    return EvalResult(scores=scores, settings=settings, model=model)


def badness(value: Score) -> float:
    """How far a failed edit is from success: its largest error over the limit; 0 for a success."""
    if value.success:
        return 0.0
    return max([r.error / r.limit for r in value.regions.values()] + [value.outside_error / 0.05])


def error_text(value: Score) -> str:
    """The errors of an edit against their limits, for a sheet."""
    parts = [f"{name} {r.error:.3f}/{r.limit:.3f}" for name, r in value.regions.items()]
    return ", ".join([*parts, f"outside {value.outside_error:.3f}"])


def sheet_row(sample: Sample, frames: Any, value: Score, numbers: bool = True) -> SheetRow:
    """A row for draw_sheet; numbers: with the errors and their limits."""
    return SheetRow(
        title=f"[{sample.task}] {sample.instruction}",
        source_FHWC=sample.source_FHWC,
        edited_FHWC=frames,
        target_FHWC=sample.target_FHWC,
        reference_HWC=sample.reference_HWC,
        success=value.success,
        detail=f"({error_text(value)})" if numbers else "",
    )


def worst_failures(pipe: InstructXPipeline, result: EvalResult, count: int = 24) -> Image.Image | None:
    """Sheet of the worst failures, at most two a task and modality first. None when nothing failed."""
    sheet = FailureSheet(badness, sheet_row, TASKS, result.model)
    return draw_failures(pipe, BENCHMARK, result.scores, result.settings, sheet, count)
