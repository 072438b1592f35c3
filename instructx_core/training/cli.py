"""`instructx train RECIPE`: start or resume a training run; `instructx train export` makes the checkpoint folder."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .recipes import RECIPES

    parser.add_argument(
        "recipe", choices=[*RECIPES, "export"], help="what to train; export: write the checkpoint folder"
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--steps", type=int, help="train this many steps instead of the recipe's")
    parser.add_argument("--seed", type=int, help="seed of data, noise and initial weights (default: the recipe's)")
    parser.add_argument("--stop-at", type=int, help="stop after this step; the same command resumes")
    parser.add_argument("--source-embedder", choices=["tied", "own"], help="how the source enters the DiT")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--to", type=Path, help="export: folder to write")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    import dataclasses

    import torch

    from .recipes import RECIPES
    from .run import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.recipe == "export":
        from .export import export

        if args.to is None:
            raise InputError("export needs --to FOLDER")
        export(args.output, args.to)
        return 0
    changes = {"num_steps": args.steps, "seed": args.seed, "source_embedder": args.source_embedder}
    recipe = dataclasses.replace(RECIPES[args.recipe](), **{k: v for k, v in changes.items() if v is not None})
    if args.source_embedder:
        recipe = dataclasses.replace(recipe, name=f"{recipe.name}_{args.source_embedder}")
    try:
        final = train(recipe, args.output, args.stop_at)
    except FloatingPointError as error:
        raise InputError(
            f"{error}; check the weights that it starts from, or lower learning_rate in the recipe and give a new "
            f"--output ({args.output / recipe.name} keeps its last whole checkpoint)"
        ) from None
    logging.getLogger("instructx").info("wrote %s", final) if final else None
    return 0
