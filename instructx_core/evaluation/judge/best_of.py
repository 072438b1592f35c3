"""Best of N: one edit with several seeds, each judged, the best one kept (`instructx edit --best-of`, lists of jobs).

Place: look -> edit of each seed -> judge -> the output. The judge is asked A.9's questions, of a picture as of a clip
of one frame; what counts is the mean of its dimensions. An edit that gets no score is worse than any that has one;
where none has, the first is kept, and the report says so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ...data.record import EditRecord, Locator
from ...editing.edit import edit
from ...editing.look import Look
from ...editing.progress import SILENT, Progress
from ...editing.report import EditReport
from ...editing.request import EditRequest
from ...errors import InputError
from ...fields import check_seed
from ...media.names import output_place
from ...media.outputs import claim_output
from ..scores import Score
from .run import Judge, JudgeCase

if TYPE_CHECKING:
    from ...pipeline import InstructXPipeline


@dataclass(frozen=True, slots=True)
class BestOf:
    """count: seeds, from the request's own on. Called as editing/edit.py's `edit` is."""

    count: int
    judge: Judge

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(f"--best-of {self.count}: use at least 2, or leave it out")

    def check(self, request: EditRequest) -> None:
        """Raises InputError for what cannot be judged, before anything is edited."""
        check_seed(request.seed + self.count - 1)
        if len(request.references) > 1:
            raise InputError("--best-of with several references: A.9's judge is shown one; leave --best-of out")

    def key(self, model: str) -> str:
        """Identifies model, number of seeds and judge, for the journal of a list."""
        return json.dumps([model, self.count, self.judge.name, dict(self.judge.settings)], sort_keys=True)

    def __call__(self, pipe: InstructXPipeline, look: Look, progress: Progress = SILENT) -> EditReport:
        """Raises InputError as edit, and where the judge cannot be asked: then nothing is written."""
        request = look.request
        self.check(request)
        made: list[tuple[Path, EditReport, Score]] = []
        with (
            claim_output(request.output) as notes,
            tempfile.TemporaryDirectory(prefix=".best-of-", dir=request.output.absolute().parent) as folder,
        ):
            for seed in range(request.seed, request.seed + self.count):
                output = Path(folder) / f"{seed}{request.output.suffix}"
                one = dataclasses.replace(look, request=dataclasses.replace(request, output=output, seed=seed))
                report = edit(pipe, one, progress)
                score, _ = self.judge.judge(
                    JudgeCase(record_of(request, look.modality, seed), "best-of", output, Path())
                )
                made.append((output, report, score))
            best = max(range(self.count), key=lambda number: (mean_of(made[number][2]), -number))
            os.replace(made[best][0], output_place(request.output))  # of a link the target
        report = made[best][1]
        words = choice_notes([score for _, _, score in made], best, self.judge.name)
        return dataclasses.replace(report, output=request.output, notes=(*report.notes, *notes), chosen=words)


def record_of(request: EditRequest, modality: str, seed: int) -> EditRecord:
    """What the judge is asked about."""
    return EditRecord(
        id=f"seed {seed}",
        task="edit",
        modality="video" if modality == "video" else "image",
        instruction=request.instruction,
        source=Locator(str(request.source.absolute())),
        reference=Locator(str(request.references[0].absolute())) if request.references else None,
    )


def mean_of(score: Score) -> float:
    """Of its dimensions; below every score where there are none."""
    return fmean(score.dimensions.values()) if score.dimensions else 0.0


def choice_notes(scores: Sequence[Score], best: int, judge: str) -> tuple[str, ...]:
    """Which was kept, and every score."""
    named = [
        f"{score.id} {mean_of(score):.2f}" if score.dimensions else f"{score.id} {score.status} ({score.reason})"
        for score in scores
    ]
    kept = f"{scores[best].id} of {len(scores)} kept by {judge}: {', '.join(named)}"
    nothing = "" if any(score.dimensions for score in scores) else "; none has a score, so this is the first"
    return (kept + nothing,)
