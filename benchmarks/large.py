"""A large clip through the VAE, whole and in tiles, on the same weights: how far they are apart, and what tiles cost.

    python benchmarks/large.py clip.mp4 --json large.json --write docs/large-and-robust.md

The clip is scaled to --size. Each way runs in a process of its own: encodes the clip, then decodes what whole frames
gave. Error of the pixels in levels of 255. Step: by how much the error changes from one pixel to the next, in the mean,
at the lines where a tile begins or ends, and everywhere; a seam that can be seen is a step that is larger there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import results  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from process import MIB, clear_peak, peak_resident, resident  # noqa: E402

from instructx_core.speed.tiling import OVERLAP, Tiling, decode_tiled, encode_tiled, tile_spans  # noqa: E402

CPU = torch.device("cpu")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a clip")
    parser.add_argument("--size", default="1920x1072", help="width x height, multiples of 8")
    parser.add_argument("--frames", type=int, default=17, help="4n+1")
    parser.add_argument("--tiles", type=int, nargs="+", default=[768, 512, 256], help="sizes, pixels")
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped one)")
    results.add_options(parser, document=True)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def tiling(size: int) -> Tiling | None:
    return Tiling(size, min(OVERLAP, size // 4)) if size else None


def clip(args: argparse.Namespace) -> torch.Tensor:
    """(1, 3, F, H, W) in [-1, 1]."""
    from instructx_core.media.stream import clip_frames, scan_clip
    from instructx_core.pixels import to_signed

    size = tuple(int(side) for side in args.size.split("x"))
    frames = islice(clip_frames(scan_clip(args.source)), args.frames)
    scaled = [np.array(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames]
    return to_signed(torch.from_numpy(np.stack(scaled)))


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process; leaves its latent and pixels in the folder. args.only: tile size, 0 for whole."""
    from instructx_core.weights import load_pipeline

    vae: Any = load_pipeline(args.model).vae
    video_BCFHW, plan = clip(args), tiling(args.only)
    found: dict[str, Any] = {}

    def timed(name: str, call: Any) -> torch.Tensor:
        clear_peak()
        before, start = resident(), time.process_time()
        made = call()
        found[name] = {"seconds": time.process_time() - start, "mib": (peak_resident() - before) / MIB}
        return made

    def encode() -> torch.Tensor:
        return vae.encode(video_BCFHW).latent_dist.mode() if plan is None else encode_tiled(vae, video_BCFHW, plan, CPU)

    latent = timed("encode", encode)
    np.save(args.folder / f"latent{args.only}.npy", latent.numpy())
    given = torch.from_numpy(np.load(args.folder / "latent0.npy"))
    pixels = timed("decode", lambda: vae.decode(given).sample if plan is None else decode_tiled(vae, given, plan, CPU))
    np.save(args.folder / f"pixels{args.only}.npy", pixels.numpy())
    if plan is None:
        found["loss"] = float((pixels - video_BCFHW).abs().mean() * 127.5)
    return found


def compare(args: argparse.Namespace, size: int) -> dict[str, float]:
    """The result of tiles against that of whole frames."""
    latents = [np.load(args.folder / f"latent{n}.npy") for n in (0, size)]
    whole, tiled = (np.load(args.folder / f"pixels{n}.npy", mmap_mode="r") for n in (0, size))
    cell, plan = whole.shape[-1] // latents[0].shape[-1], tiling(size)
    assert plan is not None
    error = (tiled - whole) * 127.5
    steps = [np.abs(np.diff(error, axis=axis)) for axis in (-2, -1)]
    at_edges, everywhere = [], []
    for axis, step in zip((-2, -1), steps, strict=True):
        spans = tile_spans(latents[0].shape[axis], plan.size // cell, -(-plan.overlap // cell))
        length = latents[0].shape[axis]
        edges = sorted({edge for span in spans for edge in span if 0 < edge < length})
        at_edges += [np.take(step, cell * edge - 1, axis=axis).ravel() for edge in edges]
        everywhere.append(step.mean())
    size_of = np.abs(error)
    return {
        "latent": float(np.abs(latents[1] - latents[0]).mean() / latents[0].std()),
        "mean": float(size_of.mean()),
        "p999": float(np.quantile(size_of[..., ::3, ::3], 0.999)),
        "max": float(size_of.max()),
        "step_at_edges": float(np.concatenate(at_edges).mean()) if at_edges else 0.0,
        "step": float(np.mean(everywhere)),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['frames']} frames of {result['size']}, torch {result['torch']}, {result['threads']} threads; the VAE "
        f"itself loses {result['ways']['0']['loss']:.1f} of 255 here.",
        "",
        "| tiles | encode, CPU s | MiB | decode, CPU s | MiB | latent, of std | pixels: mean | 99.9 % | most "
        "| step at edges | step everywhere |",
        "| --- |" + " --- |" * 10,
    ]
    for name, way in result["ways"].items():
        cost = [f"{way[stage][key]:.0f}" for stage in ("encode", "decode") for key in ("seconds", "mib")]
        error = way.get("error")
        keys = ("latent", "mean", "p999", "max", "step_at_edges", "step")
        cells = (
            [""] * 6
            if error is None
            else [f"{error[key]:.4f}" if key == "latent" else f"{error[key]:.2f}" for key in keys]
        )
        lines.append(f"| {'whole' if name == '0' else name} | " + " | ".join([*cost, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    if args.only is not None:
        sys.stdout.write(json.dumps(measure(args)))
        return
    ways: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        for size in (0, *args.tiles):
            command = [sys.executable, __file__, *sys.argv[1:], "--only", str(size), "--folder", folder]
            ways[str(size)] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            if size:
                ways[str(size)]["error"] = compare(args, size)
            sys.stderr.write(f"{size or 'whole'}: {ways[str(size)]}\n")
    result = {
        "size": args.size,
        "frames": args.frames,
        "torch": torch.__version__,
        "ways": ways,
        "threads": torch.get_num_threads(),
    }
    results.report(args, result, table(result), "large")


if __name__ == "__main__":
    main()
