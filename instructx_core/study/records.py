"""records.json of a run: what was measured of it, what it cost, and which code and machine it comes from.

Between running.py, which writes it when a run is done, and findings.py. It is there as a whole or not at all, and is
refused where it is another run's, or damaged.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..media.outputs import atomic_path
from ..training.runs.chain import is_done
from ..version import __version__
from .schedule import Run, asked_groups

RECORDS = "records.json"
ORIGIN = ("commit", "version", "torch", "processor")  # what records that are compared should have in common
PARTS = {"recipe": dict, "records": list, "samples": dict}


def is_measured(run: Run, output: Path) -> bool:
    """Whether nothing of it is left to do. Raises InputError for another run under its name."""
    if not is_done(output, run.recipe):
        return False
    return not run.measured or measured_records(run, output) is not None


def measured_records(run: Run, output: Path) -> dict[str, Any] | None:
    """What was measured of a run; None where nothing was, or other samples were.

    Raises InputError for a file that is damaged or another run's.
    """
    path = output / run.name / RECORDS
    if not path.is_file():
        return None
    remedy = "remove it, and `instructx study run` measures the run again; its weights are kept"
    try:
        found = json.loads(path.read_text())
        broken = [name for name, kind in PARTS.items() if not isinstance(found[name], kind)]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from None
    if broken or not all(isinstance(each, dict) and "id" in each for each in found["records"]):
        raise InputError(f"{path} is damaged ({', '.join(broken) or 'records'}); {remedy}")
    wanted = run.recipe.as_json()
    other = sorted(
        name for name in wanted.keys() | found["recipe"].keys() if wanted.get(name) != found["recipe"].get(name)
    )
    if other:
        raise InputError(f"{path} is of a run with another {', '.join(other)}; {remedy}")
    return found if found["samples"] == samples_of(run) else None


def samples_of(run: Run) -> dict[str, int]:
    """Test samples of a run, and of which groups more; its clips' queries are untrained after a first stage."""
    usual = {"images": run.scale.images, "clips": 0 if run.stage == "align" else run.scale.clips}
    return usual | dict(asked_groups(run.scale).get(run.name, {}))


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """JSON that is there as a whole or not at all. Raises InputError when the disk is full."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def provenance() -> dict[str, str]:
    """What code, libraries and processor a number comes from."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    versions = {"version": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"commit": asked.stdout.strip() or "unknown"} | versions | {"processor": processor()}


@cache
def processor() -> str:
    """The CPU's name, the instructions that torch uses of it, and whether it multiplies bf16 itself."""
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.is_file() else []
    about = {name.strip(): value.strip() for name, _, value in lines}
    name = about.get("model name") or platform.processor() or platform.machine()
    bf16 = {"avx512_bf16", "amx_bf16"} & set(about.get("flags", "").split())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}{', bf16' if bf16 else ''}"


def mixed_origins(sources: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What records that are compared do not have in common: commit, versions, processor -> the values there are."""
    found = {name: sorted({str(source.get(name, "unknown")) for source in sources}) for name in ORIGIN}
    return {name: values for name, values in found.items() if len(values) > 1}


def done_of(runs: Iterable[Run], output: Path) -> tuple[int, int]:
    """How many are done, of how many."""
    states = [is_measured(run, output) for run in runs]
    return sum(states), len(states)
