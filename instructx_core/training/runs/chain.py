"""`instructx train tiny`: all recipes of the tiny model one after the other, then the checkpoint folder and its card.

Around run.py, which does one. A recipe whose final weights are there is skipped, if it is still the same recipe; one
that was interrupted goes on from its last checkpoint. So the same command can be given until it is through.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ...errors import InputError
from ..checkpoint import RESUMABLE, find_latest
from ..distributed import rank
from ..machine import Machine
from ..recipes.base import Recipe
from ..recipes.tiny import HOURS
from ..trainer import FINAL
from .card import write_card
from .export import export_run
from .run import train

logger = logging.getLogger("instructx")

TIMES = "minutes.json"


def is_done(output: Path, recipe: Recipe) -> bool:
    """Whether this very recipe was trained to its end. Raises InputError when another one was, under its name."""
    path = output / recipe.name / FINAL
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {}).get("recipe", "{}"))
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and train {recipe.name} again") from error
    wanted = recipe.as_json()
    names = {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}
    other = sorted(name for name in names if name not in RESUMABLE and not name.endswith("_validation"))
    if wanted["num_steps"] != found.get("num_steps"):
        other.append("num_steps")
    if other:
        raise InputError(
            f"{path} is of a recipe with another {', '.join(other)}; move {path.parent} away, or use another --output"
        )
    return True


def train_chain(recipes: Sequence[Recipe], output: Path, machine: Machine) -> bool:
    """Trains what is missing, in order; False when a signal stopped it."""
    for number, recipe in enumerate(recipes, 1):
        name = f"{recipe.name} ({number} of {len(recipes)}, {recipe.description})"
        if is_done(output, recipe):
            logger.info("%s: there already", name)
            continue
        hours = HOURS.get(recipe.name)
        usual = f"; about {hours:g} hours on two idle cores" if machine.device.type == "cpu" and hours else ""
        logger.info("%s: %d steps%s", name, recipe.num_steps, usual)
        resumed = find_latest(output / recipe.name, recipe.as_json()) is not None
        started = time.monotonic()
        final = train(recipe, output, None, machine)
        minutes = (time.monotonic() - started) / 60
        logger.info("%s: %.1f minutes", name, minutes)
        note_time(output / TIMES, recipe.name, minutes, resumed)
        if final is None:
            return False
    return True


def note_time(path: Path, name: str, minutes: float, resumed: bool = False) -> None:
    """Into the file of all recipes' times: minutes that it took, pools included. resumed: they are added to those
    before it was interrupted; a stretch that ended without a word (SIGKILL) is not in them."""
    if rank():
        return
    times = json.loads(path.read_text()) if path.is_file() else {}
    before = times.get(name, 0.0) if resumed else 0.0
    path.write_text(json.dumps(times | {name: round(before + minutes, 2)}, indent=1) + "\n")


def finish_chain(recipes: Sequence[Recipe], output: Path, target: Path, hardware: str) -> None:
    """Checkpoint folder and model card, by the first process; `instructx train card` adds what an evaluation found."""
    if rank():
        return
    export_run(output, target, recipes[-1])
    write_card(output, None, hardware, target, recipes[-1].name)
