"""A training step of the DiT on several processes of this machine's CPUs (gloo): replicated against sharded (FSDP2).

    python benchmarks/sharded_step.py [--processes 2] [--layers 6] [--size 256x256] [--steps 5] [--json OUT]

The tiny preset's DiT with so many layers, fp32, AdamW, a clip of five frames a process. Of a step, the median: seconds,
which mean something on a machine without other work alone, and processor seconds of a process. Bytes: rows of weights,
gradients and AdamW that one process holds. Losses of both must agree, or it fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import results
import torch

KINDS = ("replicated", "sharded")


def train(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """In one of the processes: what a kind costs."""
    from torch import nn

    from instructx_core.config import tiny
    from instructx_core.denoiser import build_denoiser
    from instructx_core.encoder.designs import build_encoder
    from instructx_core.geometry import latent_frames, latent_size
    from instructx_core.training import distributed
    from instructx_core.training.engine import Engine
    from instructx_core.training.filling import local_part
    from instructx_core.training.parts import Parts
    from instructx_core.training.sharding import shard_modules

    torch.set_num_threads(1)
    rank, world = distributed.setup()
    config = tiny()
    config = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, num_layers=args.layers))
    torch.manual_seed(0)
    encoder, denoiser = build_encoder(config).requires_grad_(False), build_denoiser(config)
    sharded = kind == "sharded"
    root = nn.ModuleDict({"encoder": encoder, "denoiser": denoiser})
    shard_modules(Parts(None, encoder, denoiser, root), Engine(sharded=sharded), torch.device("cpu"), bf16=False)
    width, height = map(int, args.size.split("x"))
    shape = (latent_frames(5, config.vae.scale_factor_temporal), *latent_size(height, width, config))
    generator = torch.Generator().manual_seed(rank)
    noise = torch.randn(1, config.denoiser.in_channels, *shape, generator=generator)
    context = torch.randn(1, 32, config.denoiser.context_dim, generator=generator)
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    seconds, processor, losses = list[float](), list[float](), list[float]()
    for _ in range(1 + args.steps):  # the first is not counted
        started, used = time.perf_counter(), time.process_time()
        predicted = denoiser(noise, torch.full((1,), 500.0), context, source=noise, return_dict=False)[0]
        loss = predicted.float().pow(2).mean()
        (loss if sharded else loss / world).backward()
        if not sharded:
            distributed.sum_gradients(parameters, world)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(distributed.sum_scalar(loss.detach() / world, world).item())
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    rows = sum(local_part(parameter).numel() for parameter in parameters)
    return {
        "kind": kind,
        "seconds": statistics.median(seconds[1:]),
        "processor_seconds": statistics.median(processor[1:]),
        "state_bytes": 16 * rows,  # fp32: weight, gradient, two moments
        "losses": losses,
    }


def train_all(args: argparse.Namespace) -> None:
    """In one of the processes, one kind after the other; the first process writes what it found."""
    from instructx_core.training import distributed

    found = [train(kind, args) for kind in KINDS]
    if not distributed.rank():
        sys.stdout.write(json.dumps(found) + "\n")
    distributed.shutdown()


def launch(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What the first of the processes found, by kind."""
    spread = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.processes}"]
    given = ["--rank", "--layers", str(args.layers), "--size", args.size, "--steps", str(args.steps)]
    done = subprocess.run(
        [sys.executable, *spread, __file__, *given],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    if done.returncode:
        raise SystemExit(f"error: a process failed\n{done.stderr[-2000:]}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[{")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    results.add_options(parser)
    args = parser.parse_args()
    if args.rank:
        train_all(args)
        return
    found = launch(args)
    apart = max(abs(a - b) for a, b in zip(found[0]["losses"], found[1]["losses"], strict=True))
    if apart > 1e-4:
        raise SystemExit(f"error: the losses are {apart:g} apart; both must learn the same")
    lines = ["| weights | s a step | processor s a step | state of a process, MB |", "| --- | --- | --- | --- |"]
    for row in found:
        times = f"{row['seconds']:.2f} | {row['processor_seconds']:.2f}"
        lines.append(f"| {row['kind']} | {times} | {row['state_bytes'] / 1e6:.0f} |")
    results.report(args, found, "\n".join(lines))


if __name__ == "__main__":
    main()
