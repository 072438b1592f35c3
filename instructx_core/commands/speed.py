"""Options that make an edit faster or smaller, shared by the verbs that run a model. Costs: docs/speed.md."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..fields import NO_RESULT

if TYPE_CHECKING:
    import torch

    from ..pipeline import InstructXPipeline
    from ..speed.step_cache import StepCache


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


@dataclass(frozen=True, slots=True)
class SpeedOptions:
    """These options as the pipeline takes them. What does not change the result, but for rounding, is marked so."""

    cache: StepCache | None
    reuse: Path | None = field(metadata={NO_RESULT: True})
    offload: str = field(metadata={NO_RESULT: True})
    fp8: bool
    compile: bool = field(metadata={NO_RESULT: True})

    @classmethod
    def of(cls, args: argparse.Namespace) -> SpeedOptions:
        """Raises InputError for a cache that there is not, and a folder that cannot be made."""
        from ..media.outputs import make_folder
        from ..speed.step_cache import StepCache

        cache = StepCache.parse(args.cache) if args.cache else None
        if args.reuse is not None:
            make_folder(args.reuse)
        return cls(cache, args.reuse, args.offload, args.fp8, args.compile)

    def loading_device(self, device: torch.device) -> torch.device:
        """Where the weights are read to: with offload, the CPU. Raises InputError for what `device` cannot do."""
        import torch

        from ..speed.placement import check_offload

        check_offload(self.offload, device)
        return device if self.offload == "none" else torch.device("cpu")

    def apply(self, pipe: InstructXPipeline, device: torch.device) -> None:
        """Raises InputError for a folder that cannot be made."""
        if self.cache is not None:
            pipe.enable_cache(self.cache)
        if self.reuse is not None:
            pipe.enable_reuse(self.reuse)
        if self.offload != "none" or self.fp8:
            pipe.place(self.offload, device, self.fp8)
        if self.compile:
            pipe.transformer.compile_repeated_blocks(fullgraph=True)


def speed_lines(pipe: InstructXPipeline, args: argparse.Namespace) -> list[str]:
    """What of it was on, for a report; nothing where nothing was."""
    cache, reuse = pipe.step_cache, pipe.reuse
    parts = [] if cache is None else [f"cache {cache.kind} {cache.threshold:g}"]
    if reuse is not None:
        parts.append(f"reuse {reuse.folder} ({reuse.hits} found, {reuse.misses} made)")
    parts += [f"offload {args.offload}"] if args.offload != "none" else []
    parts += [name for name in ("fp8", "compile") if getattr(args, name)]
    return [f"speed     {', '.join(parts)}"] if parts else []
