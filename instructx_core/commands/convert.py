"""`instructx convert SRC DST --to FORM`: a weight file into another form of the same weights."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

FORMS = {
    "original": "DiT or VAE in the names of ComfyUI; also the DiT of a Kiwi file or folder",
    "diffusers": "DiT or VAE as a folder for diffusers",
    "adapter": "the adapter of a Kiwi file or folder, for Load Encoder",
    "merged": "with --lora: a LoRA folded into a DiT, or an adapter's LoRA into Qwen2.5-VL",
    "fp8": "matrices in fp8 with scales (fp8_scaled), half the size",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "forms:\n" + "\n".join(f"  {form:<10}{text}" for form, text in FORMS.items())
    parser.add_argument("source", type=Path, help="weight file or folder; instructx inspect says what it is")
    parser.add_argument("target", type=Path, help="file to write (a folder for diffusers); nothing is overwritten")
    parser.add_argument("--to", required=True, choices=list(FORMS), help="form to write, see below")
    parser.add_argument("--lora", type=Path, help="LoRA or adapter file to fold in (--to merged)")
    parser.add_argument("--strength", type=float, default=1.0, help="of a DiT LoRA (default: 1)")
    parser.add_argument(
        "--layers",
        choices=["all", "self"],
        default="all",
        help="of a DiT LoRA; self: self-attention and FFN only, for step-distilled ones (default: all)",
    )
    for part, usual in (("encoder", "Qwen2.5-VL-3B"), ("vae", "the public VAE")):
        parser.add_argument(f"--{part}", type=Path, help=f"of a Kiwi file, when it is not {usual} (--to adapter)")
    parser.add_argument("--without-lora", action="store_true", help="leave the MLLM's LoRA out (--to adapter)")


def run(args: argparse.Namespace) -> int:
    from ..formats.convert import convert
    from ..formats.forms.request import Options
    from ..formats.telling.identify import identify

    options = {field.name: getattr(args, field.name) for field in dataclasses.fields(Options)}
    written = convert(args.source, args.target, args.to, Options(**options))
    print("\n".join([*written.notes, *identify(written.path).lines()]))
    return 0
