"""`instructx demo`: each kind of edit once on an image and once on a clip, with the shipped model, on any machine.

The pictures are made here, from the procedural world's test split: nothing is downloaded and no sample was trained on.
Writes inputs, results, one sheet (source | edited | ground truth) and side-by-side clips, and prints what worked.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .model import ProgressLine, add_model_arguments, add_sampling_arguments, pipeline_of

if TYPE_CHECKING:
    import numpy as np

    from ..shapes import Sample, Score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("instructx_demo"), help="folder (default: instructx_demo)")
    parser.add_argument("--first", type=int, default=0, help="number of the first test sample (default: 0)")
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    if args.first < 0:
        raise InputError(f"--first is {args.first}; it must be 0 or more")
    folder = args.output
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder")
    print("loading the model ...", flush=True)
    pipe = pipeline_of(args)
    from ..evaluation.batch import edit_samples, group_samples
    from ..shapes import TASKS, sample, score

    samples = [sample("test", args.first, modality, task) for modality in ("image", "video") for task in TASKS]
    print(f"editing {len(samples)} test samples of the procedural world (none was trained on) ...", flush=True)
    results: dict[int, tuple[np.ndarray, Score]] = {}
    line = ProgressLine("edited")
    for positions in group_samples(samples, 8):
        batch = [samples[i] for i in positions]
        edited = edit_samples(pipe, batch, args.steps, args.guidance, args.seed)
        for position, shown, frames in zip(positions, batch, edited, strict=True):
            results[position] = frames, score(shown, frames)
        line(len(results), len(samples))
    _write(folder, samples, results, Fraction(pipe.instructx_config.sampling.fps).limit_denominator(1001))
    _print_table(samples, results)
    print(f"\nsheet: {folder / 'sheet.png'}\nclips, inputs and results: {folder}")
    print(f"{time.perf_counter() - started:.1f} s in all")
    return 0


def _write(folder: Path, samples: list[Sample], results: dict[int, Any], fps: Fraction) -> None:
    import numpy as np

    from ..evaluation.shapes import sheet_row
    from ..evaluation.sheet import draw_sheet, side_by_side
    from ..media.files import write_image, write_video

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}); choose another --output") from None
    rows = []
    for position, shown in enumerate(samples):
        frames, value = results[position]
        row = sheet_row(shown, frames, value, numbers=False)
        rows.append(row)
        stem = f"{'image' if shown.modality == 'image' else 'clip'}_{shown.task}"
        if shown.reference_HWC is not None:
            write_image(folder / f"{stem}_reference.png", shown.reference_HWC)
        if shown.modality == "image":
            write_image(folder / f"{stem}_input.png", shown.source_FHWC[0])
            write_image(folder / f"{stem}_edited.png", frames[0])
        else:
            write_video(folder / f"{stem}_input.mp4", shown.source_FHWC, fps)
            write_video(folder / f"{stem}_edited.mp4", frames, fps)
            write_video(folder / f"{stem}_side_by_side.mp4", side_by_side(row), fps)
    half = len(rows) // 2
    paired = [row for pair in zip(rows[:half], rows[half:], strict=True) for row in pair]
    title = "InstructX tiny: every kind of edit on an image (left) and on a clip (right: first, middle, last frame)"
    write_image(folder / "sheet.png", np.asarray(draw_sheet(paired, columns=2, title=title)))


def _print_table(samples: list[Sample], results: dict[int, Any]) -> None:
    print(f"\n{'':<7}{'task':<16}{'result':<8}instruction")
    for position, shown in enumerate(samples):
        kind = "image" if shown.modality == "image" else "clip"
        mark = "ok" if results[position][1].success else "FAILED"
        print(f"{kind:<7}{shown.task:<16}{mark:<8}{shown.instruction}")
    for kind, modality in (("images", "image"), ("clips", "video")):
        marks = [results[i][1].success for i, shown in enumerate(samples) if shown.modality == modality]
        print(f"{kind}: {sum(marks)} of {len(marks)} edits succeeded")
