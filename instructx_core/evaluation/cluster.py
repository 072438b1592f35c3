"""The links edit and judge over the machines of a Ray cluster: what the plain loops give, made by several workers.

Beside editors/run.py and judge/run.py, whose files and rules these are. Lines are written by the driver alone, as
results come in, so whoever dies, what has come in is kept and the next run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..cluster import Work, ask_worker, spread
from ..data.record import EditRecord, from_json
from .editors.run import Editor, OnItem, edit_item, keep_outputs
from .judge.run import Judge, JudgeCase, OnScore, keep_scores
from .outputs import Output
from .run_folder import RunFolder
from .scores import Score


def edit_on_ray(
    run: RunFolder,
    make: Callable[[], Editor],
    items: Iterable[EditRecord],
    seed: int = 0,
    progress: OnItem | None = None,
    workers: int | None = None,
) -> tuple[str, list[Output]]:
    """The editor's name, and what editors/run.py's edit_items gives. make: the editor, called on each worker."""
    name, settings = ask_worker(partial(_described, make))
    folder = run.editor_folder(name, {**settings, "seed": seed})

    def made(todo: Sequence[EditRecord]) -> Iterator[Output]:
        work = partial(_editing, make, run.path, folder, seed)
        yield from (Output(**values) for values in spread([item.as_json() for item in todo], work, workers))

    return name, keep_outputs(folder, name, list(items), made, progress)


def _described(make: Callable[[], Editor]) -> tuple[str, dict[str, Any]]:
    editor = make()
    return editor.name, dict(editor.settings)


def _editing(make: Callable[[], Editor], run: Path, folder: Path, seed: int) -> Work:
    editor = make()
    return lambda values: edit_item(RunFolder(run), editor, from_json(values), folder, seed).as_json()


def judge_on_ray(
    run: RunFolder,
    make: Callable[[], Judge],
    editors: Sequence[str],
    items: Iterable[EditRecord],
    samples: int = 1,
    progress: OnScore | None = None,
    workers: int | None = None,
) -> list[Score]:
    """What judge/run.py's judge_outputs gives. make: the judge, called here and on each worker."""

    def made(todo: Sequence[JudgeCase]) -> Iterator[tuple[Score, Mapping[str, Any] | None]]:
        rows = [
            dataclasses.asdict(each)
            | {name: str(getattr(each, name)) for name in ("output", "folder")}
            | {"item": each.item.as_json()}
            for each in todo
        ]
        for score, transcript in spread(rows, partial(_judging, make), workers):
            yield Score(**score), transcript

    return keep_scores(run, make().name, editors, items, samples, made, progress)


def _judging(make: Callable[[], Judge]) -> Work:
    judge = make()

    def work(row: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
        paths = {name: Path(row[name]) for name in ("output", "folder")}
        score, transcript = judge.judge(JudgeCase(**{**row, **paths, "item": from_json(row["item"])}))
        return score.as_json(), transcript

    return work
