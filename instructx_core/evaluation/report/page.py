"""The report as one HTML page: tables, plots, and every output beside its source with the judge's words.

Place: contents, plots -> page. Pictures and clips are inside, scaled down; nothing is loaded from anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...pages.assemble import write_page
from ...pages.embed import PREVIEW, PageMedia, Rendition, embed
from ..items import media_path
from ..statistics.cells import Cell, overall
from ..statistics.rules import OVERALL
from .contents import Report
from .plots import interval_plot
from .tables import METRIC_TITLES, TITLES

HERE = Path(__file__).parent


def write_report_page(path: Path, report: Report, title: str, rendition: Rendition = PREVIEW) -> int:
    """Write the page; returns its bytes of media. Raises InputError for a source that cannot be read."""
    files: list[Path] = []
    places: dict[Path, int] = {}

    def medium(file: Path | None) -> int | None:
        if file is None:
            return None
        if file not in places:
            places[file] = len(files)
            files.append(file)
        return places[file]

    items = [
        {
            "id": item.id,
            "task": report.groups[item.id],
            "instruction": item.instruction,
            "source": medium(media_path(item, "source", report.folder)),
            "reference": medium(media_path(item, "reference", report.folder)),
        }
        for item in report.items
    ]
    media: list[dict[str, Any]] = []
    data = {
        "title": title,
        "warnings": report.warnings(),
        "scale": list(report.averaging.scale),
        "judges": [_judge(report, judge) for judge in report.judges],
        "tables": [dataclasses.asdict(table) for table in report.other_tables()],
        "checks": report.checks,
        "editors": list(report.outputs),
        "items": items,
        "entries": [entry for editor in report.outputs for entry in _entries(report, editor, medium)],
        "media": media,
    }
    outputs = {made.path for of in report.outputs.values() for made in of.values() if made.path is not None}
    embedded = _embedded(files, outputs, rendition, media)
    return write_page(path, title, data, embedded, [HERE / "report.css"], [HERE / "report.js"])


def _embedded(
    files: list[Path], outputs: set[Path], rendition: Rendition, media: list[dict[str, Any]]
) -> Iterator[PageMedia]:
    """Each file for the page. An output that cannot be shown is nothing there, and says why; a source must be whole."""
    for number, file in enumerate(files):
        try:
            each = embed(file, rendition)
        except InputError as error:
            if file not in outputs:
                raise
            media.append({"number": number, "kind": "none", "why": str(error).removeprefix(f"{file}: ")})
            yield PageMedia("none", "text/plain", b"", (0, 0))
            continue
        media.append({"number": number, "kind": each.kind, "size": list(each.size), "seconds": each.seconds})
        yield each


def _judge(report: Report, judge: str) -> dict[str, Any]:
    """Name, tables and plots of one judge."""
    judged = report.judged(judge)
    whole = [overall(each, report.groups, report.averaging) for each in judged]
    names = list(dict.fromkeys(name for cell in whole for name in cell.values))
    names = [*([OVERALL] if OVERALL in names else []), *(name for name in names if name != OVERALL)]
    plots = []
    for name in names:
        rows = [(cell.editor, cell.values[name]) for cell in whole if name in cell.values]
        plots.append(interval_plot(TITLES.get(name, name), rows, report.averaging.scale))
    tables = [dataclasses.asdict(table) for table in report.tables(judge)]
    return {"name": judge, "tables": tables, "plots": plots, "not_drawn": [_absence(c) for c in whole if c.absent]}


def _absence(cell: Cell) -> str:
    """Why an editor has no mean to draw. absent is OVERALL itself where the benchmark averages over items."""
    kinds = ", ".join(group for group in cell.absent if group != OVERALL)
    return f"Not drawn: {cell.editor} has no score{kinds and f' in {kinds}'}."


def _entries(report: Report, editor: str, medium: Any) -> list[dict[str, Any]]:
    """One output of each item, with all judges' scores of it; an item without one says why."""
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for judge in report.judges:
        for judged in report.judged(judge):
            if judged.editor == editor:
                for item, values in judged.items.items():
                    scores.setdefault(item, {})[judge] = {"status": "ok", "values": values}
                for item, status in judged.failed.items():
                    scores.setdefault(item, {})[judge] = {"status": status, "values": {}}
    for score in report.scores:
        if score.editor == editor and score.judge in scores.get(score.id, {}):
            scores[score.id][score.judge].setdefault("reason", score.reason)
    found = []
    for number, item in enumerate(report.items):
        made = report.outputs[editor].get(item.id)
        found.append(
            {
                "item": number,
                "editor": editor,
                "output": None if made is None else medium(made.path),
                "error": "it was never edited" if made is None else made.error,
                "seed": None if made is None else made.output.seed,
                "scores": scores.get(item.id, {}),
                "metrics": {METRIC_TITLES.get(n, n): v for n, v in report.metrics.get((item.id, editor), {}).items()},
            }
        )
    return found
