"""Outputs -> judge -> scores.jsonl and transcripts.jsonl, resumably: nothing is judged or paid for twice.

Place: outputs -> run (client or truth) -> scores. A missing output is a line with the status "missing".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...data.record import EditRecord
from ...digests import file_digest
from ...errors import InputError
from ..lines import LineFile
from ..outputs import OUTPUTS, Output, read_outputs
from ..run_folder import RunFolder
from ..scores import Key, Score, ScoreFile
from ..threads import as_they_come
from .answering import AnsweringModels

TRANSCRIPTS = "transcripts.jsonl"
OnScore = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class JudgeCase:
    """One output to be judged. folder: of the run, which the item's media are relative to. sample: which of several.
    sha256: of the output's file, where it is known."""

    item: EditRecord
    editor: str
    output: Path
    folder: Path
    sample: int = 0
    sha256: str | None = None


class Judge(Protocol):
    """Who judges. concurrency: how many cases at once, from threads."""

    @property
    def name(self) -> str: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the scores."""
        ...

    def judge(self, case: JudgeCase) -> tuple[Score, Mapping[str, Any] | None]:
        """A score, and the transcript of how it came about where there is one. Raises InputError only where no case
        could be judged: a wrong address, a missing prompt, a spent budget."""
        ...


def cases_of(run: RunFolder, editors: Sequence[str], items: Iterable[EditRecord]) -> Iterator[JudgeCase | Output]:
    """What is to be judged of each editor, in the order of the items; for an item without a file its failed output."""
    wanted = list(items)
    for editor in editors:
        folder = run.path / editor
        outputs = read_outputs(folder / OUTPUTS)
        if not any(name == editor for _, name in outputs):
            raise InputError(f"{folder / OUTPUTS}: holds no output of {editor}; edit the items first")
        for item in wanted:
            output = outputs.get((item.id, editor)) or Output(item.id, editor, None, error="it was never edited")
            path = output.path(folder)
            if path is not None and path.is_file():
                yield JudgeCase(item, editor, path, run.path)
            elif path is not None:
                yield Output(item.id, editor, None, error=f"its output {output.output} is not there any more")
            else:
                yield output


def sort_cases(
    run: RunFolder,
    judge: str,
    editors: Sequence[str],
    items: Iterable[EditRecord],
    samples: int,
    done: Mapping[Key, Score],
) -> tuple[list[JudgeCase], list[Score]]:
    """What that judge has still to judge, and the scores that are known: judged before, and of missing outputs.

    An output whose file is not the one that was judged is judged again. done: of scores.jsonl. Raises InputError for
    fewer samples than one, and as cases_of.
    """
    if samples < 1:
        raise InputError(f"samples is {samples}; use at least 1")
    todo, known = list[JudgeCase](), list[Score]()
    for each in cases_of(run, editors, items):
        sha256 = None if isinstance(each, Output) else file_digest(each.output)
        for sample in range(samples):
            if isinstance(each, Output):
                reason = each.error or "no output"
                known.append(Score(each.id, each.editor, judge, {}, "missing", reason, sample=sample))
                continue
            score = done.get((each.item.id, each.editor, judge, sample))
            if score is not None and score.sha256 in (None, sha256):
                known.append(score)
            else:
                todo.append(dataclasses.replace(each, sample=sample, sha256=sha256))
    return todo, known


def judge_outputs(
    run: RunFolder,
    judge: Judge,
    editors: Sequence[str],
    items: Iterable[EditRecord],
    samples: int = 1,
    progress: OnScore | None = None,
) -> list[Score]:
    """A score of every item, editor and sample; those of an earlier run are kept. samples: askings of each output."""

    def made(todo: Sequence[JudgeCase]) -> Iterator[tuple[Score, Mapping[str, Any] | None]]:
        return as_they_come(judge.judge, todo, judge.concurrency)

    return keep_scores(run, judge.name, editors, items, samples, made, progress)


def keep_scores(
    run: RunFolder,
    judge: str,
    editors: Sequence[str],
    items: Iterable[EditRecord],
    samples: int,
    made: Callable[[Sequence[JudgeCase]], Iterable[tuple[Score, Mapping[str, Any] | None]]],
    progress: OnScore | None = None,
) -> list[Score]:
    """What `made` makes of the cases that are not judged yet, each written as it comes, and what is known of others.

    Raises InputError where the server's model is another one than that of this judge's earlier replies.
    """
    file, transcripts = ScoreFile(run.path), LineFile(run.path / TRANSCRIPTS)
    with file.file.claim():
        todo, found = sort_cases(run, judge, editors, items, samples, file.start())
        transcripts.start()
        file.add(score for score in found if score.status == "missing")
        total, models = len(found) + len(todo), AnsweringModels(run.path / TRANSCRIPTS, judge)
        judged = {(case.item.id, case.editor, case.sample): case.sha256 for case in todo}
        for score, transcript in made(todo):
            score = dataclasses.replace(score, sha256=judged[score.id, score.editor, score.sample])
            if transcript is not None:
                models.check(transcript)
                transcripts.add([transcript])
            file.add([score])
            found.append(score)
            if progress is not None:
                progress(len(found), total)
    return found
