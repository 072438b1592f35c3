"""The paper's own Tables 1 to 3, to print beside new rows. published.json holds them as they are in the paper.

Table 3: VACE of Swap / Change, MiniMax and DiffuEraser of Remove stand in their task's rows. Of three rows the Avg. is
not the mean of the row's dimensions (ODD in tests/evaluation/statistics/test_cells.py); kept as published.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import InputError

FILE = Path(__file__).with_name("published.json")
Value = str | bool | float | None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def named(self, row: tuple[Value, ...]) -> dict[str, Value]:
        return dict(zip(self.columns, row, strict=True))


@cache
def published(benchmark: str) -> PublishedTable:
    """Of "gedit", "imgedit" or "vie". Raises InputError for a benchmark that the paper has no table of."""
    tables = json.loads(FILE.read_text(encoding="utf-8"))
    if benchmark not in tables:
        raise InputError(f"the paper has no table of {benchmark!r}; it has those of {', '.join(tables)}")
    table = tables[benchmark]
    return PublishedTable(table["title"], tuple(table["columns"]), tuple(map(tuple, table["rows"])))
