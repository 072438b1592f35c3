"""Peak memory and speed of loading a DiT of real width from a multi-GB file, and of converting it.

    python benchmarks/load.py [--layers 4] [--kinds fp32 "GGUF Q8_0"] [--folder DIR] [--json OUT.json]

Writes Wan2.1-14B with fewer layers (0.70 GB each in bf16) to a temporary folder, one layout at a time, then loads it as
bf16 in a process of its own and compares the growth of its peak memory with the bytes of the loaded weights. The rule
is at most 1.15 times. The file was just written, so the speed is that of the page cache where the memory holds it.
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

import numpy as np
import results
import torch
from process import peak_resident, resident

from instructx_core.config import InstructXConfig, paper_14b
from instructx_core.denoiser import build_denoiser
from instructx_core.formats.containers.tensor_source import TORCH_DTYPES
from instructx_core.formats.containers.writing import Pending, write_pending
from instructx_core.formats.convert import convert
from instructx_core.formats.layouts.keymaps import dit_to_diffusers, dit_to_original
from instructx_core.formats.loading import load_denoiser

LIMIT = 1.15
SMALLEST = 100e6  # bytes; of a smaller model the allocator's own pages outweigh the weights
CONVERT = "convert to fp8"
KINDS = ("fp32", "bf16", "diffusers shards", CONVERT, "fp8_scaled", "GGUF Q8_0", "GGUF Q4_K")
Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Size:
    """Of the DiT: Wan2.1-14B's proportions at another width, with fewer layers."""

    dim: int
    layers: int

    def config(self) -> InstructXConfig:
        base = paper_14b()
        heads = self.dim // (base.denoiser.dim // base.denoiser.num_heads)
        ffn_dim = base.denoiser.ffn_dim * self.dim // base.denoiser.dim
        changed = {"dim": self.dim, "num_heads": heads, "ffn_dim": ffn_dim, "num_layers": self.layers}
        return dataclasses.replace(base, denoiser=dataclasses.replace(base.denoiser, **changed))


def shapes_of(size: Size) -> Shapes:
    """Original name -> shape."""
    with torch.device("meta"):
        state = build_denoiser(size.config()).state_dict()
    return {dit_to_original(key): tuple(value.shape) for key, value in state.items()}


def block() -> torch.Tensor:
    """A million weights of a plausible size, which are repeated in every tensor: real data, not a hole."""
    return torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02)


