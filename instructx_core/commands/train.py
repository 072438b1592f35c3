"""`instructx train RECIPE`: start or resume a training run; `export` and `card` write the checkpoint folder."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import InputError
from .train_lora import RECIPE as LORA
from .train_lora import add_lora_arguments, run_lora

if TYPE_CHECKING:
    from ..formats.layouts.files import BaseFiles
    from ..training.engine import Engine
    from ..training.machine import Machine
    from ..training.recipes.base import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..training.recipes.registry import RECIPES

    listing = "\n".join(f"  {name:<16}{make().description}" for name, make in RECIPES.items())
    parser.epilog = f"recipes:\n{listing}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="what to train, of those below; lora: an edit of your own, from pairs; tiny: all of the tiny model, then "
        "its folder; export: write the checkpoint folder; card: write its model card",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument(
        "--data", metavar="SPEC", help="data source instead of the recipe's: NAME or NAME:PATH, e.g. shapes"
    )
    parser.add_argument("--steps", type=int, help="train this many steps instead of the recipe's")
    parser.add_argument("--seed", type=int, help="seed of data, noise and initial weights (default: the recipe's)")
    parser.add_argument("--stop-at", type=int, help="stop after this step; the same command resumes")
    parser.add_argument(
        "--from-shipped",
        action="store_true",
        help="start from the model in this package instead of the runs that the recipe requires",
    )
    add_lora_arguments(parser)
    _add_stage_arguments(parser)
    parser.add_argument("--source-embedder", choices=["tied", "own"], help="how the source enters the DiT")
    parser.add_argument(
        "--recipes", choices=["cpu", "gpu"], default="cpu", help="tiny: gpu has larger batches and fewer steps"
    )
    parser.add_argument("--rehearse", action="store_true", help="a few steps on a few samples: does all of it run?")
    parser.add_argument("--repeat", action="store_true", help="do the last steps of a finished run again: same bits?")
    parser.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples (default: 1)")
    parser.add_argument("--to", type=Path, help="tiny, export, card: folder to write")
    parser.add_argument("--last", metavar="RECIPE", default="tiny_stage3", help="export, card: the newest run")
    parser.add_argument("--evaluation", type=Path, help="card: JSON of an evaluation; without, it has none")
    parser.add_argument("--hardware", default="unstated hardware", help="card: what the runs ran on, in words")


def _add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the paper's stages alone."""
    group = parser.add_argument_group("stage1, stage2, stage3")
    add_base_arguments(group)
    group.add_argument("--plan", action="store_true", help="say what the run needs, from its samples, and stop")


def add_base_arguments(group: argparse._ArgumentGroup) -> None:
    """Of what starts from public weights, here and in study_paper.py."""
    group.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="public weights of Wan and Qwen2.5-VL, in diffusion_models, vae and text_encoders, or in transformer and "
        "vae; needed once for an --output",
    )
    group.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="file or folder of denoiser, vae, text_encoder or tokenizer that --base lacks; repeatable",
    )
    group.add_argument(
        "--shard", action="store_true", help="FSDP2: each process of torchrun holds its rows of the model"
    )
    group.add_argument("--offload", action="store_true", help="with --shard: rows wait in the memory of the host")
    group.add_argument("--recompute", action="store_true", help="activations are computed twice instead of being kept")
    group.add_argument(
        "--optimizer-bits", type=int, choices=[8], help="moments of AdamW in 8 bits (torchao) instead of fp32"
    )
    group.add_argument("--micro", type=int, help="samples of one forward pass on one card (default: the recipe's)")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.recipe in ("export", "card"):
        _finish(args)
        return 0
    for name in ("steps", "stop_at", "threads", "micro"):
        if (count := getattr(args, name)) is not None and count < 1:
            raise InputError(f"--{name.replace('_', '-')} is {count}; use at least 1")
    try:
        if args.recipe == LORA:
            return run_lora(args, _bare_machine(args))
        return _train_tiny(args) if args.recipe == "tiny" else _train(args)
    except FloatingPointError as error:
        raise InputError(
            f"{error}; check the weights that it starts from, or lower learning_rate in the recipe and give a new "
            f"--output ({args.output} keeps the last whole checkpoint)"
        ) from None
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for --help
            raise
        raise InputError(
            f"{args.recipe} does not fit into the card's memory ({str(error).splitlines()[0]}); {_smaller(args)}, and "
            "run the command again: it goes on from the last checkpoint"
        ) from None


def _smaller(args: argparse.Namespace) -> str:
    """The next smaller plan than the one that was too large, in the order of costs/plan.py."""
    if not args.recompute:
        return "give --recompute"
    if not args.shard:
        return "give --shard under torchrun, with one process a card"
    if args.micro != 1:
        return "give --micro 1"
    if not args.offload:
        return "give --offload"
    return "start more processes, or make the samples of --data smaller"


def base_machine(args: argparse.Namespace) -> Machine:
    """With the public files and the engine that the command line names. Raises InputError for files that are not
    there."""
    return dataclasses.replace(_bare_machine(args), base=_base(args))


