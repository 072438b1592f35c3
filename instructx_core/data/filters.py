"""Which records of a set a mixture keeps: by task, by limits on scores, and the best share by a score.

Between a reader and records.py. A record without a score that is asked for is not kept; what share is, is said.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InputError, some
from .mixture import MixtureSet
from .record import EditRecord

_COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
_LIMIT = re.compile(r"(>=|<=|==|>|<)\s*(.+)", re.DOTALL)


def filtered(records: Sequence[EditRecord], chosen: MixtureSet) -> list[EditRecord]:
    """In their order. Raises InputError for a task or column that no record has, and where nothing is left."""
    known = sorted({record.task for record in records})
    for task in (*chosen.tasks, *chosen.but):
        if task not in known:
            raise InputError(f"set {chosen.name}: no record has task {task!r}; its tasks are {some(known, 12)}")
    kept = [
        record
        for record in records
        if (not chosen.tasks or record.task in chosen.tasks) and record.task not in chosen.but
    ]
    for column, limit in chosen.keep.items():
        passes = _limit(chosen.name, column, limit)
        _check_column(chosen.name, column, records)
        kept = [record for record in kept if passes(record.meta.get(column))]
    for column, share in chosen.best.items():
        _check_column(chosen.name, column, records)
        scored = [record for record in kept if _number(record.meta.get(column)) is not None]
        scored.sort(key=lambda record: _number(record.meta[column]) or 0.0, reverse=True)
        best = {record.id for record in scored[: math.ceil(share * len(scored))]}
        kept = [record for record in kept if record.id in best]
    if records and not kept:
        raise InputError(f"set {chosen.name}: its filters keep none of {len(records)} records; widen them")
    return kept


def _limit(name: str, column: str, limit: str) -> Callable[[Any], bool]:
    match = _LIMIT.fullmatch(limit.strip())
    if match is None:
        raise InputError(f'set {name}: keep.{column} is {limit!r}; write a limit, as ">= 4" or "== good"')
    compare, wanted = _COMPARE[match[1]], _number(match[2].strip())
    if wanted is None:
        if match[1] != "==":
            raise InputError(f"set {name}: keep.{column} is {limit!r}; {match[1]} needs a number")
        return lambda value: str(value) == match[2].strip()
    return lambda value: (number := _number(value)) is not None and bool(compare(number, wanted))


def _number(value: Any) -> float | None:
    """A number, or text of one, as CSV has it; None for anything else, NaN included."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _check_column(name: str, column: str, records: Sequence[EditRecord]) -> None:
    if records and not any(column in record.meta for record in records):
        known = sorted({key for record in records[:1000] for key in record.meta})
        raise InputError(f"set {name}: no record has {column!r} in its meta; it has {some(known, 12) or 'nothing'}")
