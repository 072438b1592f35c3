"""`instructx train RECIPE`: start or resume a training run; `export` and `card` write the checkpoint folder."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..training.tiny_recipes import RECIPES

    parser.add_argument(
        "recipe",
        choices=[*RECIPES, "export", "card"],
        help="what to train; export: write the checkpoint folder; card: write its model card",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
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
    parser.add_argument("--to", type=Path, help="export, card: folder to write")
    parser.add_argument("--last", choices=list(RECIPES), default="tiny_decoder", help="export, card: the newest run")
    parser.add_argument("--evaluation", type=Path, help="card: JSON of `instructx eval shapes`")
    parser.add_argument("--hardware", default="unstated hardware", help="card: what the runs ran on, in words")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    import dataclasses

    import torch

    from ..training.recipes import SHIPPED
    from ..training.run import train
    from ..training.tiny_recipes import RECIPES

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.recipe in ("export", "card"):
        _finish(args)
        return 0
    recipe = RECIPES[args.recipe]().with_source(args.source_embedder)
    if args.from_shipped and (recipe.preset != "tiny" or recipe.job not in ("edit", "vae")):
        raise InputError(f"--from-shipped is for recipes that train that model further; {recipe.name} does not")
    changes = {"num_steps": args.steps, "seed": args.seed, "requires": (SHIPPED,) if args.from_shipped else None}
    recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    try:
        final = train(recipe, args.output, args.stop_at)
    except FloatingPointError as error:
        raise InputError(
            f"{error}; check the weights that it starts from, or lower learning_rate in the recipe and give a new "
            f"--output ({args.output / recipe.name} keeps its last whole checkpoint)"
        ) from None
    logging.getLogger("instructx").info("wrote %s", final) if final else None
    return 0


def _finish(args: argparse.Namespace) -> None:
    """The two verbs that train nothing."""
    from ..training.card import write_card
    from ..training.export import export
    from ..training.tiny_recipes import RECIPES

    if args.to is None or (args.recipe == "card" and args.evaluation is None):
        raise InputError(f"{args.recipe} needs --to FOLDER{' and --evaluation JSON' if args.recipe == 'card' else ''}")
    if args.recipe == "export":
        export(args.output, args.to, RECIPES[args.last]().with_source(args.source_embedder))
    else:
        write_card(args.output, args.evaluation, args.hardware, args.to, args.last)
