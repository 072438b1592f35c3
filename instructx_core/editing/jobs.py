"""Many edits in one process: a list of jobs in a JSON-lines file, resumable, one bad job does not stop the rest.

Around edit.py in the data flow; behind `instructx edit --jobs`. A line is an edit in plain values (options.py), paths
relative to the list's folder. What is finished and untouched (journal.py) is skipped when the list is run again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digests import file_digest, model_files_digest
from ..errors import InputError
from ..version import __version__
from .edit import edit
from .journal import Journal
from .look import look_at
from .options import read_request
from .request import EditRequest

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

logger = logging.getLogger("instructx")

# What a wrong file, a broken device or a bug of ours raises; an interrupt is none of them.
FAILURES = (InputError, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the list that can be run."""

    line: int
    request: EditRequest


@dataclass(frozen=True, slots=True)
class BadLine:
    """One line of the list that cannot be run, and why."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line. status: done, skipped (finished before, nothing changed since) or failed.

    output: as the list names it, "" of a bad line.
    """

    line: int
    output: str
    status: str
    seconds: float = 0.0
    message: str = ""

    @property
    def text(self) -> str:
        """For the table: the output, and what there is to say about it."""
        return ": ".join(filter(None, (self.output, self.message)))


def read_jobs(path: str | Path, defaults: Mapping[str, object]) -> list[Job | BadLine]:
    """The jobs of a JSON-lines file. defaults: options of every line that does not set them itself.

    A line that cannot be run becomes a bad one. Raises InputError when the file cannot be read or is empty.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of jobs ({error}); give one JSON object a line") from None
    jobs: list[Job | BadLine] = []
    taken: dict[Path, int] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            request = _read_line(number, text, path.parent, defaults)
            first = taken.setdefault(request.output.resolve(), number)
            if first != number:
                raise InputError(
                    f"line {first} writes the same file {request.output}; give each job an output of its own"
                )
            jobs.append(Job(number, request))
        except InputError as error:
            jobs.append(BadLine(number, str(error)))
    if not jobs:
        raise InputError(f"{path}: holds no job; write one JSON object a line")
    return jobs


def _read_line(line: int, text: str, folder: Path, defaults: Mapping[str, object]) -> EditRequest:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"line {line} is not JSON ({error}); write one object a line") from None
    if not isinstance(values, dict):
        raise InputError(f"line {line} is a {type(values).__name__}; write an object with input, instruction, output")
    try:
        return read_request({**defaults, **values}, folder)
    except InputError as error:
        raise InputError(f"line {line}: {error}") from None


def model_key(files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Identifies a model by the content of its files and folders, in their order, and the settings it runs with."""
    return model_files_digest(files, json.dumps([__version__, dict(settings)], sort_keys=True, default=str))


def run_jobs(
    jobs: Sequence[Job | BadLine], journal: Journal, model: str, load: Callable[[], InstructXPipeline]
) -> Iterator[Outcome]:
    """Run jobs one after the other; yields what became of each. `load` is called once, before the first that must run.

    model: identifies what `load` gives (model_key). A job that raises is a failed one, whatever the reason; only an
    interrupt stops the list, or a model that cannot be loaded.
    """
    pipe: InstructXPipeline | None = None
    for job in jobs:
        if isinstance(job, BadLine):
            yield Outcome(job.line, "", "failed", message=_one_line(job.problem))
            continue
        request, output, start = job.request, str(job.request.output), time.perf_counter()
        try:
            source = file_digest(request.source)  # read once, for the journal and for finished windows
            key = request.content_key(model, source)
            if journal.holds(request.output, key):
                message = "finished before with the same content; not run again"
                yield Outcome(job.line, output, "skipped", message=message)
                continue
            look = look_at(request, source)
        except FAILURES as error:
            yield Outcome(job.line, output, "failed", time.perf_counter() - start, _reason(job, error))
            continue
        looked, pipe = time.perf_counter() - start, pipe or load()
        start = time.perf_counter() - looked
        try:
            edit(pipe, look)
            journal.add(request.output, key)
        except FAILURES as error:
            yield Outcome(job.line, output, "failed", time.perf_counter() - start, _reason(job, error))
        else:
            yield Outcome(job.line, output, "done", time.perf_counter() - start)


def _reason(job: Job, error: Exception) -> str:
    """Why a job failed, in one line; what is no fault of the job is logged as well."""
    if isinstance(error, InputError):
        return _one_line(str(error))
    logger.error("job of line %d failed", job.line, exc_info=error)
    return f"{type(error).__name__}: {error}"


def _one_line(message: str) -> str:
    return " ".join(message.split())


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table of all jobs and a last line with the counts."""
    rows = [f"{'line':>4}  {'status':<7}  {'seconds':>7}  output"]
    rows += [f"{each.line:>4}  {each.status:<7}  {each.seconds:>7.2f}  {each.text}" for each in outcomes]
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    rows.append(f"{len(outcomes)} jobs: " + ", ".join(f"{number} {status}" for status, number in counts.items()))
    return "\n".join(rows)
