"""`instructx synthesize FILMS --output SET`: training pairs from films (paper A.2), resumable."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..synthesis.setup import Setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", type=Path, nargs="?", help="a film, or a folder of films")
    parser.add_argument("--output", type=Path, help="folder of the set; the same one goes on")
    parser.add_argument("--plan", type=int, metavar="CARDS", help="say what the paper's 236K pairs cost, and stop")
    parser.add_argument("--gpu", default="H100", help="of --plan (default: H100)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a film at a time (default: 1)")
    parser.add_argument("--runner", choices=("here", "ray"), default="here", help="ray: over a cluster's machines")
    parser.add_argument(
        "--backend",
        choices=("classic", "self", "models"),
        default="classic",
        help="who plays all roles (default: classic)",
    )
    parser.add_argument("--role", action="append", default=[], metavar="ROLE=BACKEND", help="one role; repeatable")
    parser.add_argument("--cast", type=Path, help="JSON file of models and their weights by role (docs/synthesis.md)")
    parser.add_argument("--model", type=Path, help="InstructX for `self`: a folder of models (default: shipped tiny)")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1 for models (default: cpu)")
    parser.add_argument("--things", default="", help="what films may show, for roles that need words: 'red car,dog'")
    parser.add_argument("--others", default="", help="what a swap may put in a thing's place: 'a horse,a blue car'")
    parser.add_argument("--noun", default="object", help="what a thing is called whose kind nobody knows")
    parser.add_argument(
        "--allow-licence",
        action="append",
        default=[],
        metavar="NAME",
        help="use what this licence covers although it forbids training; repeatable",
    )
    parser.add_argument("--limits", type=Path, help="JSON file of thresholds that differ from the defaults")
    parser.add_argument("--json", type=Path, help="write funnel and counts there as well")


def run(args: argparse.Namespace) -> int:
    if args.plan is not None:
        return _plan(args)
    if args.films is None or args.output is None:
        raise InputError("give the films and --output, a folder for the set; or --plan CARDS")
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: there must be at least 1")
    _check_extra()
    from tqdm import tqdm

    from ..media.outputs import make_folder
    from ..synthesis.export import export
    from ..synthesis.films import find_films
    from ..synthesis.funnel import funnel, table
    from ..synthesis.pipeline import stages_of
    from ..synthesis.report import write_report
    from ..synthesis.run import WORK, BadFilm, candidates_of, finished, usable

    setup = _setup(args)
    found = find_films(args.films, args.output)
    films, refused = usable(found, dict(setup.film_licences), args.allow_licence)
    stages = [stage.name for stage in stages_of(setup)]
    make_folder(args.output)
    if args.runner == "ray":
        from ..synthesis.cluster import candidates_on_ray as run_films
    else:
        run_films = candidates_of
    started, bad = time.monotonic(), list(refused)
    with tqdm(unit="clip", desc=f"{len(films)} films", file=sys.stderr) as bar:
        for outcome in run_films(films, args.output, setup, args.workers):
            if isinstance(outcome, BadFilm):
                bad.append(outcome)
            else:
                bar.update()
    without = {film.film for film in refused}
    candidates = [each for each in finished(args.output) if each.film not in without]
    exported = export(candidates, args.output / WORK, args.output, setup)
    steps = funnel(candidates, stages)
    print("\n".join(table(steps)))
    for film in bad:
        print(f"not used: {film.reason}")
    if exported.copies:
        print(f"{len(exported.copies)} clips look like another one and were left out")
    counts = ", ".join(f"{count} {task}" for task, count in exported.tasks.items())
    print(f"look at {write_report(candidates, stages, args.output, setup.limits)}")
    print(f"{counts} in {args.output} ({time.monotonic() - started:.0f} s)")
    if args.json is not None:
        values = {"films": len(found), "bad films": {film.film: film.reason for film in bad}}
        parts = {step.stage: {"in": step.entered, "out": step.passed, "reasons": step.reasons} for step in steps}
        _write(args.json, {**values, "funnel": parts, "records": exported.tasks, "copies": exported.copies})
    return 0 if sum(exported.tasks.values()) else 1


def _check_extra() -> None:
    try:
        import cv2  # noqa: F401
        import scenedetect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"synthesize needs {error.name}; install its extra with: pip install 'instructx[synth]'"
        ) from None


def _write(path: Path, values: dict[str, Any]) -> None:
    from ..media.outputs import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def _setup(args: argparse.Namespace) -> Setup:
    """Thresholds and cast. Raises InputError for what cannot be, before any work."""
    from ..synthesis.cast import make_casting, on_device, read_cast
    from ..synthesis.licences import check_licences, read_film_licences
    from ..synthesis.players import check_players
    from ..synthesis.setup import Setup
    from ..synthesis.terms.limits import read_limits

    casting = make_casting(
        args.backend,
        args.role,
        read_cast(args.cast),
        things=_listed(args.things),
        others=_listed(args.others),
        noun=args.noun,
    )
    if args.model is not None and not args.model.exists():
        raise InputError(f"{args.model}: no such folder of models; check the path")
    casting, licences = on_device(casting, args.device, str(args.model or "")), read_film_licences(args.films)
    setup = Setup(read_limits(args.limits), casting, tuple(licences.items()))
    check_players(setup.casting)
    check_licences(setup.casting, args.allow_licence)
    return setup


def _plan(args: argparse.Namespace) -> int:
    from ..costs.cards import find_card
    from ..synthesis.load import load_table

    if args.plan < 1:
        raise InputError(f"--plan {args.plan}: there must be at least 1 card")
    print(load_table(args.plan, find_card(args.gpu)))
    return 0


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))
