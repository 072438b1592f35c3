"""The benchmark on the procedural world: run a model over it, resumably, and write table, JSON and worst failures.

shapes.benchmark (samples) -> batch.edit_samples -> shapes.success (scores) -> summary. While it runs, one JSON line a
sample goes to `<OUT>.partial.jsonl`; with resume, samples that are there are not edited again.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digests import model_digest
from ..errors import InputError
from ..media.outputs import atomic_path
from ..shapes import REFERENCE_TASKS, TASKS, RegionScore, Sample, Score, score
from ..shapes.benchmark import Summary, benchmark_samples, summarise
from .batch import edit_samples, group_samples
from .sheet import SheetRow, draw_sheet

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline import InstructXPipeline

log = logging.getLogger("instructx")
ZERO_SHOT_TASKS = ("style", "segment")  # never trained on clips
Key = tuple[str, int]  # modality, index
OnSample = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSettings:
    """What is measured and how; two runs with equal settings and weights give equal numbers on one device."""

    images: int = 500
    clips: int = 200
    steps: int | None = None  # None: the model's
    guidance: float | None = None
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.images < 0 or self.clips < 0 or self.images + self.clips == 0:
            raise InputError(f"images {self.images}, clips {self.clips}: both >= 0 and one of them positive")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps is {self.steps}; use at least 1")
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}; use at least 1")


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
            "samples": [_line(key, value) for key, value in sorted(self.scores.items())],
        }


def _line(key: Key, value: Score) -> dict[str, Any]:
    return {"modality": key[0], "index": key[1], **dataclasses.asdict(value)}


def _from_line(line: dict[str, Any]) -> tuple[Key, Score]:
    fields = dict(line)
    key = (str(fields.pop("modality")), int(fields.pop("index")))
    fields["regions"] = {name: RegionScore(**region) for name, region in fields["regions"].items()}
    return key, Score(**fields)


def fingerprint(pipe: InstructXPipeline) -> str:
    """Name and digest of configuration and weights, so that a resumed run cannot mix two models."""
    digest = model_digest(pipe.instructx_config.to_json(), pipe.vae, pipe.transformer, pipe.encoder)
    return f"{pipe.instructx_config.name}-{digest[:12]}"


def _settings_header(settings: EvalSettings, model: str) -> dict[str, Any]:
    """What must be equal to go on with a run; counts may grow and the batch size does not change results."""
    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("images", "clips", "batch_size")}
    return {"model": model, **kept}


def _resume(path: Path, header: dict[str, Any]) -> dict[Key, Score]:
    """Scores of an interrupted run. A last line cut by a crash is dropped. Raises InputError on another run's file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        found = json.loads(lines[0]) if lines else None
    except json.JSONDecodeError:
        found = None
    if found != header:
        raise InputError(f"{path}: belongs to another model or other settings; remove it or run without --resume")
    scores: dict[Key, Score] = {}
    for number, text in enumerate(lines[1:], 2):
        try:
            key, value = _from_line(json.loads(text))
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path}: line {number} is damaged ({error}); remove the file and start again") from None
        scores[key] = value
    return scores


def run_benchmark(
    pipe: InstructXPipeline,
    settings: EvalSettings,
    partial: Path | None = None,
    resume: bool = False,
    progress: OnSample | None = None,
) -> EvalResult:
    """Edit and score every sample. partial: file of JSON lines to write and, with resume, to continue from.

    Raises InputError when `partial` is another run's, or the model gives no finite pictures.
    """
    model = fingerprint(pipe)
    header = _settings_header(settings, model)
    sets = [(m, benchmark_samples(m, n)) for m, n in (("image", settings.images), ("video", settings.clips)) if n]
    wanted: list[Key] = [(modality, index) for modality, samples in sets for index in range(len(samples))]
    done: dict[Key, Score] = {}
    if partial is not None and resume and partial.exists():
        done = {key: value for key, value in _resume(partial, header).items() if key in set(wanted)}
    if partial is not None:
        # Written anew even on resume: this drops a half line that a crash left at the end.
        lines = [json.dumps(header), *(json.dumps(_line(key, value)) for key, value in done.items())]
        with atomic_path(partial) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    by_modality = dict(sets)
    todo = [key for key in wanted if key not in done]
    step = 8 * settings.batch_size  # samples are made in portions; all at once would take memory for nothing
    for start in range(0, len(todo), step):
        portion = [by_modality[modality][index] for modality, index in todo[start : start + step]]
        for positions in group_samples(portion, settings.batch_size):
            batch = [portion[i] for i in positions]
            edited = edit_samples(pipe, batch, settings.steps, settings.guidance, settings.seed)
            scored = {(s.modality, s.index): score(s, frames) for s, frames in zip(batch, edited, strict=True)}
            done.update(scored)
            if partial is not None:
                _append(partial, scored)
            if progress is not None:
                progress(len(done), len(wanted))
    return EvalResult(scores={key: done[key] for key in wanted}, settings=settings, model=model)


def _append(path: Path, scores: dict[Key, Score]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(_line(key, value)) + "\n" for key, value in scores.items())
        file.flush()
        os.fsync(file.fileno())


def badness(value: Score) -> float:
    """How far a failed edit is from success: its largest error over the limit; 0 for a success."""
    if value.success:
        return 0.0
    return max([r.error / r.limit for r in value.regions.values()] + [value.outside_error / 0.05])


def describe(value: Score) -> str:
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
        detail=f"({describe(value)})" if numbers else "",
    )


def worst_failures(pipe: InstructXPipeline, result: EvalResult, count: int = 24) -> Image.Image | None:
    """Sheet of the worst failures, at most two a task and modality first. None when nothing failed.

    The edits are made again: they depend on the sample and the seed alone, so nothing but scores has to be kept.
    """
    failed = sorted((k for k, v in result.scores.items() if not v.success), key=lambda k: -badness(result.scores[k]))
    chosen = _spread(failed, result.scores, count)
    settings = result.settings
    samples = [benchmark_samples(modality, index + 1)[index] for modality, index in chosen]
    rows: dict[int, SheetRow] = {}
    for positions in group_samples(samples, settings.batch_size):
        batch = [samples[i] for i in positions]
        edited = edit_samples(pipe, batch, settings.steps, settings.guidance, settings.seed)
        for position, sample, frames in zip(positions, batch, edited, strict=True):
            rows[position] = sheet_row(sample, frames, result.scores[chosen[position]])
    if not rows:
        return None
    title = f"worst failures of {result.model} ({len(failed)} of {len(result.scores)} failed)"
    return draw_sheet([rows[i] for i in range(len(samples))], title=title)


def _spread(failed: Sequence[Key], scores: dict[Key, Score], count: int) -> list[Key]:
    taken: dict[tuple[str, str], int] = {}
    first: list[Key] = []
    for key in failed:
        kind = (key[0], scores[key].task)
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] <= 2:
            first.append(key)
    rest = [key for key in failed if key not in set(first)]
    order = {task: i for i, task in enumerate(TASKS)}
    return sorted((first + rest)[:count], key=lambda key: (key[0], order[scores[key].task]))
