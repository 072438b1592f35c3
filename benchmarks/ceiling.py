"""What the VAE lets through: the share of true targets that count as a successful edit after a round trip through it.

    python benchmarks/ceiling.py --json ceiling.json --write docs/training.md

No edit can succeed more often than that, whatever the DiT does. Success: shapes' own measure, held-out samples.
`--write` puts the table between the marks `<!-- ceiling -->` of a document.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import results
import torch
from tqdm import tqdm

from instructx_core import shapes
from instructx_core.config import preset
from instructx_core.data.encoding import to_pixels
from instructx_core.training.pictures import to_uint8
from instructx_core.vae import speed_up_single_frames
from instructx_core.weights import SHIPPED, find_files, load_vae


@dataclass
class Row:
    """One task. success in [0, 1]; median and high (90th percentile): worst region's error as a share of its limit."""

    task: str
    modality: str
    success: float
    median: float
    high: float
    count: int


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="checkpoint folder of the tiny preset (default: the shipped one)")
    parser.add_argument("--tasks", nargs="+", choices=shapes.TASKS, default=shapes.TASKS)
    parser.add_argument("--images", type=int, default=40, help="images of each task")
    parser.add_argument("--clips", type=int, default=8, help="clips of each task")
    results.add_options(parser, document=True)
    return parser.parse_args()


@torch.no_grad()
def measure(vae: torch.nn.Module, task: str, modality: str, count: int) -> Row:
    shares, wins = [], 0
    for index in range(count):
        sample = shapes.sample("test", index, modality, task)
        latents = vae.encode(to_pixels(sample.target_FHWC)[None]).latent_dist.mode()
        decoded = to_uint8(vae.decode(latents).sample[0].permute(1, 2, 3, 0))
        score = shapes.score(sample, decoded)
        wins += score.success
        shares.append(max(region.error / region.limit for region in score.regions.values()))
    return Row(task, modality, wins / count, float(np.median(shares)), float(np.quantile(shares, 0.9)), count)


def table(rows: list[Row]) -> str:
    lines = [
        "| task | images | error / limit: median, 90th percentile | clips | error / limit |",
        "| --- | --- | --- | --- | --- |",
    ]
    cells = {
        (row.task, row.modality): (f"{100 * row.success:.0f} %", f"{row.median:.2f}, {row.high:.2f}") for row in rows
    }
    for task in dict.fromkeys(row.task for row in rows):
        both = [cell for modality in shapes.MODALITIES for cell in cells.get((task, modality), ("-", "-"))]
        lines.append(f"| {task} | {' | '.join(both)} |")
    counts = {row.modality: row.count for row in rows}
    lines += ["", f"{counts['image']} images and {counts['video']} clips of each task, split `test`."]
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    vae = load_vae(find_files(args.model or SHIPPED).vae, preset("tiny"), torch.float32)
    speed_up_single_frames(vae)
    counts = {"image": args.images, "video": args.clips}
    wanted = [(task, modality) for task in args.tasks for modality in shapes.MODALITIES]
    rows = [measure(vae, task, modality, counts[modality]) for task, modality in tqdm(wanted)]
    results.report(args, [asdict(row) for row in rows], table(rows), "ceiling")


if __name__ == "__main__":
    main()
