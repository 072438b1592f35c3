"""Options that make an edit faster or smaller, shared by the verbs that run a model. Costs: docs/speed.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

# What --jobs has to know: these change pixels.
CHANGES_PIXELS = ("cache", "fp8")


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speed and memory")
    group.add_argument(
        "--cache",
        metavar="KIND[:THRESHOLD]",
        help="leave out blocks in steps that change little: first-block, mag or taylorseer; changes pixels a little",
    )
    group.add_argument(
        "--reuse",
        type=Path,
        metavar="FOLDER",
        help="keep what encoder and VAE made of the inputs, so that another seed needs only the steps",
    )
    group.add_argument(
        "--offload",
        choices=["none", "model", "group"],
        default="none",
        help="model: one part at a time on the card; group: the DiT's blocks one after the other (default: none)",
    )
    group.add_argument("--fp8", action="store_true", help="store the DiT's linear layers in fp8: half the memory")
    group.add_argument(
        "--compile", action="store_true", help="torch.compile the DiT's blocks: minutes at first, then faster steps"
    )


def speed_lines(pipe: Any, args: argparse.Namespace) -> list[str]:
    """What of it was on, for a report; nothing where nothing was."""
    cache, reuse = pipe.step_cache, pipe.reuse
    said = [] if cache is None else [f"cache {cache.kind} {cache.threshold:g}"]
    if reuse is not None:
        said.append(f"reuse {reuse.folder} ({reuse.hits} found, {reuse.misses} made)")
    said += [f"offload {args.offload}"] if args.offload != "none" else []
    said += [name for name in ("fp8", "compile") if getattr(args, name)]
    return [f"speed     {', '.join(said)}"] if said else []


def loading_device(args: argparse.Namespace, device: Any) -> Any:
    """Where the weights are read to: with offload, the CPU."""
    import torch

    return device if args.offload == "none" else torch.device("cpu")


def apply_speed(pipe: Any, args: argparse.Namespace, device: Any) -> None:
    """Raises InputError for what is unknown or impossible on this machine."""
    if args.cache:
        pipe.enable_cache(args.cache)
    if args.reuse:
        pipe.enable_reuse(args.reuse)
    if args.offload != "none" or args.fp8:
        pipe.place(args.offload, device, args.fp8)
    if args.compile:
        pipe.transformer.compile_repeated_blocks(fullgraph=True)
