"""A user study (A.3) as a table of the report: the raters' means beside a judge's, and how far the raters agree.

Place: what study-result --json wrote -> studies -> page, Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..objects import REWRITE, read_object
from ..statistics.intervals import Estimate
from ..study.result import AVERAGE_RULE
from .tables import ReportCell, ReportRow, ReportTable, number_cell, ranked

COLUMNS = {
    "instruction": "Instruct follow",
    "preservation": "Preservation",
    "quality": "Quality",
    "average": "Average",
}


def read_study(path: Path) -> dict[str, Any]:
    """What study-result --json wrote. Raises InputError for a file that no table can be made of."""
    values = read_object(path, REWRITE)
    try:
        study_table(values)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: is no result of study-result --json; {REWRITE}") from None
    return values


def study_table(values: Mapping[str, Any]) -> ReportTable:
    """A row an editor, from 1 to 5, and Krippendorff's alpha of each question in the last one."""
    rows = [
        ReportRow((ReportCell(editor), *(number_cell(_estimate(means.get(key)), 2) for key in COLUMNS)))
        for editor, means in values["means"].items()
    ]
    agreement = [number_cell(_estimate(values["agreement"].get(key)), 2) for key in COLUMNS]
    rows = [*ranked(rows, range(1, 1 + len(COLUMNS))), ReportRow((ReportCell("Agreement (alpha)"), *agreement))]
    differences = [f"{each['first']} - {each['second']}: {_words(each)}" for each in values["differences"]["average"]]
    notes = [
        f"{len(values['raters'])} raters, {values['items']} items, {values['given']} of {values['asked']} ratings; "
        "intervals are over raters and items.",
        AVERAGE_RULE,
        *([f"Differences of the average, p-values by Holm's method: {'; '.join(differences)}."] if differences else []),
    ]
    return ReportTable(f"User study {values['study']}", ("Model", *COLUMNS.values()), tuple(rows), tuple(notes))


def _estimate(values: Mapping[str, Any] | None) -> Estimate | None:
    return None if values is None else Estimate(**values)


def _words(each: Mapping[str, Any]) -> str:
    cell = number_cell(_estimate(each["difference"]), 2)
    p = "" if each["p_holm"] is None else f", p = {each['p_holm']:.4f}"
    return f"{cell.text} {cell.interval}".strip() + p
