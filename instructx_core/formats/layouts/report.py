"""What a load did with every tensor of its files: consumed, ignored, missing.

Every reader of layouts/ returns one, and whoever loads logs it; a tensor that nobody asked for is never dropped in
silence. What is missing but optional stands here; what is missing and essential is an InputError instead.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from ...errors import some

logger = logging.getLogger("instructx")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """files: what was read; kind: what they are ("Wan2.1-T2V-14B DiT, fp8_scaled").

    consumed, ignored: tensor names as the files spell them; missing: optional names that the files lack; notes: lines
    for the user, such as a licence or what was inferred.
    """

    files: tuple[Path, ...]
    kind: str
    consumed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(file.name for file in self.files)
        lines = [f"{names}: {self.kind}; {len(self.consumed)} tensors consumed"]
        for word in ("ignored", "missing"):
            tensors = getattr(self, word)
            if tensors:
                lines.append(f"  {len(tensors)} {word}: {some(tensors)}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])

    def log(self) -> LoadReport:
        """Log it at INFO and return it."""
        logger.info("%s", self)
        return self
