"""Peak memory and speed of loading a DiT of real width from a multi-GB file, and of converting it.

    python benchmarks/load.py [--layers 4] [--folder DIR] [--json]

Writes Wan2.1-14B with fewer layers (0.70 GB each in bf16) to a temporary folder, then loads it in a process of its own
per layout and compares the growth of its peak memory with the bytes of the loaded weights. The rule is at most 1.15
times. The file was just written, so the speed is that of the page cache unless the machine's memory is small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from instructx_core.config import InstructXConfig, paper_14b
from instructx_core.denoiser import build_denoiser
from instructx_core.formats.convert import convert
from instructx_core.formats.writing import Piece, write_pieces
from instructx_core.keymaps import dit_to_diffusers, dit_to_original
from instructx_core.weights import load_denoiser

LIMIT = 1.15


def config_of(layers: int) -> InstructXConfig:
    base = paper_14b()
    return dataclasses.replace(base, denoiser=dataclasses.replace(base.denoiser, num_layers=layers))


def shapes_of(layers: int) -> dict[str, tuple[int, ...]]:
    """Original name -> shape."""
    with torch.device("meta"):
        state = build_denoiser(config_of(layers)).state_dict()
    return {dit_to_original(key): tuple(value.shape) for key, value in state.items()}


def values(shape: tuple[int, ...]) -> torch.Tensor:
    """bf16 weights of a plausible size, from one random block: the file is real data, not a hole."""
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    count = math.prod(shape)
    return block.repeat(-(-count // len(block)))[:count].reshape(shape)


def write_files(folder: Path, layers: int) -> None:
    shapes = shapes_of(layers)

    def pieces(names: list[str], rename: Any = str) -> list[Piece]:
        return [Piece(rename(n), "BF16", shapes[n], lambda n=n: values(shapes[n])) for n in names]

    write_pieces(folder / "bf16.safetensors", pieces(list(shapes)), {})
    shards = folder / "diffusers shards"
    shards.mkdir()
    names, half = sorted(shapes), len(shapes) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        write_pieces(shards / file, pieces(part, dit_to_diffusers), {})
        places |= {dit_to_diffusers(name): file for name in part}
    index = {"weight_map": places}
    (shards / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def memory(name: str) -> int:
    """VmRSS or VmHWM (the peak) of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def measure(folder: Path, kind: str, layers: int) -> dict[str, Any]:
    """One load or conversion in this process."""
    tiny = config_of(1)
    small = dataclasses.replace(tiny, denoiser=dataclasses.replace(tiny.denoiser, dim=128, num_heads=1, ffn_dim=64))
    build_denoiser(small)  # imports and first allocations are no part of the load
    before, start = memory("VmRSS"), time.perf_counter()
    if kind == "convert to fp8":
        convert(folder / "bf16.safetensors", folder / "fp8_scaled.safetensors", "fp8")
        resident = max(2 * math.prod(shape) for shape in shapes_of(layers).values())
    else:
        path = folder / kind
        model = load_denoiser(path if path.is_dir() else path.with_suffix(".safetensors"), config_of(layers))
        resident = sum(p.numel() * p.element_size() for p in model.parameters())
    seconds = time.perf_counter() - start
    return {"kind": kind, "resident": resident, "peak": memory("VmHWM") - before, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="0.70 GB each in bf16 (default: 4)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Path(args.one[1]), args.one[0], args.layers)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="instructx_load_", dir=args.folder))
    try:
        need = 2.8e9 * args.layers
        if shutil.disk_usage(folder).free < need:
            sys.exit(f"error: {folder} needs {need / 1e9:.1f} GB free; use --folder or fewer --layers")
        write_files(folder, args.layers)
        good = True
        for kind in ("bf16", "diffusers shards", "convert to fp8", "fp8_scaled"):
            command = [sys.executable, __file__, "--layers", str(args.layers), "--one", kind, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            good &= kind == "convert to fp8" or result["peak"] <= LIMIT * result["resident"]
            print(json.dumps(result) if args.json else line(result))
        return 0 if good else 1
    finally:
        shutil.rmtree(folder)


def line(result: dict[str, Any]) -> str:
    peak, resident, seconds = result["peak"], result["resident"], result["seconds"]
    if result["kind"] == "convert to fp8":
        return f"{result['kind']:<18}largest tensor {resident / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB, {seconds:.1f} s"
    speed = f"{seconds:.1f} s, {resident / seconds / 1e9:.2f} GB/s"
    return f"{result['kind']:<18}{resident / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB = {peak / resident:.3f} x, {speed}"


if __name__ == "__main__":
    sys.exit(main())
