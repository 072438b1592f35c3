"""Films -> a set of records: the plain loop, over as many processes as asked for.

Place: films.py, stage.py -> run -> funnel.py, export.py. A task is a film's cutting or a candidate's stages; workers
share nothing but the disk, so a process that is killed costs what it was doing, and the same command goes on.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .films import Film, Span, cut, spans
from .licences import film_licence, forbids
from .pipeline import stages_of
from .setup import Setup
from .stage import run_stages
from .terms.candidate import STATE, Candidate, load

logger = logging.getLogger("instructx")

WORK = "work"


@dataclass(frozen=True, slots=True)
class BadFilm:
    """A film that gave nothing, or less than it holds, and why."""

    film: str
    reason: str


def usable(
    films: Sequence[Film], licences: Mapping[str, str], allowed: Collection[str]
) -> tuple[list[Film], list[BadFilm]]:
    """Films whose licence lets a model be trained on them, or is allowed all the same; and the others."""
    good, bad = list[Film](), list[BadFilm]()
    for film in films:
        licence = film_licence(film.path.name, licences)
        if forbids(licence) and licence not in allowed:
            reason = f"{film.path}: its licence {licence} forbids training; --allow-licence {licence} uses it anyway"
            bad.append(BadFilm(film.path.name, reason))
        else:
            good.append(film)
    return good, bad


def candidates_of(films: Sequence[Film], output: Path, setup: Setup, workers: int) -> Iterator[Candidate | BadFilm]:
    """Every candidate when it is through or rejected, and every film that cannot be read, as they end."""
    work = output / WORK
    work.mkdir(parents=True, exist_ok=True)
    if workers > 1:
        yield from _in_processes(films, work, setup, workers)
        return
    for film in films:
        found = film_spans(film, work, setup)
        if isinstance(found, BadFilm):
            yield found
            continue
        for span in found:
            yield run_span(film, span, work, setup)


def _in_processes(films: Sequence[Film], work: Path, setup: Setup, workers: int) -> Iterator[Candidate | BadFilm]:
    """A task is a film to look through, or one clip of it; clips of a long film keep all workers busy."""
    context = multiprocessing.get_context("spawn")  # OpenCV's and FFmpeg's threads do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        looking = {pool.submit(film_spans, film, work, setup): film for film in films}
        cutting: set[Future[Candidate | BadFilm]] = set()
        try:
            while looking or cutting:
                done, _ = wait({*looking, *cutting}, return_when=FIRST_COMPLETED)
                for each in [each for each in looking if each in done]:
                    film, found = looking.pop(each), each.result()
                    if isinstance(found, BadFilm):
                        yield found
                    else:
                        cutting |= {pool.submit(run_span, film, span, work, setup) for span in found}
                for each in [each for each in cutting if each in done]:
                    cutting.remove(each)
                    yield each.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker was killed (out of memory, or from outside); run the same command again with fewer "
                "--workers: what is done is not done again"
            ) from None
        finally:
            for each in (*looking, *cutting):
                each.cancel()


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def film_spans(film: Film, work: Path, setup: Setup) -> list[Span] | BadFilm:
    """Where the clips of a film are."""
    try:
        return spans(film, work, setup.limits)
    except InputError as error:
        return BadFilm(film.path.name, str(error))


def run_span(film: Film, span: Span, work: Path, setup: Setup) -> Candidate | BadFilm:
    """One clip through all stages."""
    try:
        folder = cut(film, span, work, setup.limits)
    except InputError as error:
        return BadFilm(film.path.name, str(error))
    return run_stages(folder, stages_of(setup))


def finished(output: Path) -> list[Candidate]:
    """All candidates of a set, by id."""
    return [load(path.parent) for path in sorted((output / WORK).glob(f"*/{STATE}"))]
