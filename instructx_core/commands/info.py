"""`instructx info PRESET`: parameters by component, and tokens, FLOPs and bytes of a clip. No weights are needed."""

from __future__ import annotations

import argparse
import re

from ..config import PRESETS
from ..errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", choices=list(PRESETS), help="which model")
    parser.add_argument("--clip", help="WIDTHxHEIGHTxFRAMES, e.g. 832x480x81 (default: the preset's usual clip)")


def parse_clip(text: str | None) -> tuple[int, int, int] | None:
    """'832x480x81' -> (width, height, frames). Raises InputError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip().lower())
    if match is None:
        raise InputError(f"--clip {text!r} is not a clip; write WIDTHxHEIGHTxFRAMES, e.g. 832x480x81")
    return int(match[1]), int(match[2]), int(match[3])


def run(args: argparse.Namespace) -> int:
    from ..info import describe

    print(describe(args.preset, parse_clip(args.clip)))
    return 0
