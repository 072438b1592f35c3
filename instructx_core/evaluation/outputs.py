"""outputs.jsonl: what an editor made of each item, one JSON object an item; the link between editors and judges.

    {"id": "add/3", "editor": "instructx", "output": "add/3.mp4", "seed": 0, "seconds": 4.1, "error": null}

items -> editor -> Output -> judge, metrics -> scores. Paths are relative to the file. An item that could not be edited
has an error instead of an output; of several lines of one item the last one counts, so that it can be tried again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .lines import LineFile, check_names, read_lines

OUTPUTS = "outputs.jsonl"


@dataclass(frozen=True, slots=True)
class Output:
    """What became of one item. output: None where nothing was made; error then says why, in a sentence.

    seed: None where the editor has none, or it is not known. seconds: what the edit took, 0 where it is not known.
    """

    id: str
    editor: str
    output: str | None
    seed: int | None = None
    seconds: float = 0.0
    error: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "editor"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"an output's {name} is {value!r:.80}; it must be a name")
        if (self.output is None) == (self.error is None):
            raise InputError(f"output of item {self.id}: give an output, or an error that says why there is none")
        for name in ("output", "error"):
            if not isinstance(getattr(self, name), str | None):
                raise InputError(f"output of item {self.id}: {name} is {getattr(self, name)!r:.80}; use a string")
        if self.seed is not None and type(self.seed) is not int:
            raise InputError(f"output of item {self.id}: seed is {self.seed!r:.80}; use a whole number or null")
        if type(self.seconds) not in (int, float) or not math.isfinite(self.seconds):
            raise InputError(f"output of item {self.id}: seconds is {self.seconds!r:.80}; use a number")

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def path(self, folder: Path) -> Path | None:
        """Where the output lies. folder: that of the file that names it."""
        return None if self.output is None else folder / self.output


def read_outputs(path: str | Path) -> dict[tuple[str, str], Output]:
    """The last line of each (item, editor). Raises InputError with the line that is wrong."""
    names = [field.name for field in dataclasses.fields(Output)]
    found: dict[tuple[str, str], Output] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, names, ("id", "editor"))
        try:
            output = Output(**{"output": None, **values})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        key = (output.id, output.editor)
        found.pop(key, None)  # in the order of the lines that count
        found[key] = output
    return found


class OutputFile:
    """outputs.jsonl of a folder, open to be added to. done: what is made already and still lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, LineFile(folder / OUTPUTS)

    def start(self) -> dict[tuple[str, str], Output]:
        """What need not be made again: outputs whose files are there. Raises InputError as read_outputs."""
        self.file.start()
        found = read_outputs(self.file.path)
        return {key: each for key, each in found.items() if (path := each.path(self.folder)) and path.is_file()}

    def add(self, outputs: Iterable[Output]) -> None:
        self.file.add(output.as_json() for output in outputs)