def _bare_machine(args: argparse.Namespace) -> Machine:
    import torch

    from ..training.machine import Watch, find_machine
    from .stage_plan import this_card

    if args.threads:
        torch.set_num_threads(args.threads)
    machine = find_machine(args.device, args.workers)
    card, _ = this_card(machine.device)
    watch = Watch(card.bf16 * 1e12 if card else None, args.tensorboard)
    return dataclasses.replace(machine, engine=_engine(args), watch=watch)


def _engine(args: argparse.Namespace) -> Engine:
    """Raises InputError for options that don't go together."""
    from ..training.engine import Engine

    return Engine(args.shard, args.offload, args.recompute, low_moments=args.optimizer_bits == 8)


def _base(args: argparse.Namespace) -> BaseFiles | None:
    """Raises InputError for files that are not there."""
    from ..formats.layouts.files import find_base
    from .model import parse_parts

    if args.base is None and not args.part:
        return None
    return find_base(args.base, parse_parts(args.part))


def _changed(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """With what the command line says of it."""
    from ..training.recipes.sized import for_gpu, rehearsal

    changes = {"micro_image_batch": args.micro, "micro_video_batch": args.micro}
    changes |= {"data": args.data, "num_steps": args.steps, "seed": args.seed}
    recipe = for_gpu(recipe) if args.recipes == "gpu" else recipe
    recipe = rehearsal(recipe) if args.rehearse else recipe
    return dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})


def _train_tiny(args: argparse.Namespace) -> int:
    """The chain. Returns 1 when a signal stopped it."""
    from ..training.distributed import shutdown
    from ..training.recipes.registry import find_recipe
    from ..training.recipes.tiny import TINY
    from ..training.runs.chain import finish_chain, train_chain

    if args.stop_at or args.from_shipped or args.source_embedder or args.repeat:
        raise InputError("tiny trains all recipes; --stop-at, --from-shipped, --source-embedder, --repeat are of one")
    if args.base or args.part or args.shard:
        raise InputError("tiny starts from nothing; --base, --part and --shard are for stage1, stage2 and stage3")
    recipes = [_changed(find_recipe(name), args) for name in TINY]
    try:
        if not train_chain(recipes, args.output, base_machine(args)):
            return 1
        finish_chain(recipes, args.output, args.to or args.output / "tiny", args.hardware)
    finally:
        shutdown()
    return 0


def _recipe(name: str, source_embedder: Literal["tied", "own"] | None) -> Recipe:
    """The recipe of that name, with the source embedder of the command line."""
    from ..training.recipes.registry import find_recipe, find_stage, with_source

    if source_embedder is None:
        return find_recipe(name)
    return with_source(find_stage(name, "--source-embedder"), source_embedder)


def _train(args: argparse.Namespace) -> int:
    from ..training.distributed import shutdown
    from ..training.recipes.base import FROM_BASE, FROM_SHIPPED
    from ..training.recipes.edit import EditRecipe
    from ..training.start import trains_shipped
    from .stage_plan import announce_plan

    recipe = _recipe(args.recipe, args.source_embedder)
    if args.from_shipped and not trains_shipped(recipe):
        raise InputError(f"--from-shipped is for recipes that train that model further; {recipe.name} does not")
    recipe = _changed(recipe, args)
    if args.from_shipped:
        recipe = dataclasses.replace(recipe, requires=(FROM_SHIPPED,))
    if FROM_BASE not in recipe.requires and (args.base or args.part or args.shard or args.plan):
        raise InputError(
            f"--base, --part, --shard and --plan are for the paper's stages; {recipe.name} starts from none: leave "
            "them out"
        )

    from ..media.outputs import check_folder
    from ..training.distributed import rank
    from ..training.runs.run import recipe_source, train

    check_folder(args.output / recipe.name)
    log = logging.getLogger("instructx")
    try:
        if args.repeat:
            return _repeat(recipe, args)
        machine, source = base_machine(args), recipe_source(recipe)
        on_card = machine.device.type == "cuda"
        if isinstance(recipe, EditRecipe) and FROM_BASE in recipe.requires and (args.plan or on_card):
            if not rank():
                announce_plan(recipe, source, machine.device, args)
            if args.plan:
                return 0
        final = train(recipe, args.output, args.stop_at, machine, source)
    finally:
        shutdown()
    if final:
        log.info("wrote %s", final)
    return 0


def _repeat(recipe: Recipe, args: argparse.Namespace) -> int:
    """Returns 1 when other bits came out."""
    from ..training.runs.repeat import repeat

    steps, different = repeat(recipe, args.output, base_machine(args))
    found = f"other bits in {len(different)} tensors, e.g. {different[0]}" if different else "the same bits"
    logging.getLogger("instructx").info("%s, the last %d steps again: %s", recipe.name, steps, found)
    return 1 if different else 0


def _finish(args: argparse.Namespace) -> None:
    """The two verbs that train nothing."""
    last = _recipe(args.last, args.source_embedder)
    if args.to is None:
        raise InputError(f"{args.recipe} needs --to FOLDER")
    if args.recipe == "export":
        from ..training.runs.export import export_run

        export_run(args.output, args.to, last)
    else:
        from ..training.runs.card import write_card

        write_card(args.output, args.evaluation, args.hardware, args.to, last.name)
