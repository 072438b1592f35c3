"""A list of jobs over the machines of a Ray cluster: workers that hold the pipeline, one a GPU; one journal, kept here.

Beside the plain loop of jobs.py, with its Stage: job_list.py -> Ray Data, a job a task -> Worker -> journal and table.
Only the driver writes the journal, as results come in: appending from many machines would tear lines on a network disk,
and whoever dies, what has come in is remembered. Inputs, outputs and models lie where all machines see them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster import go_to, join_cluster, machines, place_workers
from ..errors import InputError
from .job_list import BadLine, Job
from .jobs import EditOne, Outcome, Stage, bad_line, in_any_order, record_outcome
from .journal import Entry, Journal

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

TRIES = 3  # of a job whose worker is lost each time: it is the job then, not the machine


@dataclass(frozen=True, slots=True)
class Model:
    """What a worker runs, told so that it can be sent to it. key: identifies what load gives (jobs.model_key).

    edit_one: gives what edits, as of Stage; called on the worker.
    """

    key: Callable[[], str]
    load: Callable[[], InstructXPipeline]
    edit_one: Callable[[], EditOne | None] = lambda: None


class Tally:
    """How often each job has begun, kept by the driver's machine: a worker that dies with a job takes nothing along."""

    def __init__(self) -> None:
        self.starts: dict[str, int] = {}

    def begin(self, output: str) -> int:
        self.starts[output] = self.starts.get(output, 0) + 1
        return self.starts[output]


class Worker:
    """One process with the pipeline, which is loaded at its first job that must run. A row is one job."""

    def __init__(self, jobs: dict[int, Job], journal: Journal, model: Model, folder: str, tally: Any) -> None:
        self.jobs, self.journal, self.model, self.folder, self.tally = jobs, journal, model, folder, tally
        self.stage: Stage | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """The outcome and the journal's entry as JSON: names of files need not be text that Arrow takes."""
        try:
            if self.stage is None:
                self.stage = self._stage()
            outcome, entry = self.stage.run(self.jobs[row["line"]])
        except InputError as error:  # of the model, not of the job
            return {"result": json.dumps({"error": str(error)})}
        parts = {"outcome": dataclasses.asdict(outcome), "entry": entry and dataclasses.asdict(entry)}
        return {"result": json.dumps(parts)}

    def _stage(self) -> Stage:
        go_to(self.folder)
        return Stage(self.journal, self.model.key(), self.model.load, self._began, self.model.edit_one())

    def _began(self, output: Path) -> None:
        import ray

        times: Any = ray.get(self.tally.begin.remote(str(output)))
        if times > TRIES:
            raise InputError(
                f"its worker was lost {TRIES} times while it ran (out of memory, or a crash): not tried again"
            )


def run_on_ray(
    jobs: Sequence[Job | BadLine], journal: Journal, model: Model, workers: int | None = None
) -> Iterator[Outcome]:
    """As jobs.run_jobs, in the order in which jobs end. A worker that is lost costs its edit, which is made anew.

    workers: default one a GPU, of a cluster without GPUs one a machine. Connects to the cluster that RAY_ADDRESS names
    or that runs here, else starts one of this machine. Raises InputError without Ray, for more workers than there is
    place for, and as a worker that cannot load the model.
    """
    join_cluster()
    import ray
    from ray.data import ActorPoolStrategy, from_items
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    run = list[Job]()
    for job in in_any_order(jobs):
        if isinstance(job, BadLine):
            yield bad_line(job)
        else:
            run.append(job)
    if not run:
        return
    count, share = place_workers(machines(), workers, len(run))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(num_cpus=0)(Tally).options(scheduling_strategy=here).remote()
    results = from_items([{"line": job.line} for job in run], override_num_blocks=len(run)).map(
        Worker,
        fn_constructor_args=({job.line: job for job in run}, journal, model, os.getcwd(), tally),
        # One task at a time on a worker: what waits there would be lost with it.
        compute=ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        **share,
    )
    for row in results.iter_rows():
        yield _received(journal, json.loads(row["result"]))


def _received(journal: Journal, result: dict[str, Any]) -> Outcome:
    if "error" in result:
        raise InputError(result["error"])
    outcome = Outcome(**result["outcome"])
    return outcome if result["entry"] is None else record_outcome(journal, outcome, Entry(**result["entry"]))
