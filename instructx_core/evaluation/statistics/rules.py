"""How each benchmark averages: of one item's dimensions, then over items, then over groups.

Place: scores -> rules -> cells. The paper, 4.2 and Tables 1 to 3. VIE-Bench: Avg is the plain mean of the dimensions, a
row a task. GEdit-Bench: Q_O = sqrt(Q_SC * Q_PQ) of each item, mean of each group, then mean of the groups.
ImgEdit-Bench: mean of an item's three scores, of each type; Overall is the mean of eight types, extract left out.
OpenVE- and RefVIE-Bench: mean of an item's three scores, of all items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ...errors import InputError

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Averaging:
    """dimensions: an item has all but `optional` ones; empty: what the judge gave. item: how they become one number.

    left_out: groups that the overall number does not count. over: what it is a mean of. scale: lowest and highest score
    of a dimension.
    """

    name: str
    dimensions: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    item: Literal["mean", "geometric"] = "mean"
    left_out: tuple[str, ...] = ()
    over: Literal["groups", "items"] = "groups"
    scale: tuple[float, float] = (1.0, 10.0)

    def of_item(self, dimensions: Mapping[str, float]) -> float:
        """The overall score of one item. Raises InputError where a dimension is missing or out of range."""
        missing = [name for name in self.dimensions if name not in self.optional and name not in dimensions]
        if missing or not dimensions:
            raise InputError(
                f"{self.name}: an item without a score of {', '.join(missing) or 'anything'}; judge it again"
            )
        low, high = self.scale
        for name, value in dimensions.items():
            if not low <= value <= high:
                raise InputError(f"{self.name}: {name} is {value:g}; scores lie between {low:g} and {high:g}")
        counted = [dimensions[name] for name in self.dimensions if name in dimensions] or list(dimensions.values())
        if self.item == "geometric":
            return math.prod(counted) ** (1.0 / len(counted))
        return math.fsum(counted) / len(counted)


VIE = Averaging("VIE-Bench", ("instruction", "preservation", "quality", "similarity"), ("similarity",))
GEDIT = Averaging("GEdit-Bench", ("semantics", "quality"), item="geometric", scale=(0.0, 10.0))
IMGEDIT = Averaging("ImgEdit-Bench", left_out=("extract",), scale=(1.0, 5.0))
OPENVE = Averaging("OpenVE-Bench", over="items", scale=(1.0, 5.0))
REFVIE = Averaging("RefVIE-Bench", over="items", scale=(1.0, 5.0))
RULES = {"vie": VIE, "gedit": GEDIT, "imgedit": IMGEDIT, "openve": OPENVE, "refvie": REFVIE, "box": VIE}


def rule_named(name: str) -> Averaging:
    if name not in RULES:
        raise InputError(f"benchmark {name!r} has no rule of averaging; use one of {', '.join(RULES)}")
    return RULES[name]
