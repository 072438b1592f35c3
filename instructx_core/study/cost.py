"""What runs will cost before they start, in CPU seconds: times of this machine, times what is left to do.

Between calibration.py and the command, which prints it, and running.py, which notes it beside what the run then
took, of the steps that were left when its process began; report.py shows the ratio.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..training.checkpoint import step_folders
from ..training.runs.chain import is_done
from .calibration import Seconds, variant_kind
from .experiments import Experiment
from .groups import MODALITY
from .records import is_measured, samples_of
from .schedule import Run, Scale, all_runs

COST = "cost.json"
Parts = dict[str, float]  # CPU seconds: "open" with the pools that it draws, "train", "measure"


def steps_left(run: Run, output: Path) -> int:
    """From its last checkpoint on."""
    if is_done(output, run.recipe):
        return 0
    folders = step_folders(output / run.name)
    return run.recipe.num_steps - (int(folders[-1].name.partition("-")[2]) if folders else 0)


def estimated(run: Run, times: dict[str, Seconds], output: Path, drawn: set[str]) -> Parts:
    """Of what is left of one run. drawn: pools that others draw before it; this one's are added."""
    seconds, recipe, clips = times[variant_kind(run)], run.recipe, run.recipe.video_probability
    step = (1 - clips) * seconds.get(f"{run.stage} image", 0.0) + clips * seconds.get(f"{run.stage} video", 0.0)
    left = steps_left(run, output)
    opening, training, measuring = seconds["open"], left * step, 0.0
    for pool, modality, count in pools_of(run):
        if pool not in drawn and not (pools(output) / pool).is_file():
            drawn.add(pool)
            opening += count * seconds.get(f"draw {modality}", 0.0)
    if recipe.validate_every:
        rounds = recipe.num_steps // recipe.validate_every - (recipe.num_steps - left) // recipe.validate_every
        training += rounds * recipe.image_validation * seconds["measure image"]
    if run.measured:
        test = measured_pool(run)
        draws = float(test not in drawn and not (pools(output) / test).is_file())
        drawn.add(test)
        for modality, count in measured_counts(run).items():
            each = seconds.get(f"measure {modality}", 0.0) + draws * seconds.get(f"draw {modality}", 0.0)
            measuring += count * each
    return {"open": opening, "train": training, "measure": measuring}


def measured_counts(run: Run) -> dict[str, int]:
    """Samples by modality, those of groups among them."""
    samples = samples_of(run)
    found = {"image": samples["images"], "video": samples["clips"]}
    for group, modality in MODALITY.items():
        found[modality] += samples.get(group, 0)
    return found


def pools(output: Path) -> Path:
    """Where it is noted which pools have been drawn: empty files, so that processes do not disturb each other."""
    return output / "pools" / "drawn"


def pools_of(run: Run) -> list[tuple[str, str, int]]:
    """(name, modality, samples) of what it trains on. Runs of one name read the same samples."""
    recipe = run.recipe
    found = []
    for modality, count in (("image", recipe.image_pool), ("video", recipe.video_pool)):
        if count:
            found.append((_pool(run, f"{modality} {count} from {recipe.pool_start}"), modality, count))
    return found


def measured_pool(run: Run) -> str:
    """The name of the samples that it is measured on."""
    return _pool(run, f"test {samples_of(run)}")


def _pool(run: Run, samples: str) -> str:
    """By what the cache's names depend on (data/cache.py): whether pictures are encoded for the MLLM, and how."""
    shown = sorted((name, value) for name, value in run.recipe.model.items() if name.startswith("instruction."))
    text = f"{samples} {run.recipe.data} {run.recipe.design == 't5'} {shown}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def note_drawn(output: Path, names: Iterable[str]) -> None:
    """That these pools are there now."""
    pools(output).mkdir(parents=True, exist_ok=True)
    for name in names:
        (pools(output) / name).touch()


def forecast(
    scale: Scale, experiments: Sequence[Experiment], times: dict[str, Seconds], output: Path
) -> dict[str, float]:
    """CPU hours by experiment of what is left to do; what several share is counted for the first."""
    drawn: set[str] = set()
    counted: set[str] = set()
    hours = {}
    for experiment in experiments:
        runs = [run for run in all_runs(scale, [experiment]) if run.name not in counted]
        counted |= {run.name for run in runs}
        left = [run for run in runs if not is_measured(run, output)]
        hours[experiment.name] = sum(sum(estimated(run, times, output, drawn).values()) for run in left) / 3600
    return hours


def noted_costs(runs: Sequence[Run], output: Path) -> list[dict[str, Any]]:
    """What runs were estimated to cost and took, of those that say. Raises InputError for a damaged file."""
    found = []
    for run in runs:
        path = output / run.name / COST
        if path.is_file():
            try:
                cost = json.loads(path.read_text())
                total = {name: sum(float(each) for each in cost[name].values()) for name in ("estimate", "cpu_seconds")}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise InputError(f"{path} is damaged ({error}); remove it: nothing is run again for it") from None
            found.append({"run": run.name, **total})
    return found


def cost_of_experiments(scale: Scale, experiments: Sequence[Experiment], output: Path) -> dict[str, dict[str, float]]:
    """By experiment: runs that say, CPU hours estimated and taken, their ratio; a run counts for the first with it."""
    counted: set[str] = set()
    found = {}
    for experiment in experiments:
        runs = [run for run in all_runs(scale, [experiment]) if run.name not in counted]
        counted |= {run.name for run in runs}
        costs = noted_costs(runs, output)
        if costs:
            estimate, taken = (sum(each[name] for each in costs) / 3600 for name in ("estimate", "cpu_seconds"))
            ratio = taken / estimate if estimate else 0.0
            found[experiment.name] = {"runs": len(costs), "estimate": estimate, "taken": taken, "ratio": ratio}
    return {name: {key: round(value, 4) for key, value in each.items()} for name, each in found.items()}
