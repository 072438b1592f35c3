"""`instructx edit`: one image or video, by instruction, with a report of everything that was done to it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .model import ProgressLine, add_model_arguments, add_sampling_arguments, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, help="image or video")
    parser.add_argument("--instruction", required=True, help='what to change, e.g. "make the circle blue"')
    parser.add_argument(
        "--reference", type=Path, action="append", default=[], help="picture the instruction refers to; repeatable"
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write: .png .jpg ... or .mp4 .mov .mkv")
    parser.add_argument(
        "--size", help="largest area to work at, WxH, e.g. 832x480; the source's shape is kept (default: by model)"
    )
    parser.add_argument("--max-frames", type=int, help="refuse longer clips (default: by model)")
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def parse_size(text: str | None) -> int | None:
    """'832x480' -> its area in pixels. Raises InputError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise InputError(f"--size {text!r} is not a size; write WIDTHxHEIGHT, e.g. 832x480")
    return int(match[1]) * int(match[2])


def attention_lines(pipe: Any) -> list[str]:
    """What attention ran in the DiT, and why; nothing where it is the stock one."""
    from ..attention import session_of

    session = session_of(pipe.transformer)
    lines = session.report().splitlines()[1:] if session is not None else []
    return [f"attention {line}" for line in lines]


def run(args: argparse.Namespace) -> int:
    from ..edit import check_kind, check_request, edit_file
    from ..media import output_kind, read_image, read_media

    max_pixels = parse_size(args.size)
    # Everything that needs no model is checked before loading one, which takes minutes for a large checkpoint.
    check_request(args.instruction, args.seed, args.steps, max_pixels)
    check_kind(read_media(args.input, first_only=True), output_kind(args.output), args.output)
    for path in args.reference:
        read_image(path)
    pipe = load(args)
    report = edit_file(
        pipe, args.input, args.instruction, args.reference, output=args.output, steps=args.steps,
        guidance=args.guidance, seed=args.seed, max_pixels=max_pixels, max_frames=args.max_frames,
        progress=ProgressLine("step"),
    )  # fmt: skip
    print("\n".join([*report.lines(), *attention_lines(pipe)]))
    return 0
