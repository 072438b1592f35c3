"""`instructx verify DIR`: the part of docs/first-run-with-real-weights.md that a program can check."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="models folder of ComfyUI, a folder in our layout, or a Kiwi folder")
    parser.add_argument("--full", action="store_true", help="read every tensor and look for NaN (minutes)")
    parser.add_argument("--run", action="store_true", help="also load the folder as a model and edit one small picture")
    parser.add_argument("--device", help="for --run: cpu, cuda, ... (default: the fastest there is)")


def run(args: argparse.Namespace) -> int:
    from ..formats.telling.verify import verify

    verdict = verify(args.folder, args.full)
    print("\n".join(verdict.lines(args.folder)))
    if args.run and verdict.good:
        print("\n".join(try_out(args.folder, args.device)))
    return 0 if verdict.good else 1


def try_out(folder: Path, device: str | None) -> list[str]:
    """Load the model, edit a grey square in two steps, and say what came out."""
    import torch

    from ..weights import load_pipeline
    from .model import pick_device

    start = time.monotonic()
    pipe = load_pipeline(folder, device=pick_device(device))
    loaded = time.monotonic()
    side = max(64, 2 * pipe.instructx_config.size_multiple)
    frames = torch.full((1, side, side, 3), 128, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    latent = pipe(
        frames, "make it blue", num_inference_steps=2, generator=generator, output_type="latent", return_dict=False
    )[0]
    assert isinstance(latent, torch.Tensor)
    lines = [line for report in pipe.load_reports for line in str(report).splitlines()]
    finite = bool(torch.isfinite(latent).all())
    spread = f"mean {latent.float().mean():.3f}, deviation {latent.float().std():.3f}"
    lines.append(f"loaded in {loaded - start:.0f} s, two steps in {time.monotonic() - loaded:.0f} s; latent {spread}")
    return [*lines, "run   ok" if finite else "run   bad: the latent is not finite"]
