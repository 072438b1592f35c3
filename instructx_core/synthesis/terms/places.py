"""Where in a picture something is, in words, and whether words say so.

Place: grounded.py, stages/describe.py and stages/instruct.py.
"""

from __future__ import annotations

ROWS, COLUMNS, MIDDLE = ("top", "", "bottom"), ("left", "", "right"), "middle"
PLACES = tuple(" ".join(filter(None, (row, column))) or MIDDLE for row in ROWS for column in COLUMNS)


def where_in_picture(across: float, down: float) -> str:
    """Of a point, as shares of the sides: "top left", "right", "middle"."""
    row, column = ROWS[min(2, int(3 * down))], COLUMNS[min(2, int(3 * across))]
    return " ".join(filter(None, (row, column))) or MIDDLE


def named_place(phrase: str) -> str:
    """The place that a phrase names, "" for none: "shape at the top left"."""
    _, _, place = phrase.partition(" at the ")
    return place if place in PLACES else ""


def agree(first: str, second: str) -> bool:
    """Whether two places can be one: "left" and "top left" can."""
    words, others = set(first.split()), set(second.split())
    return words <= others or others <= words