def write_safetensors(path: Path, shapes: Shapes, kind: str = "BF16", rename: Any = str) -> None:
    part = block().to(TORCH_DTYPES[kind])

    def item(name: str, shape: tuple[int, ...]) -> Pending:
        count = math.prod(shape)
        return Pending(rename(name), kind, shape, lambda: part.repeat(-(-count // len(part)))[:count].reshape(shape))

    write_pending(path, [item(name, shape) for name, shape in shapes.items()], {})


def write_shards(folder: Path, shapes: Shapes) -> None:
    """Two files in diffusers' names and their index."""
    folder.mkdir()
    names, places = sorted(shapes), {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        write_safetensors(folder / file, {name: shapes[name] for name in part}, rename=dit_to_diffusers)
        places |= {dit_to_diffusers(name): file for name in part}
    index = json.dumps({"weight_map": places})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(index, encoding="utf-8")


def write_gguf(path: Path, shapes: Shapes, kind: str) -> None:
    """Matrices of the blocks packed, the rest fp32, as ComfyUI-GGUF's tools do it; one tensor in memory at a time."""
    import gguf

    types = gguf.GGMLQuantizationType
    plain = block().numpy()
    # gguf packs no K types: random bytes, whose fp16 scales are finite
    packed = (
        np.random.default_rng(0).integers(0, 0x40, 144 << 12, dtype=np.uint8)
        if kind == "Q4_K"
        else gguf.quants.quantize(plain, types[kind])
    )
    length, size = gguf.GGML_QUANT_SIZES[types[kind]]
    writer, data = gguf.GGUFWriter(str(path), "wan"), {}
    for name, shape in shapes.items():
        count = math.prod(shape)
        if len(shape) == 2 and name.startswith("blocks."):
            stored = (*shape[:-1], shape[-1] // length * size)
            data[name] = (packed, count // length * size)
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), data[name][1], types[kind])
        else:
            data[name] = (plain, count)
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * count, types.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for part, count in data.values():
        writer.write_tensor_data(np.resize(part, count))
    writer.close()


def write(folder: Path, kind: str, size: Size) -> Path:
    """The file or folder of a kind of KINDS; those that `convert` writes need one to convert."""
    shapes = shapes_of(size)
    path = folder / kind.replace(" ", "_")
    if kind == "diffusers shards":
        write_shards(path, shapes)
        return path
    if kind.startswith("GGUF"):
        path = path.with_suffix(".gguf")
        write_gguf(path, shapes, kind.split()[1])
        return path
    path = path.with_suffix(".safetensors")
    if kind == "fp8_scaled":
        write_safetensors(folder / "from.safetensors", shapes)
        convert(folder / "from.safetensors", path, "fp8")
        (folder / "from.safetensors").unlink()
    else:
        write_safetensors(path, shapes, "F32" if kind == "fp32" else "BF16")
    return path


def measure(path: Path, kind: str, size: Size) -> dict[str, Any]:
    """One load or conversion in this process."""
    build_denoiser(Size(128, 1).config())  # imports and first allocations are no part of the load
    before, start = resident(), time.perf_counter()
    if kind == CONVERT:
        convert(path, path.parent / "converted.safetensors", "fp8")
        loaded = max(2 * math.prod(shape) for shape in shapes_of(size).values())
    else:
        model = load_denoiser(path, size.config())
        loaded = sum(p.numel() * p.element_size() for p in model.parameters())
    seconds = time.perf_counter() - start
    files = path.iterdir() if path.is_dir() else [path]
    stored = sum(file.stat().st_size for file in files)
    peak = peak_resident() - before
    return {"kind": kind, "file": stored, "resident": loaded, "peak": peak, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="0.70 GB each in bf16 (default: 4)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what to load (default: everything)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--dim", type=int, default=paper_14b().denoiser.dim, help="width, a multiple of 128")
    results.add_options(parser)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = Size(args.dim, args.layers)
    if args.one:
        print(json.dumps(measure(Path(args.one[1]), args.one[0], size)))
        return 0
    found = []
    for kind in args.kinds:
        folder = Path(tempfile.mkdtemp(prefix="instructx_load_", dir=args.folder))
        try:
            need = 2.2e9 * (args.layers + 1) * (args.dim / paper_14b().denoiser.dim) ** 2
            if shutil.disk_usage(folder).free < need:
                sys.exit(f"error: {folder} needs {need / 1e9:.1f} GB free; use --folder or fewer --layers")
            path = write(folder, kind, size)
            command = [sys.executable, __file__, *sys.argv[1:], "--one", kind, str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        finally:
            shutil.rmtree(folder)
    results.report(args, found, "\n".join(map(line, found)))
    judged = [result for result in found if result["kind"] != CONVERT and result["resident"] >= SMALLEST]
    good = all(result["peak"] <= LIMIT * result["resident"] for result in judged)
    return 0 if good else 1


def line(result: dict[str, Any]) -> str:
    file, peak, resident, seconds = (result[name] / 1e9 for name in ("file", "peak", "resident", "seconds"))
    seconds *= 1e9
    start = f"{result['kind']:<18}file {file:.2f} GB, "
    if result["kind"] == CONVERT:
        return f"{start}largest tensor {resident:.2f} GB, peak {peak:.2f} GB, {seconds:.1f} s"
    ratio = f"peak {peak:.2f} GB = {peak / resident:.3f} x"
    return f"{start}resident {resident:.2f} GB, {ratio}, {seconds:.1f} s, {file / seconds:.2f} GB/s"


if __name__ == "__main__":
    sys.exit(main())
