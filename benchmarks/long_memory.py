"""Memory of a long edit against the clip's length: 5 s, 30 s and 5 min of the shapes world.

    python benchmarks/long_memory.py --steps 1 --window 81 --json memory.json --write docs/long-video.md

Each length in a process of its own. Memory is the process's peak resident set (VmHWM) after every window, twice: with
glibc's heap as it is, and with every larger block mapped by itself, which is what the edit asks for, without the gaps
of a heap.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import results  # noqa: E402
from process import MIB, peak_resident  # noqa: E402

FPS, SIZE, STEPS = 16, 17, 4
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}  # bytes from which glibc maps a block by itself


def edit_one(source: Path, output: Path, steps: int, window: int, side: int) -> dict[str, Any]:
    """One long edit in this process: peak memory and seconds after every window."""
    from instructx_core import edit_file, load_pipeline
    from instructx_core.editing.windows.options import WindowOptions

    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    start, peaks, seconds = time.perf_counter(), [], []

    def note(*_: Any) -> None:
        peaks.append(round(peak_resident() / MIB, 1))
        seconds.append(round(time.perf_counter() - start, 2))

    options = WindowOptions(frames=window)
    edit_file(
        pipe,
        source,
        "make the circle blue",
        output=output,
        steps=steps,
        windows=options,
        max_pixels=side * side,
        on_window=note,
    )
    return {"peaks_mib": peaks, "seconds": seconds, "peak_mib": round(peak_resident() / MIB, 1)}


def memory(folder: Path, lengths: list[int], steps: int, window: int, side: int) -> dict[str, Any]:
    """Every length in a process of its own; the same clip, played longer."""
    from instructx_core.media.files import write_video
    from instructx_core.media.stream import scan_clip
    from instructx_core.shapes import sample, there_and_back

    settings = {"steps": steps, "window": window, "side": side}
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    found: dict[str, Any] = {**settings, "fps": FPS, "lengths": {}}
    for seconds in lengths:
        name = f"{seconds} s" if seconds < 60 else f"{seconds / 60:g} min"
        source, output = folder / f"{seconds}.mp4", folder / f"{seconds}_edited.mp4"
        frames = there_and_back(sample("test", 6, "video", "color"), seconds * FPS).source_FHWC
        write_video(source, frames, FPS)
        command = [sys.executable, __file__, "--only", str(source), str(output), *options]

        def run(command: list[str] = command, **env: str) -> dict[str, Any]:
            done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env})
            return json.loads(done.stdout)

        heap, mapped = run(), run(**MAPPED)
        whole = scan_clip(output).frames == len(frames)
        found["lengths"][name] = {"frames": len(frames), "frames_kept": whole, **heap, "mapped": mapped}
        sys.stderr.write(f"{name}: {heap['peak_mib']} MiB, {heap['seconds'][-1]} s; mapped {mapped['peak_mib']} MiB\n")
    return found


def flatness(measured: dict[str, Any]) -> str:
    """How much the longest clip takes more than the shortest, in words."""
    rows = measured["lengths"].values()
    heap, mapped = ([row["peak_mib"] for row in part] for part in (rows, [row["mapped"] for row in rows]))
    apart = [f"{100 * (max(peaks) / min(peaks) - 1):.1f} %" for peaks in (heap, mapped)]
    return f"largest and smallest peak differ by {apart[0]}, with mapped blocks by {apart[1]}"


def memory_table(measured: dict[str, Any]) -> str:
    side, size = measured["side"], measured["window"]
    lines = [
        f"Frames of {side}x{side}, windows of {size} frames, {measured['steps']} step(s), each length in a process of "
        f"its own; {flatness(measured)}.",
        "",
        "| length | frames | windows | peak memory, MiB | with mapped blocks | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in measured["lengths"].items():
        windows, seconds = len(row["peaks_mib"]), row["seconds"][-1]
        cells = (row["frames"], windows, row["peak_mib"], row["mapped"]["peak_mib"], seconds)
        lines.append(f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, nargs="+", default=[5, 30, 300], help="lengths of the clips")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--window", type=int, default=SIZE, help="frames")
    parser.add_argument("--side", type=int, default=64, help="of a frame, pixels")
    results.add_options(parser, document=True)
    parser.add_argument("--only", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        sys.stdout.write(json.dumps(edit_one(*args.only, args.steps, args.window, args.side)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = memory(Path(folder), args.seconds, args.steps, args.window, args.side)
    results.report(args, found, memory_table(found), "memory")


if __name__ == "__main__":
    main()
