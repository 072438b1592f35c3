"""metrics.jsonl of a run: a line for each step and each validation; what plots.py draws and runs/card.py sums up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Metrics:
    """Appends to `path`; off on all ranks but the first."""

    def __init__(self, path: Path, enabled: bool) -> None:
        self.path, self.enabled = path, enabled

    def write(self, row: dict[str, Any]) -> None:
        if self.enabled:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def truncate(self, step: int) -> None:
        """Drops rows of later steps, which the checkpoint doesn't hold: they are about to be done again."""
        if not self.enabled or not self.path.exists():
            return
        rows = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        kept = [line for line in rows if json.loads(line)["step"] <= step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(kept))
        partial.replace(self.path)
