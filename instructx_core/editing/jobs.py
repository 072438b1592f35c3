"""Many edits in one process: a list of jobs, resumable, one bad job does not stop the rest.

Around edit.py in the data flow; behind `instructx edit --jobs`: job_list.py -> Stage, one job after the other -> table.
What is finished and untouched (journal.py) is skipped when the list is run again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digests import file_digest, model_files_digest
from ..errors import InputError
from ..media.kinds import check_file
from ..version import __version__
from .edit import edit
from .job_list import BadLine, Job
from .journal import Entry, Journal
from .look import Look, look_at
from .report import EditReport

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

logger = logging.getLogger("instructx")
EditOne = Callable[["InstructXPipeline", Look], EditReport]

# A wrong file, a broken device, a bug of ours, a library that ends the program: anything but an interrupt.
FAILURES = (Exception, SystemExit)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line. status: done, skipped (finished before, nothing changed since), failed, or stopped (an
    interrupt came while it was edited).

    output: "" of a bad line that names none.
    """

    line: int
    output: str
    status: str
    seconds: float = 0.0
    message: str = ""

    @property
    def text(self) -> str:
        """For the table: the output, and what there is to say about it."""
        return _one_line(": ".join(filter(None, (self.output, self.message))))


def model_key(files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Identifies a model by the content of its files and folders, in their order, and the settings it runs with."""
    return model_files_digest(files, json.dumps([__version__, dict(settings)], sort_keys=True, default=str))


class Stage:
    """What is done to one job, with all that the jobs of a list share; the same in a loop and in a worker.

    model: identifies what `load` gives (model_key). `load` is called once, before the first job that must run; what it
    raises is raised. began: told the output of a job whose files are about to be opened. edit_one: what edits what was
    looked at.
    """

    def __init__(
        self,
        journal: Journal,
        model: str,
        load: Callable[[], InstructXPipeline],
        began: Callable[[Path], None] = lambda output: None,
        edit_one: EditOne | None = None,
    ) -> None:
        self.journal, self.model, self.load, self.began = journal, model, load, began
        self.edit_one = edit_one or edit
        self.pipe: InstructXPipeline | None = None

    def run(self, job: Job) -> tuple[Outcome, Entry | None]:
        """What became of a job, and what the journal is to remember. A job that raises is a failed one, whatever the
        reason; only an interrupt is raised."""
        request, output, start = job.request, str(job.request.output), time.perf_counter()
        try:
            check_file(request.source)
            source = file_digest(request.source)  # read once, for the journal and for finished windows
            key = request.content_key(self.model, source)
            if self.journal.holds(request.output, key):
                message = "finished before with the same content; not run again"
                return Outcome(job.line, output, "skipped", message=message), None
            self.began(request.output)
            look = look_at(request, source)
        except FAILURES as error:
            return Outcome(job.line, output, "failed", time.perf_counter() - start, _reason(job, error)), None
        looked, self.pipe = time.perf_counter() - start, self.pipe or self.load()
        start = time.perf_counter() - looked
        try:
            report = self.edit_one(self.pipe, look)
            entry = self.journal.entry(request.output, key)
        except FAILURES as error:
            return Outcome(job.line, output, "failed", time.perf_counter() - start, _reason(job, error)), None
        message = _one_line("; ".join([*look.notes, *report.chosen]))
        return Outcome(job.line, output, "done", time.perf_counter() - start, message), entry


def run_jobs(
    jobs: Sequence[Job | BadLine],
    journal: Journal,
    model: str,
    load: Callable[[], InstructXPipeline],
    edit_one: EditOne | None = None,
) -> Iterator[Outcome]:
    """Run jobs one after the other; yields what became of each. model, load, edit_one: as of Stage.

    Only an interrupt stops the list, raised once the job that it came in is told, or a model that cannot be loaded. A
    job in which the last run ended is tried last.
    """
    stage = Stage(journal, model, load, journal.begin, edit_one)
    for job in last_if_it_ended_a_run(jobs, journal):
        if isinstance(job, BadLine):
            yield bad_line(job)
            continue
        entry = None
        try:
            outcome, entry = stage.run(job)
        except KeyboardInterrupt:
            yield Outcome(job.line, str(job.request.output), "stopped", message="interrupted; run the list again")
            raise
        finally:
            if entry is None and journal.name(job.request.output) in journal.unfinished:
                journal.fail(job.request.output)
        yield outcome if entry is None else record_outcome(journal, outcome, entry)


def last_if_it_ended_a_run(jobs: Sequence[Job | BadLine], journal: Journal) -> list[Job | BadLine]:
    """The same jobs. A file that crashes the program must not stand before all others each time the list is run."""
    late: dict[int, str] = {}
    for job in jobs:
        if isinstance(job, Job) and (
            journal.name(job.request.output) in journal.unfinished or late.keys() & set(job.after)
        ):
            late[job.line] = str(job.request.output)
    if late:
        logger.warning("the run before ended in %s: tried last", ", ".join(late.values()))
    return sorted(jobs, key=lambda job: job.line in late)


def in_any_order(jobs: Sequence[Job | BadLine]) -> list[Job | BadLine]:
    """For several processes, which keep no order: a line that reads what another one writes becomes a bad one."""
    return [
        BadLine(
            job.line,
            f"line {job.line} reads what line {job.after[0]} writes, and several processes keep no order; put it into "
            "a list of its own, to be run after this one",
            str(job.request.output),
        )
        if isinstance(job, Job) and job.after
        else job
        for job in jobs
    ]


def bad_line(line: BadLine) -> Outcome:
    """What became of a line that cannot be run."""
    return Outcome(line.line, line.output, "failed", message=_one_line(line.problem))


def record_outcome(journal: Journal, outcome: Outcome, entry: Entry) -> Outcome:
    """Puts a finished job into the journal; where that fails, the edit is done all the same, and says so."""
    try:
        journal.add(entry)
    except OSError as error:
        message = f"written, but {journal.path} cannot be ({error.strerror}): the next run makes it again"
        return replace(outcome, message=message)
    return outcome


def _reason(job: Job, error: BaseException) -> str:
    """Why a job failed, in one line; what is no fault of the job is logged as well."""
    if isinstance(error, InputError):
        return _one_line(str(error))
    logger.error("job of line %d failed", job.line, exc_info=error)
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(message: str) -> str:
    return " ".join(message.split())


def outcome_table(outcomes: Sequence[Outcome], total: int) -> str:
    """A table of the jobs that came to an end and a last line that counts all. total: jobs of the list."""
    rows = [f"{'line':>4}  {'status':<7}  {'seconds':>7}  output"]
    rows += [
        f"{each.line:>4}  {each.status:<7}  {each.seconds:>7.2f}  {each.text}"
        for each in sorted(outcomes, key=lambda each: each.line)
    ]
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed", "stopped")}
    counts["not finished"] = total - len(outcomes)  # on several machines some of them may have begun
    totals = [
        f"{number} {status}" for status, number in counts.items() if number or status in ("done", "skipped", "failed")
    ]
    rows.append(f"{total} jobs: " + ", ".join(totals))
    return "\n".join(rows)
