"""Records as a run of the study writes them, with planted values, and the validations of an alignment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from instructx_core.study.experiments import Experiment
from instructx_core.study.records import RECORDS, samples_of
from instructx_core.study.schedule import Run, Scale, all_runs

SAMPLES = 40  # of each modality


def plant(scale: Scale, experiment: Experiment, output: Path) -> None:
    """The first variant's loss is better by a quarter in every sample; all succeed alike."""
    runs = [run for run in all_runs(scale, [experiment]) if run.measured]
    for run in runs:
        write(run, output, 1.0 if run.recipe.model == runs[0].recipe.model and _same(run, runs[0]) else 1.25)


def _same(run: Run, other: Run) -> bool:
    return run.recipe.design == other.recipe.design


def write(run: Run, output: Path, loss: float) -> None:
    folder = output / run.name
    folder.mkdir(parents=True)
    origin = {"commit": "planted", "version": "0", "torch": "2", "processor": "none"}
    seconds = {"open": 1.0, "train": 100.0, "measure": 10.0}
    about: dict[str, Any] = {"samples": samples_of(run), "recipe": run.recipe.as_json(), **origin}
    about |= {"flops": {"image": 2e13 * loss}, "estimate": seconds, "cpu_seconds": seconds}
    (folder / "cost.json").write_text(json.dumps(about))
    records = [record(kind, n, loss) for kind in ("image", "video") for n in range(SAMPLES)]
    (folder / RECORDS).write_text(json.dumps(about | {"records": records}))
    rows = [{"step": step, "validation": {"image loss": loss * (0.4 + 1.0 / step)}} for step in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def record(kind: str, n: int, loss: float) -> dict[str, Any]:
    about = {"task": "color", "area": 0.1, "appears": 0, "id": f"{kind} {n}", "modality": kind}
    return {**about, "loss": loss * (1 + n / 50), "success": n % 3 > 0, "flicker": 0.01}
