"""What a caller is told while an edit runs: after every step, and after every window of a long clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .windows.handover import WindowResult

OnStepDone = Callable[[int, int], None]  # (step done, steps in all)
OnWindow = Callable[[WindowResult, int], None]  # (what a window gave, windows in all)


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Progress:
    """Functions that are called. on_step counts the steps of all windows."""

    on_step: OnStepDone = _nothing
    on_window: OnWindow = _nothing


SILENT = Progress()
