"""Editing at the rate that the model was trained at, against editing every frame: how near the truth each comes.

    python benchmarks/rates.py --clips 2 --json rates.json [--speed 1 4] [--write docs/long-video.md]

Clips of the drawn world at 24 and 30 fps, whose truth is known at every instant; the tiny model was trained at 16 fps.
With 16 frames a second edited, those between are carried over (editing/windows/between.py), or, to compare, mixed from
the two edited ones or repeated. Once more with the truth in place of the model: what the carrying alone costs.
--speed: how fast things move, 1 as in training. Errors and jumps are of 255.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from instructx_core.pipeline import InstructXPipeline

TRAINED, SIZE, STEPS, SECONDS = 16, 17, 4, 2
TASKS = ("color", "swap", "add", "remove", "background", "tone", "hybrid")
EVERY, CARRIED, MIXED, REPEATED = (
    "every frame",
    "16 a second, carried over",
    "16 a second, mixed",
    "16 a second, repeated",
)
Clip = tuple[np.ndarray, np.ndarray]  # source and truth, (F, H, W, 3) uint8


def drawn(task: str, index: int, fps: int, speed: float) -> tuple[Clip, str]:
    """A test clip of SECONDS at fps, played there and back so that things move as in training (speed 1)."""
    from instructx_core.shapes import sample
    from instructx_core.shapes.render import render

    shown = sample("test", index, "video", task)
    time_F = np.arange(SECONDS * fps + 1) / fps * speed % 2.0
    time_F = 1.0 - np.abs(1.0 - time_F)
    return (render(shown.source_scene, time_F), render(shown.target_scene, time_F)), shown.instruction


def edited(clip: Clip, fps: int, edit: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
    """Every method's clip. edit(frames, rate, first, pinned) edits a window whose first frame has that number."""
    from instructx_core.editing.windows import FADE, edit_windows, plan_windows
    from instructx_core.editing.windows.between import Thinning, edited_numbers

    made = {}
    for name, rate in ((EVERY, None), (CARRIED, TRAINED)):
        numbers = edited_numbers(len(clip[0]), fps, rate)
        windows = plan_windows(len(numbers), SIZE, joins="smooth")
        thinning, parts, before = Thinning(numbers, windows[0]), [], None
        for result in edit_windows(
            thinning.thin(iter(clip[0])),
            windows,
            lambda given, w, rate=rate, numbers=numbers: edit(
                given, rate or fps, [numbers[i] for i in range(w.start, w.stop)], w.pinned()
            ),
            fade=FADE,
        ):
            parts.append(thinning.fill(result, before))
            before = result.tail_OHWC[-1]
        made[name] = np.concatenate(parts)
    ends = made[CARRIED][list(numbers)].astype(np.float32)
    place_F = np.interp(np.arange(len(clip[0])), numbers, np.arange(len(numbers)))
    low_F, share_F = place_F.astype(int), (place_F % 1.0)[:, None, None, None].astype(np.float32)
    high_F = np.minimum(low_F + 1, len(numbers) - 1)
    made[MIXED] = np.rint((1 - share_F) * ends[low_F] + share_F * ends[high_F]).astype(np.uint8)
    made[REPEATED] = ends[np.rint(place_F).astype(int)].astype(np.uint8)
    return made


def judge(clip: Clip, made: dict[str, np.ndarray], fps: int) -> dict[str, dict[str, float]]:
    """Mean error over all frames, over those between edited ones, and the mean jump; of 255."""
    from instructx_core.editing.windows.between import edited_numbers
    from instructx_core.shapes import jumps

    between = np.setdiff1d(np.arange(len(clip[1])), edited_numbers(len(clip[1]), fps, TRAINED))
    found = {}
    for name, frames in made.items():
        error_F = np.abs(frames.astype(np.float32) - clip[1]).mean(axis=(1, 2, 3))
        jump = jumps(frames, clip[1]).mean()
        values = {"error": error_F.mean(), "between": error_F[between].mean(), "jump": jump}
        found[name] = {key: round(float(value), 3) for key, value in values.items()}
    return found


def by_model(pipe: InstructXPipeline, instruction: str, steps: int) -> Callable[..., np.ndarray]:
    from instructx_core.editing.piece import Piece, edit_piece
    from instructx_core.editing.settings import Sampling

    def edit(frames_FHWC: np.ndarray, rate: int, numbers: list[int], pinned: int) -> np.ndarray:
        piece = Piece(frames_FHWC, float(rate), instruction, pinned=pinned)
        guidance = float(pipe.instructx_config.sampling.guidance_scale)
        return edit_piece(pipe, piece, Sampling(steps, guidance, 0), lambda step, total: None)

    return edit


def measure(clips: int, tasks: list[str], rates: list[int], speeds: list[float], steps: int) -> dict[str, Any]:
    """{who edits, fps, speed: {method: mean figures}} over the clips that the model gets right at its own rate."""
    import torch
    from joins import find_cases

    from instructx_core import load_pipeline

    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    cases, rows = find_cases(pipe, steps, clips, tasks), {}
    for fps in rates:
        for speed in speeds:
            found: dict[str, list[Any]] = {"the truth": [], "the model": []}
            for task, index in cases:
                clip, instruction = drawn(task, index, fps, speed)
                with torch.no_grad():
                    made = edited(clip, fps, by_model(pipe, instruction, steps))
                found["the model"].append(judge(clip, made, fps))
                truth = edited(clip, fps, lambda given, rate, numbers, pinned, clip=clip: clip[1][numbers])
                found["the truth"].append(judge(clip, truth, fps))
                sys.stderr.write(f"{fps} fps, speed {speed:g}, {task} {index}: {found['the model'][-1]}\n")
            for who, each in found.items():
                rows[f"{who}, {fps} fps, speed {speed:g}"] = {
                    name: {key: round(float(np.mean([one[name][key] for one in each])), 3) for key in each[0][name]}
                    for name in each[0]
                }
    return {"steps": steps, "seconds": SECONDS, "clips": [list(case) for case in cases], "rows": rows}


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{len(found['clips'])} clips of {found['seconds']} s, windows of {SIZE}, {found['steps']} steps; of 255.",
        "",
        "| edited by | frames | error | of those between | jump from frame to frame |",
        "| --- | --- | --- | --- | --- |",
    ]
    for who, methods in found["rows"].items():
        for name, values in methods.items():
            if not (who.startswith("the truth") and name == EVERY):  # the truth itself
                numbers = " | ".join(f"{values[key]:.2f}" for key in ("error", "between", "jump"))
                lines.append(f"| {who} | {name} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    import results  # here, since a test loads this file from elsewhere

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--clips", type=int, default=1, help="of each task")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--fps", nargs="+", type=int, default=[24, 30])
    parser.add_argument("--speed", nargs="+", type=float, default=[1.0])
    results.add_options(parser, document=True)
    args = parser.parse_args()
    found = measure(args.clips, args.tasks, args.fps, args.speed, args.steps)
    results.report(args, found, table(found), "rates")


if __name__ == "__main__":
    main()
