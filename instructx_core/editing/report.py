"""What an edit did, for programs and for people: sizes, lengths, settings, notes on every conversion, seconds.

Last step of an edit, the same in one piece and in windows. Sizes are (H, W) in pixels, fps in Hz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ..config import InstructXConfig
from ..geometry import FitBox
from .look import Look
from .settings import Settings


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an edit did. Sizes are (H, W) in pixels, seconds by stage: read, edit, write."""

    source: Path
    output: Path
    instruction: str
    modality: str
    source_size: tuple[int, int]
    box: FitBox
    frames_in: int
    frames_padded: int
    fps: Fraction | None
    steps: int
    guidance_scale: float
    seed: int
    references: int
    restored: bool = False  # pasted back into the source, at its size
    notes: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()  # of several seeds: which was kept and why
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.source_size if self.restored else (self.box.height, self.box.width)

    def lines(self) -> list[str]:
        """The report for a person."""
        height, width = self.source_size
        kind = (
            "image" if self.modality == "image" else f"clip, {self.frames_in} frames at {float(self.fps or 0):.3f} fps"
        )
        lines = [f"source    {self.source} ({width}x{height} {kind})", f"geometry  {self.box.describe()}"]
        if self.frames_padded != self.frames_in:
            lines.append(
                f"length    {self.frames_in} frames padded to {self.frames_padded} (4n+1, last frame repeated), "
                f"trimmed back to {self.frames_in}"
            )
        lines.append(
            f"edit      {self.instruction!r}, {self.steps} steps, guidance {self.guidance_scale:g}, seed {self.seed}"
            + (f", {self.references} reference(s)" if self.references else "")
        )
        lines += [f"note      {note}" for note in self.notes]
        lines += [f"best of   {words}" for words in self.chosen]
        lines.append("seconds   " + ", ".join(f"{name} {value:.2f}" for name, value in self.seconds.items()))
        lines.append(f"written   {self.output} ({self.size[1]}x{self.size[0]})")
        return lines


def make_report(
    look: Look, settings: Settings, padded: int, notes: Sequence[str], seconds: Mapping[str, float]
) -> EditReport:
    """The report of a finished edit. padded: frames that the model was given."""
    request = look.request
    return EditReport(
        source=request.source,
        output=request.output,
        instruction=request.instruction,
        modality=look.modality,
        source_size=look.source.size,
        box=settings.box,
        frames_in=look.frames,
        frames_padded=padded,
        fps=look.source.fps,
        steps=settings.sampling.steps,
        guidance_scale=settings.sampling.guidance,
        seed=settings.sampling.seed,
        references=len(look.references),
        restored=look.mask is not None,
        notes=tuple(notes),
        seconds=dict(seconds),
    )


def world_remarks(config: InstructXConfig, look: Look) -> list[str]:
    """That the model knows one small world, unless size and length of the source are of it."""
    usual, (height, width) = config.sampling, look.source.size
    if not config.trained_on or (height * width == usual.area and look.frames in (1, usual.frames)):
        return []
    return [f"the {config.name} model was trained on {config.trained_on}: expect toy results on photos and films"]
