"""VIE-Bench's kinds of edit: how many of each (Table 4), and the row of Table 3 that each is counted in.

Place: tasks -> vie (the authors' clips), box (the drawn world). The paper speaks of eight categories; its table has
nine rows, of which all but hybrid are sub-kinds of local, global and reference edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...data.record import EditRecord
from ...errors import InputError

VIE_COUNTS = {
    "swap": 25,
    "color": 10,
    "add": 30,
    "remove": 30,
    "style": 10,
    "tone": 5,
    "hybrid": 10,
    "reference_swap": 10,
    "reference_add": 10,
}
VIE_ROWS = {
    "add": "Add",
    "swap": "Swap / Change",
    "color": "Swap / Change",
    "remove": "Remove",
    "style": "Style / Tone Change",
    "tone": "Style / Tone Change",
    "hybrid": "Hybrid Edit",
    "reference_swap": "Ref Base Swap",
    "reference_add": "Ref Base Add",
}


def wrong_counts(items: Iterable[EditRecord], counts: Mapping[str, int]) -> list[str]:
    """'add: 29 instead of 30' of every task whose number is not the benchmark's."""
    found = dict.fromkeys(counts, 0)
    for item in items:
        found[item.task] = found.get(item.task, 0) + 1
    return [f"{task}: {n} instead of {counts.get(task, 0)}" for task, n in found.items() if n != counts.get(task, 0)]


def check_counts(name: str, items: Iterable[EditRecord], counts: Mapping[str, int], partial: bool) -> None:
    """Raises InputError where the numbers are not the benchmark's, unless a part of it is what is wanted."""
    wrong = wrong_counts(items, counts)
    if wrong and not partial:
        raise InputError(f"{name}: {'; '.join(wrong)}; complete the download, or give --partial for a part of it")


def check_task(where: str, task: object, tasks: Iterable[str]) -> str:
    """Raises InputError for a task that the benchmark does not have."""
    known = list(tasks)
    if task not in known:
        raise InputError(f"{where}: task {task!r:.80} is unknown; use one of {', '.join(known)}")
    return str(task)
