"""An edit that the shipped model was never taught, from 10 to 80 pairs: how often it succeeds, and what is lost for it.

    python benchmarks/lora.py --work lora-work --json lora.json --plot docs/lora-pairs.png --write docs/lora.md

`instructx train lora` runs as a program on the first N pairs of the sepia frame (shapes/sepia_frame.py), a fifth of
them held out for its own validation. Judged on 40 other pairs, and on the kinds of edit that the model knew
(`instructx eval shapes`, same samples before and after), with the LoRA at strength 1. Minutes are processor time of one
thread. What is in --work is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import results
import torch
from PIL import Image

from instructx_core.evaluation.batch import edit_samples, group_samples
from instructx_core.evaluation.shapes import EvalSettings, run_benchmark
from instructx_core.pipeline import InstructXPipeline
from instructx_core.shapes import sample
from instructx_core.shapes.sepia_frame import INSTRUCTION, framed_sample, score_framed
from instructx_core.weights import load_pipeline

ROOT = Path(__file__).resolve().parents[1]
KEPT = 400  # instructions of the kinds that the model knows, of its training split
SHOWN = 8  # held-out pairs on the sheet
OPTIONS = ("--rate", "3e-3", "--batch", "8", "--every", "100", "--patience", "6", "--threads", "1", "--device", "cpu")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of pairs, runs and what was found so far")
    parser.add_argument("--pairs", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--steps", type=int, default=1200, help="at most")
    parser.add_argument("--new", type=int, default=40, help="held-out pairs of the new edit")
    parser.add_argument("--images", type=int, default=330, help="of the known kinds, a multiple of 11")
    parser.add_argument("--clips", type=int, default=44, help="of the known kinds, a multiple of 11")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="PNG of success over pairs")
    parser.add_argument("--sheet", type=Path, help="PNG of held-out pairs: source, before, after, truth")
    results.add_options(parser, document=True)
    return parser.parse_args()


def save_pairs(folder: Path, count: int) -> Path:
    """The first `count` pairs as an artist has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shown = framed_sample("train", number)
        for word, frames in (("before", shown.source_FHWC), ("after", shown.target_FHWC)):
            Image.fromarray(frames[0]).save(folder / f"{number:03}_{word}.png")
    (folder / "instruction.txt").write_text(f"{INSTRUCTION}\n")
    return folder


def save_kept(path: Path) -> Path:
    path.write_text("".join(f"{sample('train', number).instruction}\n" for number in range(KEPT)))
    return path


