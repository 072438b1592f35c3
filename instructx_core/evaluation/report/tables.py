"""Tables in the paper's layout: Table 1 of GEdit-Bench, 2 of ImgEdit-Bench, 3 of VIE-Bench, with the published rows.

Place: cells, metrics, published -> tables -> page, Markdown. New rows stand above the published ones, with intervals,
the number of items that have a score, and what the others lack. Best and second best are marked among the new rows
alone: published ones were judged by another judge, or at another time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from ..statistics.cells import Cell, Judgements, cells, overall
from ..statistics.intervals import Estimate
from ..statistics.paired import differences
from ..statistics.rules import GEDIT, IMGEDIT, OVERALL, VIE, Averaging
from .published import PublishedTable, published

PAPER = "InstructX (paper)"
TITLES = {"instruction": "Instruct follow", "preservation": "Preservation", "quality": "Quality"}
TITLES |= {"similarity": "Similarity", OVERALL: "Avg."}
METRIC_TITLES = {
    "outside_psnr": "PSNR outside (dB)",
    "outside_ssim": "SSIM outside",
    "outside_lpips": "LPIPS outside",
    "flicker": "Flicker outside",
    "reference_similarity": "Reference similarity",
    "smoothness_proxy": "Smoothness (proxy)",
}
METRIC_COLUMNS = {"smoothness": "Smoothness", "aesthetics": "Aesthetics"}
COUNTS = ("n", "Without a score")
Metrics = Mapping[tuple[str, str], Mapping[str, float]]  # (item, editor) -> metric -> value


@dataclass(frozen=True, slots=True)
class ReportCell:
    """text: the number. interval: "[low, high]" or nothing. rank: 1 the best of the new rows, 2 the second, else 0."""

    text: str
    interval: str = ""
    rank: int = 0
    value: float | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    cells: tuple[ReportCell, ...]
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class ReportTable:
    title: str
    columns: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableData:
    """What tables are of: judgements of one judge, the group of every item, how the benchmark averages, metrics.

    subsets: of the items, by name, each with rows of its own: languages and the intersection of GEdit-Bench.
    """

    judged: Sequence[Judgements]
    groups: Mapping[str, str]
    averaging: Averaging
    metrics: Metrics = field(default_factory=dict)
    subsets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    method: str = "percentile"


def number_cell(estimate: Estimate | None, digits: int) -> ReportCell:
    if estimate is None:
        return ReportCell("-")
    low, high = estimate.low, estimate.high
    between = "" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return ReportCell(f"{estimate.mean:.{digits}f}", between, value=estimate.mean)


def _counts(cell: Cell) -> tuple[ReportCell, ReportCell]:
    lost = ", ".join(f"{count} {name}" for name, count in cell.lost.items())
    if cell.floor is not None:
        lost += f" (Avg. {cell.floor:.3f} if a missing output had the lowest score)"
    return ReportCell(str(cell.count)), ReportCell(lost or "-")


def ranked(rows: Sequence[ReportRow], columns: Sequence[int]) -> list[ReportRow]:
    """Marks the best and the second best number of each of those columns, where there are two new rows or more."""
    new = [row for row in rows if not row.is_published]
    found = {id(row): list(row.cells) for row in rows}
    for column in columns:
        values = sorted({row.cells[column].text for row in new if row.cells[column].value is not None}, key=float)
        if len(new) < 2 or len(values) < 2:
            continue
        places = {values[-1]: 1, values[-2]: 2}
        for row in new:
            cell = row.cells[column]
            found[id(row)][column] = replace(cell, rank=places.get(cell.text, 0) if cell.value is not None else 0)
    return [ReportRow(tuple(found[id(row)]), row.is_published) for row in rows]


def _published_rows(table: PublishedTable, where: Callable[[dict[str, object]], bool], digits: int) -> list[ReportRow]:
    """Rows of the paper, padded by the columns that only new rows have."""
    found = []
    for row in table.rows:
        named = table.named(row)
        if where(dict(named)):
            found.append(ReportRow((*(_published_cell(value, digits) for value in row), *[ReportCell("-")] * 2), True))
    return found


def _published_cell(value: str | bool | float | None, digits: int) -> ReportCell:
    if isinstance(value, bool):
        return ReportCell("yes" if value else "no")
    if isinstance(value, str):
        return ReportCell(PAPER if value == "Ours" else value)
    return ReportCell("-") if value is None else ReportCell(f"{value:.{digits}f}", value=float(value))


def vie_table(of: TableData) -> ReportTable:
    """Table 3: a block a task, dimensions, Avg., VBench's two columns."""
    table, rows = published("vie"), list[ReportRow]()
    by_editor = [
        (judged, {cell.group: cell for cell in cells(judged, of.groups, VIE, of.method)}) for judged in of.judged
    ]
    for group in dict.fromkeys(row[0] for row in table.rows):
        block = []
        for judged, found in by_editor:
            if group in found:
                cell = found[group]
                names = [*VIE.dimensions, OVERALL]
                numbers = [number_cell(cell.values.get(name), 3) for name in names]
                extra = [_metric(of, judged.editor, group, name) for name in METRIC_COLUMNS]
                head = [ReportCell(group), ReportCell(judged.editor), ReportCell("-"), ReportCell("-")]
                block.append(ReportRow((*head, *numbers, *extra, *_counts(cell))))
        block += _published_rows(table, lambda row, group=group: row["Task"] == group, 3)
        rows += ranked(block, range(4, 11))
    return ReportTable(table.title, (*table.columns, *COUNTS), tuple(rows))


