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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        self.check(look.request)
        with folder_beside(look.request.output) as (folder, notes):
            edits = self._edits(pipe, look, progress, folder)
            return self._keep_best(look, [(each, self._score(look, each)) for each in edits], notes)

    def together(self, pipe: InstructXPipeline, look: Look, progress: Progress = SILENT, *, judges: bool) -> EditReport:
        """As a call, of one of several processes that make each edit together (`pipe.split`) and of which one judges.

        All seeds are edited before the first is judged: no process waits for a judge in the middle of its steps. One
        that does not judge has the first seed's edit as its output. Raises InputError as a call.
        """
        self.check(look.request)
        with folder_beside(look.request.output) as (folder, notes):
            edits = list(self._edits(pipe, look, progress, folder))
            unjudged = Score("edit", "best-of", self.judge.name, {}, "missing")
            return self._keep_best(
                look, [(each, self._score(look, each) if judges else unjudged) for each in edits], notes
            )

    def _edits(self, pipe: InstructXPipeline, look: Look, progress: Progress, folder: Path) -> Iterator[EditReport]:
        """The edit of each seed, in a file of its own."""
        for seed in range(look.request.seed, look.request.seed + self.count):
            output = folder / f"{seed}{look.request.output.suffix}"
            request = dataclasses.replace(look.request, output=output, seed=seed)
            yield edit(pipe, dataclasses.replace(look, request=request), progress)

    def _score(self, look: Look, edited: EditReport) -> Score:
        record = record_of(look.request, look.modality, edited.seed)
        return self.judge.judge(JudgeCase(record, "best-of", edited.output, Path()))[0]

    def _keep_best(self, look: Look, made: Sequence[tuple[EditReport, Score]], notes: tuple[str, ...]) -> EditReport:
        """Moves the best edit to the output's place; the first of equals."""
        best = max(range(len(made)), key=lambda number: (mean_of(made[number][1]), -number))
        report, output = made[best][0], look.request.output
        os.replace(report.output, output_place(output))  # of a link the target
        words = choice_notes([score for _, score in made], best, self.judge.name)
        return dataclasses.replace(report, output=output, notes=(*report.notes, *notes), chosen=words)


@contextmanager
def folder_beside(output: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A folder for what the output is chosen from, and notes of who claims it; both last as long as the block."""
    with (
        claim_output(output) as notes,
        tempfile.TemporaryDirectory(prefix=".best-of-", dir=output.absolute().parent) as folder,
    ):
        yield Path(folder), notes


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