def train(args: argparse.Namespace, count: int) -> tuple[Path, float]:
    """The LoRA of the first `count` pairs, and processor seconds of the program that made it."""
    name = f"pairs-{count}"
    target, spent = args.work / "runs" / name / f"{name}.safetensors", args.work / f"{name}.seconds"
    if not spent.is_file():
        folder, kept = save_pairs(args.work / "data" / name, count), save_kept(args.work / "kept.txt")
        where = ["--pairs", str(folder), "--keep", str(kept), "--output", str(args.work / "runs"), "--name", name]
        line = [sys.executable, "-m", "instructx_core", "train", "lora", *where, *OPTIONS]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        more = ["--steps", str(args.steps), "--seed", str(args.seed)]
        subprocess.run([*line, *more], check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.write_text(str(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return target, float(spent.read_text())


def new_edit(pipe: InstructXPipeline, count: int) -> tuple[float, list[np.ndarray]]:
    """Success on held-out pairs, in percent, and the edits."""
    samples = [framed_sample("test", number) for number in range(count)]
    edited: dict[int, np.ndarray] = {}
    for places in group_samples(samples, 16):
        frames = edit_samples(pipe, [samples[place] for place in places])
        edited |= dict(zip(places, frames, strict=True))
    made = [edited[place] for place in range(count)]
    wins = [score_framed(shown, frames).success for shown, frames in zip(samples, made, strict=True)]
    return 100 * float(np.mean(wins)), made


def known_edits(pipe: InstructXPipeline, args: argparse.Namespace) -> dict[str, Any]:
    """Success in percent of each kind, and the mean of the kinds."""
    found: dict[str, Any] = {}
    done = run_benchmark(pipe, EvalSettings(images=args.images, clips=args.clips))
    for modality in ("image", "video"):
        summary = done.summary(modality)
        if summary is not None:
            found[modality] = 100 * summary.overall.success
            found[f"{modality} kinds"] = {task: 100 * rate.success for task, rate in summary.tasks.items()}
    return found


def measured(args: argparse.Namespace, count: int) -> dict[str, Any]:
    """One row; count 0 is the model as it was."""
    kept = args.work / f"row-{count}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    row: dict[str, Any] = {"pairs": count}
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    if count:
        lora, seconds = train(args, count)
        pipe.load_dit_lora(lora)
        lines = (lora.parent / "metrics.jsonl").read_text().splitlines()
        steps = max(json.loads(line)["step"] for line in lines)
        row |= {"minutes": seconds / 60, "steps": steps, "best_step": best_step(lora)}
    row["new"], made = new_edit(pipe, args.new)
    row |= known_edits(pipe, args)
    np.savez_compressed(args.work / f"edited-{count}.npz", np.stack(made[:SHOWN]))
    results.write_json(kept, row)
    return row


def best_step(lora: Path) -> int:
    from safetensors import safe_open

    with safe_open(lora, "pt") as file:
        return json.loads(file.metadata()["instructx_lora"])["step"]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| pairs | the new edit | kinds it knew, images | clips | steps, best | minutes of one thread |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [f"{row[name]:.1f} %" if name in row else "-" for name in ("new", "image", "video")]
        steps = f"{row['steps']}, {row['best_step']}" if row["pairs"] else "-"
        minutes = f"{row['minutes']:.1f}" if row["pairs"] else "-"
        lines.append(f"| {row['pairs'] or 'none'} | {' | '.join(cells)} | {steps} | {minutes} |")
    return "\n".join(lines)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    counts = [row["pairs"] for row in rows]
    for name, label in (("new", "the new edit, held-out pairs"), ("image", "kinds it knew, images")):
        axes.plot(counts, [row[name] for row in rows], marker="o", label=label)
    axes.set(xlabel="pairs", ylabel="success in percent", ylim=(0, 102), xticks=counts)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def draw_sheet(args: argparse.Namespace, path: Path, count: int) -> None:
    """Rows: source, the model before, with the LoRA of `count` pairs, truth."""
    samples = [framed_sample("test", number) for number in range(min(SHOWN, args.new))]
    before, after = (np.load(args.work / f"edited-{each}.npz")["arr_0"] for each in (0, count))
    rows = [[shown.source_FHWC[0] for shown in samples], list(before[:, 0]), list(after[:, 0])]
    rows.append([shown.target_FHWC[0] for shown in samples])
    gap = np.full((64, 4, 3), 255, np.uint8)
    lines = [np.concatenate([part for cell in row for part in (cell, gap)], 1) for row in rows]
    space = np.full((4, lines[0].shape[1], 3), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([part for line in lines for part in (line, space)], 0))
    whole.resize((whole.width * 2, whole.height * 2), Image.Resampling.NEAREST).save(path)


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    rows = [measured(args, count) for count in (0, *args.pairs)]
    if args.plot:
        draw(args.plot, rows)
    if args.sheet:
        draw_sheet(args, args.sheet, 40 if 40 in args.pairs else args.pairs[-1])
    found = {"instruction": INSTRUCTION, "options": [*OPTIONS, "--steps", str(args.steps)], "seed": args.seed}
    found |= {"new": args.new, "images": args.images, "clips": args.clips, "rows": rows}
    results.report(args, found, table(rows), "lora")


if __name__ == "__main__":
    main()