def _metric(of: TableData, editor: str, group: str, name: str) -> ReportCell:
    items = [item for item, other in of.groups.items() if other == group]
    values = [of.metrics.get((item, editor), {}).get(name) for item in items]
    figures = [value for value in values if value is not None]
    return ReportCell("-") if not figures else ReportCell(f"{fmean(figures):.3f}", value=fmean(figures))


def gedit_table(of: TableData) -> ReportTable:
    """Table 1. Groups weigh the same."""
    table, rows = published("gedit"), list[ReportRow]()
    for name, items in (of.subsets or {"": frozenset(of.groups)}).items():
        block = []
        for judged in of.judged:
            groups = {item: group for item, group in of.groups.items() if item in items}
            cell = overall(judged, groups, GEDIT, of.method)
            numbers = [number_cell(cell.values.get(each), 2) for each in ("semantics", "quality", OVERALL)]
            label = f"{judged.editor} ({name})" if name else judged.editor
            block.append(ReportRow((ReportCell(label), ReportCell("-"), *numbers, *_counts(cell))))
        rows += ranked(block, range(2, 5))
    rows += _published_rows(table, lambda row: True, 2)
    return ReportTable(table.title, (*table.columns, *COUNTS), tuple(rows))


def imgedit_table(of: TableData) -> ReportTable:
    """Table 2: a column a type, Overall the mean of eight."""
    table, rows = published("imgedit"), list[ReportRow]()
    for judged in of.judged:
        found = {cell.group.lower(): cell for cell in cells(judged, of.groups, IMGEDIT, of.method)}
        whole = overall(judged, of.groups, IMGEDIT, of.method)
        types = [found.get(column.lower()) for column in table.columns[2:-1]]
        numbers = [number_cell(None if cell is None else cell.values.get(OVERALL), 2) for cell in types]
        # A part of the types has a mean, but not the one of Table 2.
        mean = None if any(cell is None for cell in types) else whole.values.get(OVERALL)
        head = (ReportCell(judged.editor), ReportCell("-"))
        rows.append(ReportRow((*head, *numbers, number_cell(mean, 2), *_counts(whole))))
    rows += _published_rows(table, lambda row: True, 2)
    return ReportTable(table.title, (*table.columns, *COUNTS), tuple(ranked(rows, range(2, 11))))


