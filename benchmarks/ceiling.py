"""What the VAE lets through: the share of true targets that count as a successful edit after a round trip through it.

    python benchmarks/ceiling.py --json ceiling.json --write docs/training.md
    python benchmarks/ceiling.py --world world --run runs/tiny_vae

No edit can succeed more often than that, whatever the DiT does. Success: the world's own measure, held-out samples; of
version 2 in its mixed sizes, and with it the photos of `instructx eval world` at 128x128. `--run` takes the VAE of a
training run. `--write` puts the table between the marks `<!-- ceiling -->` of a document.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import results
import torch
from tqdm import tqdm

from instructx_core import shapes, world
from instructx_core.config import preset
from instructx_core.evaluation.photos import PHOTOS, crop
from instructx_core.evaluation.vae import psnr
from instructx_core.formats.loading import load_vae
from instructx_core.pixels import from_signed, to_signed
from instructx_core.training.start import final_weights, load_into, run_recipe
from instructx_core.vae import build_vae
from instructx_core.weights import SHIPPED, find_files

WORLDS: dict[str, Any] = {"shapes": shapes, "world": world}


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
    parser.add_argument("--world", choices=WORLDS, default="shapes", help="shapes: version 1; world: version 2")
    parser.add_argument("--model", type=Path, help="checkpoint folder of the tiny preset (default: the shipped one)")
    parser.add_argument("--run", type=Path, help="folder of a training run of the VAE, instead of a model")
    parser.add_argument("--tasks", nargs="+", choices=world.TASKS, help="default: all of that world")
    parser.add_argument("--images", type=int, default=40, help="images of each task")
    parser.add_argument("--clips", type=int, default=8, help="clips of each task")
    results.add_options(parser, document=True)
    return parser.parse_args()


def vae_of(args: argparse.Namespace) -> torch.nn.Module:
    """Of a run, or of a model."""
    if args.run is None:
        return load_vae(find_files(args.model or SHIPPED).vae, preset("tiny"), torch.float32)
    vae = build_vae(preset(run_recipe(args.run.parent, args.run.name)["preset"]).vae)
    load_into(torch.nn.ModuleDict({"vae": vae}), final_weights(args.run.parent, args.run.name))
    return vae.eval()


@torch.no_grad()
def round_trip(vae: torch.nn.Module, frames_FHWC: np.ndarray) -> np.ndarray:
    latents = vae.encode(to_signed(torch.from_numpy(frames_FHWC))).latent_dist.mode()
    return from_signed(vae.decode(latents).sample[0].permute(1, 2, 3, 0)).numpy()


def measure(vae: torch.nn.Module, name: str, task: str, modality: str, count: int) -> Row:
    drawn, shares, wins = WORLDS[name], [], 0
    mixed = {"size": None} if name == "world" else {}
    for index in range(count):
        sample = drawn.sample("test", index, modality, task, **mixed)
        score = drawn.score(sample, round_trip(vae, sample.target_FHWC))
        wins += score.success
        shares.append(max(region.error / region.limit for region in score.regions.values()))
    return Row(task, modality, wins / count, float(np.median(shares)), float(np.quantile(shares, 0.9)), count)


def photo_psnr(vae: torch.nn.Module, crops: int) -> dict[str, float]:
    """Mean PSNR in dB of that many crops of each photo."""
    found = {}
    for name in PHOTOS:
        pictures = [crop(name, number)[None] for number in range(crops)]
        found[name] = float(np.mean([psnr(picture, round_trip(vae, picture)) for picture in pictures]))
    return found


def table(rows: list[Row], photos: dict[str, float]) -> str:
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
    if photos:
        each = ", ".join(f"{name} {value:.1f}" for name, value in photos.items())
        mean = sum(photos.values()) / len(photos)
        lines += ["", f"Photos of scikit-image at 128x128, mean PSNR of their crops in dB: {each}; mean {mean:.1f}."]
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    vae = vae_of(args)
    counts = {"image": args.images, "video": args.clips}
    tasks = args.tasks or WORLDS[args.world].TASKS
    wanted = [(task, modality) for task in tasks for modality in shapes.MODALITIES]
    rows = [measure(vae, args.world, task, modality, counts[modality]) for task, modality in tqdm(wanted)]
    photos = photo_psnr(vae, max(1, args.images // 4)) if args.world == "world" else {}
    found = [asdict(row) for row in rows] + ([{"photos": photos}] if photos else [])
    results.report(args, found, table(rows, photos), "ceiling")


if __name__ == "__main__":
    main()
