"""`instructx convert`: a weight file into another form of the same weights, streamed, in the number format it has.

    original   DiT or VAE in the names that ComfyUI and Wan use; also the DiT out of Kiwi files and folders
    diffusers  DiT or VAE as a folder for diffusers: config.json and weights
    adapter    what InstructX adds, out of a Kiwi file or folder, or an adapter without its LoRA
    merged     a LoRA folded in: of the DiT into a DiT, of an adapter into Qwen2.5-VL
    fp8        matrices as fp8 with a scale each, half the size: ComfyUI's fp8_scaled

Nothing is overwritten, and a target appears whole or not at all. Quantised sources come out as bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .containers.writing import check_new
from .forms.adapter import to_adapter
from .forms.fp8 import to_fp8
from .forms.merged import to_merged
from .forms.names import to_diffusers, to_original
from .forms.request import Options, Request
from .layouts.weight_file import OpenFiles
from .telling.identify import identify

FORMS: dict[str, Callable[[Request], tuple[str, ...]]] = {
    "original": to_original,
    "diffusers": to_diffusers,
    "adapter": to_adapter,
    "merged": to_merged,
    "fp8": to_fp8,
}


@dataclass(frozen=True)
class Conversion:
    """What was written, and lines about what was done."""

    path: Path
    notes: tuple[str, ...] = ()


def convert(source: str | Path, target: str | Path, to: str, options: Options | None = None) -> Conversion:
    """Write `source` as `target`, a file (a folder for to="diffusers").

    Raises InputError when the target exists, the source is of another kind than `to` takes, damaged or does not fit the
    LoRA, and when the disk is full. Nothing is left behind then.
    """
    if to not in FORMS:
        raise InputError(f"--to {to!r} is unknown; use {', '.join(FORMS)}")
    source, target, options = Path(source), Path(target), options or Options()
    check_new(target)
    if to != "diffusers" and target.suffix != ".safetensors":
        raise InputError(f"{target.name} must end in .safetensors, because that is what is written")
    with OpenFiles() as opened:
        request = Request(source, target, identify(source, opened).kind, options, opened)
        if (to == "merged") != (options.lora is not None):
            raise InputError("--lora belongs to --to merged: give both, or neither")
        return Conversion(target, FORMS[to](request))
