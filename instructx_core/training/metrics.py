"""metrics.jsonl of a run: a line for each step and each validation; what plots.py draws and runs/card.py sums up.

The same as event files for TensorBoard, where they are asked for (tensorboardX, extra `train`).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class Metrics:
    """Appends to `path`; off on all ranks but the first. tensorboard: event files in a folder beside it.

    Raises InputError where that is asked for and tensorboardX is not installed.
    """

    def __init__(self, path: Path, enabled: bool, tensorboard: bool = False) -> None:
        self.path, self.enabled, self.events = path, enabled, None
        if tensorboard and enabled:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise InputError(
                    "--tensorboard needs tensorboardX; install it with: pip install 'instructx[train]'"
                ) from None
            self.events = partial(SummaryWriter, str(path.parent / "tensorboard"))
        self._writer: SummaryWriter | None = None

    def write(self, row: dict[str, Any]) -> None:
        if not self.enabled:
            return
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); free some space, or choose another place, and run "
                "the same command again: it goes on from the last checkpoint"
            ) from None
        if writer := self._open(row["step"]):
            for name, value in scalars(row).items():
                writer.add_scalar(name, value, row["step"])

    def show(self, step: int, picture: Path) -> None:
        """A sample sheet."""
        if self.enabled and picture.is_file() and (writer := self._open(step)):
            import numpy as np
            from PIL import Image

            writer.add_image("samples", np.asarray(Image.open(picture)), step, dataformats="HWC")

    def _open(self, step: int) -> SummaryWriter | None:
        """From the first row on: what an earlier start wrote of this step and later ones is not shown any more."""
        if self._writer is None and self.events is not None:
            self._writer = self.events(purge_step=step)
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def validated(self) -> list[int]:
        """The steps whose weights were validated."""
        return [row["step"] for row in metric_rows(self.path) if "validation" in row]

    def truncate(self, step: int) -> None:
        """Drops rows of later steps, which the checkpoint doesn't hold: they are about to be done again."""
        if not self.enabled or not self.path.exists():
            return
        kept = [row for row in metric_rows(self.path) if row["step"] <= step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        partial.replace(self.path)


def metric_rows(path: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one is none where a kill or a full disk cut it off. None where there is no file.

    Raises InputError for a line that is no row of metrics.
    """
    lines = path.read_text(errors="replace").split("\n")[:-1] if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append(row | {"step": int(row["step"])})
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}: line {number} is damaged ({line[:40]!r}); remove that line: it is a note of one step, "
                "and the checkpoints hold the run"
            ) from None
    return rows


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """Name in TensorBoard, which has no spaces -> value: losses under kinds of samples, validation apart."""
    found = {"validation/" + name.replace(" ", "_"): value for name, value in row.get("validation", {}).items()}
    if "loss" in row:
        found[f"loss/{row['bucket']}"] = row["loss"]
    numbers = {name: value for name, value in row.items() if name not in ("step", "loss", "bucket", "validation")}
    return found | numbers
