"""Outputs judged over the machines of a Ray cluster: what run.py's loop gives, made by several workers.

Beside run.py, whose files and rules these are. Lines are written by the driver alone, as results come in, so whoever
dies, what has come in is kept and the next run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...cluster import Work, spread
from ...data.record import EditRecord, from_json
from ..run_folder import RunFolder
from ..scores import Score
from .run import Judge, JudgeCase, OnScore, keep_scores


def judge_on_ray(
    run: RunFolder,
    make: Callable[[], Judge],
    editors: Sequence[str],
    items: Iterable[EditRecord],
    samples: int = 1,
    progress: OnScore | None = None,
    workers: int | None = None,
) -> list[Score]:
    """What run.py's judge_outputs gives. make: the judge, called here and on each worker."""

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
