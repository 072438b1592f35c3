"""`instructx train RECIPE`: start or resume a training run; `export` and `card` write the checkpoint folder."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import InputError

if TYPE_CHECKING:
    from ..training.recipes.base import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..training.recipes.registry import RECIPES

    listing = "\n".join(f"  {name:<16}{make().description}" for name, make in RECIPES.items())
    parser.epilog = f"recipes:\n{listing}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="what to train, of those below; export: write the checkpoint folder; card: write its model card",
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
    parser.add_argument("--source-embedder", choices=["tied", "own"], help="how the source enters the DiT")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples (default: 1)")
    parser.add_argument("--to", type=Path, help="export, card: folder to write")
    parser.add_argument("--last", metavar="RECIPE", default="tiny_stage3", help="export, card: the newest run")
    parser.add_argument("--evaluation", type=Path, help="card: JSON of `instructx eval shapes`")
    parser.add_argument("--hardware", default="unstated hardware", help="card: what the runs ran on, in words")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.recipe in ("export", "card"):
        _finish(args)
    else:
        _train(args)
    return 0


def _recipe(name: str, source_embedder: Literal["tied", "own"] | None) -> Recipe:
    """The recipe of that name, with the source embedder of the command line."""
    from ..training.recipes.edit import EditRecipe
    from ..training.recipes.registry import find_recipe, with_source

    recipe = find_recipe(name)
    if source_embedder is None:
        return recipe
    if not isinstance(recipe, EditRecipe):
        raise InputError(f"--source-embedder is for recipes of edits; {name} trains {recipe.description}: leave it out")
    return with_source(recipe, source_embedder)


def _train(args: argparse.Namespace) -> None:
    from ..training.recipes.base import FROM_SHIPPED
    from ..training.recipes.edit import EditRecipe
    from ..training.start import trains_shipped

    recipe = _recipe(args.recipe, args.source_embedder)
    if args.from_shipped and not (isinstance(recipe, EditRecipe) and trains_shipped(recipe)):
        raise InputError(f"--from-shipped is for recipes that train that model further; {recipe.name} does not")
    for name in ("steps", "stop_at", "threads"):
        if (count := getattr(args, name)) is not None and count < 1:
            raise InputError(f"--{name.replace('_', '-')} is {count}; use at least 1")
    changes = {"data": args.data, "num_steps": args.steps, "seed": args.seed}
    if args.from_shipped:
        changes["requires"] = (FROM_SHIPPED,)
    recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})

    from ..media.outputs import make_folder

    make_folder(args.output / recipe.name)

    import torch

    from ..training.machine import find_machine
    from ..training.run import train

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        final = train(recipe, args.output, args.stop_at, find_machine(args.device, args.workers))
    except FloatingPointError as error:
        raise InputError(
            f"{error}; check the weights that it starts from, or lower learning_rate in the recipe and give a new "
            f"--output ({args.output / recipe.name} keeps its last whole checkpoint)"
        ) from None
    if final:
        logging.getLogger("instructx").info("wrote %s", final)


def _finish(args: argparse.Namespace) -> None:
    """The two verbs that train nothing."""
    last = _recipe(args.last, args.source_embedder)
    if args.to is None or (args.recipe == "card" and args.evaluation is None):
        raise InputError(f"{args.recipe} needs --to FOLDER{' and --evaluation JSON' if args.recipe == 'card' else ''}")
    if args.recipe == "export":
        from ..training.export import export

        export(args.output, args.to, last)
    else:
        from ..training.card import write_card

        write_card(args.output, args.evaluation, args.hardware, args.to, last.name)
