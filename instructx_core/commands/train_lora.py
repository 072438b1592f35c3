"""`instructx train lora`: teach a model an edit from a folder of before and after (docs/lora.md)."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..media.outputs import check_folder, check_writable

if TYPE_CHECKING:
    from ..training.machine import Machine
    from ..training.runs.lora import Lesson, LoraSetup

RECIPE = "lora"


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "lora",
        "An edit of your own, from pairs: NAME_before.png and NAME_after.png, or folders before/ and after/ "
        "(docs/lora.md). --base is then the model to teach: a folder of models, a Kiwi-Edit folder or file (default: "
        "the shipped one); --part gives files that it lacks; --to the LoRA file to write.",
    )
    group.add_argument("--pairs", type=Path, metavar="FOLDER", help="the pairs; also records.jsonl or a mixture")
    group.add_argument(
        "--instruction", action="append", default=[], help="said of all pairs; again for another wording of it"
    )
    group.add_argument("--name", default=RECIPE, help="of the run: its folder in --output (default: lora)")
    group.add_argument("--rank", type=int, default=32, help="of the LoRA (default: 32)")
    group.add_argument("--alpha", type=float, help="strength of the LoRA, over its rank (default: the rank)")
    group.add_argument(
        "--mllm-lora", type=int, default=0, metavar="RANK", help="LoRA of the MLLM too, written as an adapter file"
    )
    group.add_argument("--rate", type=float, help="learning rate (default: 1e-4; 3e-3 for the shipped model)")
    group.add_argument("--batch", type=int, help="pairs of one step (default: 4 pictures or 1 clip)")
    group.add_argument("--validation", type=float, default=0.2, help="share of the pairs held out (default: 0.2)")
    group.add_argument(
        "--mirror", action="store_true", help="every pair is there mirrored too: for edits that know no left and right"
    )
    group.add_argument("--every", type=int, default=100, help="steps between validations and sheets (default: 100)")
    group.add_argument(
        "--patience", type=int, default=6, help="validations without a better one, then it ends (default: 6)"
    )
    group.add_argument(
        "--keep", type=Path, metavar="FILE", help="instructions, one a line, that shall do what they did before"
    )


def run_lora(args: argparse.Namespace, machine: Machine) -> int:
    """Returns the exit code; raises InputError on bad input."""
    from ..training.distributed import shutdown
    from ..training.runs.lora import prepare, train_lora

    lesson = _lesson(args)
    check_folder(args.output / lesson.name)
    if lesson.to is not None:
        check_writable(lesson.to)
    prepared = prepare(lesson)
    if args.plan or machine.device.type == "cuda":
        print(_plan(prepared))
    if args.plan:
        return 0
    try:
        written = train_lora(prepared, lesson, args.output, machine, args.stop_at)
    finally:
        shutdown()
    if written:
        logging.getLogger("instructx").info("try it: instructx edit --lora %s --input ...", written)
    return 0


def _plan(prepared: LoraSetup) -> str:
    """For the largest kind of sample there is."""
    from ..costs.lora import plan_of_run
    from ..geometry import ClipSize

    recipe, model = prepared.recipe, prepared.model
    largest = max(prepared.source.buckets("train"), key=lambda bucket: bucket.pixels)
    batch = recipe.micro_image_batch if largest.modality == "image" else recipe.micro_video_batch
    clip = ClipSize(largest.width, largest.height, largest.frames)
    return f"{model.numbers}; {plan_of_run(model.config, recipe.rank, clip, batch, model.dit_bytes)}"


def _lesson(args: argparse.Namespace) -> Lesson:
    """Raises InputError for numbers that cannot be."""
    from ..training.runs.lora import Lesson, read_kept
    from .model import parse_parts

    if args.pairs is None:
        raise InputError("--pairs is missing; give the folder of before and after")
    for name in ("rank", "every", "patience", "batch"):
        if (count := getattr(args, name)) is not None and count < 1:
            raise InputError(f"--{name} is {count}; use at least 1")
    if args.mllm_lora < 0:
        raise InputError(f"--mllm-lora is {args.mllm_lora}; give its rank, or leave it out")
    for name in ("alpha", "rate"):
        if (value := getattr(args, name)) is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name} is {value:g}; use a number above 0")
    if any(not text.strip() for text in args.instruction):
        raise InputError("--instruction is empty; say what is to be edited")
    changes: dict[str, Any] = {
        "rank": args.rank,
        "alpha": float(args.rank) if args.alpha is None else args.alpha,
        "mllm_rank": args.mllm_lora,
        "patience": args.patience,
        **dict.fromkeys(("save_every", "validate_every", "sample_every"), args.every),
    }
    given = {"num_steps": args.steps, "seed": args.seed, "learning_rate": args.rate}
    given |= dict.fromkeys(("image_batch", "video_batch", "micro_image_batch", "micro_video_batch"), args.batch)
    if args.micro is not None:
        given |= dict.fromkeys(("micro_image_batch", "micro_video_batch"), args.micro)
    changes |= {name: value for name, value in given.items() if value is not None}
    if args.keep is not None:
        changes["keep"] = read_kept(args.keep)
    return Lesson(
        pairs=args.pairs,
        model=args.base,
        parts=parse_parts(args.part),
        instructions=tuple(args.instruction),
        validation=args.validation,
        mirror=args.mirror,
        name=args.name,
        to=args.to,
        changes=changes,
    )
