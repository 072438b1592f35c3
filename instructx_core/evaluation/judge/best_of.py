"""Best of N: one edit with several seeds, each judged, the best one kept (`instructx edit --best-of`, lists of jobs).

Place: look -> edit of each seed -> judge -> the output. The judge is asked A.9's questions, of a picture as of a clip
of one frame; what counts is the mean of its dimensions. An edit that gets no score is worse than any that has one;
where none has, the first is kept, and the report says so. Finished seeds and their scores outlive a killed process
(seed_store.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ...data.record import EditRecord, Locator
from ...digests import file_digest
from ...editing.edit import edit
from ...editing.look import Look
from ...editing.progress import SILENT, Progress
from ...editing.report import EditReport, make_report
from ...editing.request import EditRequest
from ...editing.settings import settle
from ...editing.windows.state import windows_folder
from ...errors import InputError
from ...fields import check_seed
from ...media.names import output_place
from ...media.outputs import claim_output
from ..scores import Score
from .run import Judge, JudgeCase
from .seed_store import SeedStore

if TYPE_CHECKING:
    from ...pipeline import InstructXPipeline


@dataclass(frozen=True, slots=True)
class SeedEdit:
    """The edit of one seed, in a file of its own. key: all that decides it, by content. kept: of an earlier run."""

    report: EditReport
    key: str
    kept: bool


@dataclass(frozen=True, slots=True)
class BestOf:
    """count: seeds, from the request's own on. model: gives what identifies the model and how it runs, by content
    (editing/jobs.py::model_key). Called as editing/edit.py's `edit` is."""

    count: int
    judge: Judge
    model: Callable[[], str]

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(f"--best-of {self.count}: use at least 2, or leave it out")

    def check(self, request: EditRequest) -> None:
        """Raises InputError for what cannot be judged, before anything is edited."""
        check_seed(request.seed + self.count - 1)
        if len(request.references) > 1:
            raise InputError("--best-of with several references: A.9's judge is shown one; leave --best-of out")

    def key(self) -> str:
        """Identifies model, number of seeds and judge, for the journal of a list."""
        return json.dumps([self.model(), self.count, self.judge.name, dict(self.judge.settings)], sort_keys=True)

    def __call__(self, pipe: InstructXPipeline, look: Look, progress: Progress = SILENT) -> EditReport:
        """Raises InputError as edit, and where the judge cannot be asked: then the output is as it was, and the seeds
        that are finished are kept for the next run."""
        self.check(look.request)
        with store_beside(look.request) as (store, notes):
            edits = self._edits(pipe, look, progress, store)
            return self._keep_best(look, [(each, self._score(look, each, store)) for each in edits], notes, store)

    def together(
        self,
        pipe: InstructXPipeline,
        look: Look,
        progress: Progress = SILENT,
        *,
        judges: bool,
        share: Callable[[Path], None],
    ) -> EditReport:
        """As a call, of one of several processes that make each edit together (`pipe.split`) and of which one judges.

        All seeds are edited before the first is judged: no process waits for a judge in the middle of its steps. One
        that does not judge has the first seed's edit as its output. share: gives all processes what lies in the first
        one's folder (speed/parallel.py::share_folder), so that all go on at the same seed. Raises InputError as a call.
        """
        self.check(look.request)
        with store_beside(look.request) as (store, notes):
            share(store.folder)
            for seed in self._seeds(look):
                share(windows_folder(store.file(seed)))
            edits = list(self._edits(pipe, look, progress, store))
            unjudged = Score("edit", "best-of", self.judge.name, {}, "missing")
            scored = [(each, self._score(look, each, store) if judges else unjudged) for each in edits]
            return self._keep_best(look, scored, notes, store)

    def _seeds(self, look: Look) -> range:
        return range(look.request.seed, look.request.seed + self.count)

    def _edits(self, pipe: InstructXPipeline, look: Look, progress: Progress, store: SeedStore) -> Iterator[SeedEdit]:
        """The edit of each seed, in a file of its own; one that is finished is not made again."""
        model, source = self.model(), look.source_digest or file_digest(look.request.source)
        for seed in self._seeds(look):
            request = dataclasses.replace(look.request, output=store.file(seed), seed=seed)
            of_seed, key = dataclasses.replace(look, request=request), request.content_key(model, source)
            if (made := store.finished(key, seed)) is not None:
                settings = settle(of_seed, pipe.instructx_config)
                report = make_report(of_seed, settings, made.padded, made.notes, made.seconds)
                yield SeedEdit(report, key, True)
                continue
            report = edit(pipe, of_seed, progress)
            store.add_edit(key, seed, report)
            yield SeedEdit(report, key, False)

    def _score(self, look: Look, edited: SeedEdit, store: SeedStore) -> Score:
        asked = {"name": self.judge.name, **json.loads(json.dumps(dict(self.judge.settings)))}
        if (score := store.score(edited.key, asked)) is None:
            record = record_of(look.request, look.modality, edited.report.seed)
            score = self.judge.judge(JudgeCase(record, "best-of", edited.report.output, Path()))[0]
            store.add_score(edited.key, asked, score)
        return score

    def _keep_best(
        self, look: Look, made: Sequence[tuple[SeedEdit, Score]], notes: Sequence[str], store: SeedStore
    ) -> EditReport:
        """Moves the best edit to the output's place; the first of equals."""
        best = max(range(len(made)), key=lambda number: (mean_of(made[number][1]), -number))
        report, output = made[best][0].report, look.request.output
        os.replace(report.output, output_place(output))  # of a link the target
        store.remove()
        kept = [str(each.report.seed) for each, _ in made if each.kept]
        before = [f"edited before and kept: seed {', '.join(kept)}"] if kept else []
        words = choice_notes([score for _, score in made], best, self.judge.name)
        return dataclasses.replace(report, output=output, notes=(*report.notes, *before, *notes), chosen=words)


@contextmanager
def store_beside(request: EditRequest) -> Iterator[tuple[SeedStore, tuple[str, ...]]]:
    """Where the seeds lie that the output is chosen from, claimed as long as the block lasts, and notes of that."""
    restart = request.windows is not None and request.windows.restart
    with claim_output(request.output) as notes:
        store = SeedStore(request.output, restart)
        try:
            yield store, notes
        except InputError:
            store.remove_if_empty()
            raise


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
