"""Many edits in one process: a list of jobs in a JSON-lines file, resumable, one bad job does not stop the rest.

Around edit_file in the data flow; behind `instructx edit --jobs`. A finished job is remembered by a content key (bytes
of inputs and model, settings) with the digest of its output, in a journal beside the list; when the list is run again,
what is finished and untouched is skipped. Paths in the list are relative to its folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digests import file_digest, model_files_digest
from ..errors import InputError
from ..version import __version__

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

logger = logging.getLogger("instructx")

_PATHS = ("input", "output", "reference")


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the list. options: keyword arguments of edit_file. problem: why the line cannot be run, or ""."""

    line: int
    source: Path = Path()
    instruction: str = ""
    output: Path = Path()
    references: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job. status: done, skipped (finished before, nothing changed since) or failed."""

    job: Job
    status: str
    seconds: float = 0.0
    message: str = ""


def read_jobs(path: str | Path, parse: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Job]:
    """The jobs of a JSON-lines file. A line: input, instruction, output, reference (a path or a list) and options.

    parse: turns the options into keyword arguments of edit_file; raises InputError for a wrong one. A line that cannot
    be run becomes a job with a `problem`. Raises InputError when the file cannot be read or is empty.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of jobs ({error}); give one JSON object a line") from None
    jobs: list[Job] = []
    taken: dict[Path, int] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            job = _read_job(number, text, path.parent, parse)
            first = taken.setdefault(job.output.resolve(), number)
            if first != number:
                raise InputError(f"line {first} writes the same file {job.output}; give each job an output of its own")
        except InputError as error:
            job = Job(number, problem=str(error))
        jobs.append(job)
    if not jobs:
        raise InputError(f"{path}: holds no job; write one JSON object a line")
    return jobs


def _read_job(line: int, text: str, folder: Path, parse: Callable[[dict[str, Any]], dict[str, Any]]) -> Job:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"line {line} is not JSON ({error}); write one object a line") from None
    if not isinstance(values, dict):
        raise InputError(f"line {line} is a {type(values).__name__}; write an object with input, instruction, output")
    for name in ("input", "instruction", "output"):
        if not isinstance(values.get(name), str):
            raise InputError(f"line {line}: {name} is {values.get(name)!r}; it must be a string")
    references = values.get("reference", [])
    references = [references] if isinstance(references, str) else references
    if not isinstance(references, list) or not all(isinstance(name, str) for name in references):
        raise InputError(f"line {line}: reference is {references!r}; give a path or a list of paths")
    options = {name: value for name, value in values.items() if name not in (*_PATHS, "instruction")}
    try:
        parsed = parse(options)
    except InputError as error:
        raise InputError(f"line {line}: {error}") from None
    return Job(
        line, folder / values["input"], values["instruction"], folder / values["output"],
        tuple(folder / name for name in references), parsed,
    )  # fmt: skip


def model_key(files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Identifies a model by the content of its files and folders, in their order, and the settings it runs with."""
    return model_files_digest(files, json.dumps([__version__, dict(settings)], sort_keys=True, default=str))


def job_key(job: Job, model: str) -> str:
    """Content key: changes with the bytes of any input file, any setting or the model; not with names and dates."""

    def content(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = (part for part in dataclasses.fields(value) if part.repr)  # the others do not change the result
            return {part.name: content(getattr(value, part.name)) for part in parts}
        return file_digest(value) if isinstance(value, Path) else value

    options = {name: content(value) for name, value in job.options.items()}
    parts = [model, job.instruction, job.output.suffix, *map(content, (job.source, *job.references)), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Journal:
    """Finished jobs: one JSON line each, key and the output's digest, beside the list (NAME.done.jsonl).

    Lines are appended whole and flushed to disk, so several processes may share it; one torn by a crash is ignored.
    """

    def __init__(self, jobs: Path) -> None:
        self.path = jobs.with_suffix(".done.jsonl")
        self.done: dict[tuple[str, str], str] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for text in filter(None, lines):
            try:
                entry = json.loads(text)
                self.done[entry["output"], entry["key"]] = entry["sha256"]
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: an unreadable line is ignored (a crash tore it); that job runs again", self.path)

    def _name(self, job: Job) -> str:
        return os.path.relpath(job.output, self.path.parent)

    def holds(self, job: Job, key: str) -> bool:
        """True when the job was finished with this key and its output is still the file that was written."""
        written = self.done.get((self._name(job), key))
        return written is not None and job.output.is_file() and file_digest(job.output) == written

    def add(self, job: Job, key: str) -> None:
        entry = {"output": self._name(job), "key": key, "sha256": file_digest(job.output)}
        self.done[entry["output"], key] = entry["sha256"]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps(entry)}\n")  # the first newline ends a torn line
            stream.flush()
            os.fsync(stream.fileno())


def run_jobs(
    jobs: Sequence[Job], journal: Journal, model: str, load: Callable[[], InstructXPipeline],
    edit: Callable[..., Any],
) -> Iterator[Outcome]:  # fmt: skip
    """Run jobs one after the other; yields what became of each. `load` is called once, before the first that must run.

    edit(pipe, source, instruction, references, output=..., **options) does one job (edit_file). A job that raises is a
    failed one, whatever the reason; only an interrupt stops the list, or a model that cannot be loaded.
    """
    pipe: InstructXPipeline | None = None
    for job in jobs:
        start = time.perf_counter()
        try:
            key = _key_to_run(job, journal, model)
        except InputError as error:
            yield Outcome(job, "failed", time.perf_counter() - start, " ".join(str(error).split()))
            continue
        if key is None:
            yield Outcome(job, "skipped", message="finished before with the same content; not run again")
            continue
        pipe = pipe or load()
        start = time.perf_counter()
        try:
            edit(pipe, job.source, job.instruction, job.references, output=job.output, **job.options)
            journal.add(job, key)
        except InputError as error:
            yield Outcome(job, "failed", time.perf_counter() - start, " ".join(str(error).split()))
        except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            logger.exception("job of line %d failed", job.line)  # a bug of ours, or a broken device
            yield Outcome(job, "failed", time.perf_counter() - start, f"{type(error).__name__}: {error}")
        else:
            yield Outcome(job, "done", time.perf_counter() - start)


def _key_to_run(job: Job, journal: Journal, model: str) -> str | None:
    """The job's content key, or None when it is finished. Raises InputError when it cannot be run."""
    if job.problem:
        raise InputError(job.problem)
    key = job_key(job, model)
    return None if journal.holds(job, key) else key


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table of all jobs and a last line with the counts."""
    rows = [f"{'line':>4}  {'status':<7}  {'seconds':>7}  output"]
    for outcome in outcomes:
        job = outcome.job
        told = f"{job.output}: {outcome.message}" if outcome.message and not job.problem else outcome.message
        rows.append(f"{job.line:>4}  {outcome.status:<7}  {outcome.seconds:>7.2f}  {told or job.output}")
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    rows.append(f"{len(outcomes)} jobs: " + ", ".join(f"{number} {status}" for status, number in counts.items()))
    return "\n".join(rows)