def plain_table(of: TableData, title: str) -> ReportTable:
    """Any other benchmark: a row a group and editor, its dimensions and their average; then over all groups."""
    names = list(dict.fromkeys(name for judged in of.judged for each in judged.items.values() for name in each))
    names = [*(name for name in names if name != OVERALL), OVERALL]
    found = [cell for judged in of.judged for cell in cells(judged, of.groups, of.averaging, of.method)]
    found += [overall(judged, of.groups, of.averaging, of.method) for judged in of.judged]
    rows = list[ReportRow]()
    for group in dict.fromkeys(cell.group for cell in found):
        block = [
            ReportRow(
                (
                    ReportCell("all" if group == OVERALL else group),
                    ReportCell(cell.editor),
                    *(number_cell(cell.values.get(name), 3) for name in names),
                    *_counts(cell),
                )
            )
            for cell in found
            if cell.group == group
        ]
        rows += ranked(block, range(2, 2 + len(names)))
    columns = ("Task", "Model", *(TITLES.get(name, name) for name in names), *COUNTS)
    return ReportTable(title, columns, tuple(rows), (_all_note(of),))


def _all_note(of: TableData) -> str:
    if of.averaging.over == "items":
        return "all: the mean of the items, each alike."
    without = ", ".join(group for group in of.averaging.left_out if group in of.groups.values())
    return f"all: the mean of the kinds, each alike{without and f', without {without}'}."


def metric_table(metrics: Metrics, groups: Mapping[str, str], editors: Sequence[str]) -> ReportTable | None:
    """A row a group and editor, then over all groups: the mean of each metric over the items that have it."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    names = sorted(names, key=lambda name: list(METRIC_TITLES).index(name) if name in METRIC_TITLES else len(names))
    if not names:
        return None
    rows = list[ReportRow]()
    for group in [*dict.fromkeys(groups.values()), None]:
        for editor in editors:
            of = [metrics.get((item, editor), {}) for item, other in groups.items() if group in (None, other)]
            cells = [_mean_of([values[name] for values in of if name in values]) for name in names]
            rows.append(ReportRow((ReportCell(group or "all"), ReportCell(editor), *cells)))
    columns = ("Task", "Model", *(METRIC_TITLES.get(name, name) for name in names))
    note = "Outside: where the edit's mask says that nothing may change, against the source. n: items that have it."
    return ReportTable("Metrics without a judge", columns, tuple(rows), (note,))


def _mean_of(values: Sequence[float]) -> ReportCell:
    return ReportCell(f"{fmean(values):.3f}", f"n {len(values)}", value=fmean(values)) if values else ReportCell("-")


def difference_table(of: TableData) -> ReportTable | None:
    """Every pair of editors on the items of both; None for a single editor."""
    scores = {judged.editor: {item: each[OVERALL] for item, each in judged.items.items()} for judged in of.judged}
    scores = {editor: values for editor, values in scores.items() if values}
    if len(scores) < 2:
        return None
    rows = []
    for each in differences(scores, of.method):
        p, holm = ("-" if value is None else f"{value:.4f}" for value in (each.p, each.p_holm))
        left = each.only_first + each.only_second
        words = (each.first, each.second)
        both = 0 if each.difference is None else each.difference.count
        numbers = (ReportCell(str(both)), ReportCell(str(left)))
        found = number_cell(each.difference, 3)
        rows.append(ReportRow((*map(ReportCell, words), found, ReportCell(p), ReportCell(holm), *numbers)))
    columns = ("Model", "Other", "Difference of Avg.", "p", "p (Holm)", "Items of both", "Items of one")
    note = "Over the items that both have a score of, each alike"
    if of.averaging.over == "groups":
        note += '; so it can differ from "all" in the table by kind of edit, which weighs the kinds alike'
    return ReportTable("Differences, item by item", columns, tuple(rows), (f"{note}.",))


# Not of the box: its drawn clips beside the paper's rows would compare what cannot be compared.
PAPER_TABLES = {"vie": vie_table, "gedit": gedit_table, "imgedit": imgedit_table}
