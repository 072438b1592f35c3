"""What to convert: the request that every form takes, with the opened files it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..layouts.checkpoints import may_hold_dit, open_dit
from ..layouts.weight_file import OpenFiles, WeightFile


@dataclass(frozen=True, kw_only=True)
class Options:
    """lora, strength, layers: of `merged`; encoder, vae, without_lora: of `adapter`."""

    lora: Path | None = None
    strength: float = 1.0
    layers: str = "all"
    encoder: Path | None = None
    vae: Path | None = None
    without_lora: bool = False


@dataclass(frozen=True)
class Request:
    """kind: what identify says of the source. opened: the files of this conversion."""

    source: Path
    target: Path
    kind: str
    options: Options
    opened: OpenFiles

    @property
    def file(self) -> WeightFile:
        """The source, opened."""
        return self.opened.open(self.source)

    def dit(self, to: str) -> WeightFile:
        """The DiT of a Wan file, a Kiwi file or a Kiwi folder. Raises InputError when the source has none."""
        if self.kind == "wan-dit" or may_hold_dit(self.kind):
            return open_dit(self.opened, self.source)
        raise self.refused(to, "a Wan DiT or VAE, or a Kiwi file or folder with one")

    def refused(self, to: str, takes: str) -> InputError:
        return InputError(f"{self.source.name} is {self.kind}, --to {to} takes {takes}; see instructx inspect")
