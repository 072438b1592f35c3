"""Options and loading of a model, shared by the verbs that run one."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..fields import NO_RESULT
from ..formats.layouts.folders import PARTS
from .speed import SpeedOptions, add_speed_arguments

if TYPE_CHECKING:
    import torch

    from ..pipeline import InstructXPipeline

logger = logging.getLogger("instructx")

DTYPES = ("float32", "bfloat16", "float16")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", type=Path, help="folder of models, Kiwi-Edit folder or file (default: shipped tiny)")
    group.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="file or folder of a part that --model lacks: denoiser, vae, text_encoder, adapter, tokenizer; repeatable",
    )
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="LoRA of the DiT (PEFT, ComfyUI or musubi names), merged into it; repeatable (strength: 1)",
    )
    group.add_argument(
        "--lora-layers",
        choices=["all", "self"],
        default="all",
        help="self: self-attention and FFN only, for step-distilled LoRAs (default: all)",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    group.add_argument("--dtype", choices=DTYPES, help="number format (default: float32 on cpu, else bfloat16)")
    group.add_argument(
        "--attention",
        choices=["auto", "exact", "int8", "off"],
        default="auto",
        help="auto: the fastest that this card passed a test for; exact; int8; off: torch's (default: auto)",
    )
    group.add_argument(
        "--tile",
        choices=["auto", "on", "off"],
        default="auto",
        help="VAE in tiles for large frames; auto: when whole frames would not fit into memory (default: auto)",
    )
    group.add_argument("--scheduler", choices=["euler", "unipc"], default="euler", help="sampler (default: euler)")
    add_speed_arguments(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    group.add_argument(
        "--guidance", type=float, help="guidance scale; 1 is off, others double the time (default: the model's)"
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, of which files, and how it runs: the options as typed values. model: None is the shipped one.

    What does not change the result, but for rounding, is marked so; all else decides whether a job is done anew."""

    model: Path | None
    parts: dict[str, Path]
    loras: tuple[tuple[Path, float], ...]  # with their strengths
    lora_layers: str
    device: torch.device = field(metadata={NO_RESULT: True})
    dtype: torch.dtype
    attention: str
    tile: str
    scheduler: str
    speed: SpeedOptions

    @classmethod
    def of(cls, args: argparse.Namespace) -> ModelOptions:
        """Raises InputError for anything that is wrong without reading a weight."""
        if args.model is not None and not args.model.exists():
            raise InputError(f"{args.model}: no such checkpoint folder; check the path")
        import torch

        from ..precision import is_slow, usual_dtype

        device = pick_device(args.device)
        dtype = getattr(torch, args.dtype) if args.dtype else usual_dtype(device)
        if is_slow(dtype, device):
            logger.warning("--dtype %s on the CPU: most are many times slower in it than in float32", args.dtype)
        return cls(
            model=args.model,
            parts=parse_parts(args.part),
            loras=tuple(map(parse_lora, args.lora)),
            lora_layers=args.lora_layers,
            device=device,
            dtype=dtype,
            attention=args.attention,
            tile=args.tile,
            scheduler=args.scheduler,
            speed=SpeedOptions.of(args),
        )


def pipeline_of(args: argparse.Namespace) -> InstructXPipeline:
    """The pipeline that the arguments ask for, ready to run. Raises InputError for a bad folder or device."""
    return load_model(ModelOptions.of(args))


def load_model(options: ModelOptions) -> InstructXPipeline:
    """Reads the weights and applies every option, here and nowhere else. Raises InputError for unreadable files."""
    from ..weights import SHIPPED, load_pipeline

    if options.model is None and not SHIPPED.exists():
        raise InputError(f"this installation has no shipped model ({SHIPPED}); reinstall instructx or give --model")
    from diffusers.utils import logging as diffusers_logging

    from ..sampling.schedule import build_scheduler

    diffusers_logging.set_verbosity_error()
    loading = options.speed.loading_device(options.device)
    pipe = load_pipeline(options.model, options.dtype, loading, **options.parts)
    if options.model is not None or options.parts:  # each file with its licence; the shipped model needs no words
        print(*pipe.load_reports, sep="\n", file=sys.stderr)
    for path, strength in options.loras:
        print(pipe.load_dit_lora(path, strength, options.lora_layers), file=sys.stderr)
    pipe.scheduler = build_scheduler(pipe.instructx_config, options.scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.use_attention(options.attention)
    pipe.memory.set_tile(options.tile)
    options.speed.apply(pipe, options.device)
    return pipe


def parse_parts(given: list[str]) -> dict[str, Path]:
    """["vae=x.safetensors"] -> {"vae": path}. Raises InputError for anything but NAME=FILE, and for two of one."""
    parts: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path or name not in PARTS or name in parts:
            raise InputError(f"--part {text!r} is no NAME=FILE with a new NAME of {', '.join(PARTS)}")
        parts[name] = Path(path)
    return parts


def parse_lora(text: str) -> tuple[Path, float]:
    """'x.safetensors:0.7' -> path and strength, 1 where none is given. Raises InputError for one of no number."""
    match = re.fullmatch(r"(.+?\.\w+)(?::([^/\\]*))?", text)
    if match is None:
        return Path(text), 1.0
    try:
        return Path(match[1]), 1.0 if match[2] is None else float(match[2])
    except ValueError:
        raise InputError(f"--lora {text!r}: {match[2]!r} is no strength; write FILE:0.7") from None


def pick_device(name: str | None) -> torch.device:
    """The torch device of a name, or the fastest there is (under torchrun this process's card).

    Raises InputError for one that cannot be used.
    """
    import torch

    from ..speed.parallel import place_of

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda", place_of().local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); use cpu or leave --device out") from None
    return device


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Of a link of an evaluation; check_runner reads them."""
    text = "one after the other here (default), or over the machines of a Ray cluster (extra: scale)"
    parser.add_argument("--runner", choices=["loop", "ray"], default="loop", help=text)
    parser.add_argument("--workers", type=int, metavar="N", help="with --runner ray: processes (default: one a GPU)")


def check_runner(args: argparse.Namespace) -> None:
    """Raises InputError for workers without a runner that has them."""
    if args.workers is not None and args.runner != "ray":
        raise InputError("--workers without --runner ray; give both, or neither")


class ProgressLine:
    """`label 3/12` on one terminal line of stderr; silent when stderr is no terminal."""

    def __init__(self, label: str) -> None:
        self.label, self.shown = label, False

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        print(f"\r{self.label} {done}/{total}", end="", file=sys.stderr, flush=True)
        self.shown = True
        if done == total:
            self.close()

    def tell(self, text: str) -> None:
        """A line of its own above the progress; also where stderr is a file, which a long job is watched by."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)
            self.shown = False
