"""Outputs of all editors of an evaluation, by editor and item: what studies, metrics and reports compare.

Place: FOLDER/EDITOR/outputs.jsonl -> item_outputs -> study, metrics, report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, some
from .outputs import OUTPUTS, Output, read_outputs


@dataclass(frozen=True, slots=True)
class ItemOutput:
    """What became of an item. path: None where nothing was made, or where it is not there any more."""

    output: Output
    path: Path | None

    @property
    def error(self) -> str | None:
        """Why there is none."""
        return f"its output {self.output.output} is not there any more" if self.is_lost else self.output.error

    @property
    def is_lost(self) -> bool:
        return self.path is None and self.output.output is not None


def collect_outputs(folder: Path, editors: Sequence[str] = ()) -> dict[str, dict[str, ItemOutput]]:
    """editor -> item -> what was made, of those editors or of all.

    Raises InputError as read_outputs, for an editor that has two lines of one item in different places, for an editor
    without outputs, and where there are none at all.
    """
    found: dict[str, dict[str, ItemOutput]] = {}
    for file in sorted(folder.glob(f"*/{OUTPUTS}")):
        for (item, editor), output in read_outputs(file).items():
            path = output.path(file.parent)
            if path is not None and not path.is_file():
                path = None
            if item in found.get(editor, {}):
                raise InputError(f"{file}: {editor} has an output of item {item} in another folder as well; keep one")
            found.setdefault(editor, {})[item] = ItemOutput(output, path)
    if not found:
        raise InputError(f"{folder}: no EDITOR/{OUTPUTS} in it; edit the items first")
    unknown = [editor for editor in editors if editor not in found]
    if unknown:
        raise InputError(f"{folder}: no outputs of {some(unknown)}; it has those of {', '.join(found)}")
    return {editor: found[editor] for editor in editors or found}


def made_files(folder: Path, editors: Sequence[str] = ()) -> dict[str, dict[str, Path]]:
    """editor -> item -> file, of what was made. Raises InputError as collect_outputs."""
    return {
        editor: {item: made.path for item, made in of.items() if made.path is not None}
        for editor, of in collect_outputs(folder, editors).items()
    }
