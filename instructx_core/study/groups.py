"""Test samples of the groups that are rare among all: more of them, looked for beyond those that every run is measured
on, so that a comparison of such a group has as many as power.py asks for.

Between the data source and measures.py. Which numbers they are is found once and noted in the output folder; a source
draws the same sample for the same number, so that all machines find the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.bucket import Bucket
from ..data.cache import Cache, select_samples
from ..data.samples import EditSample
from ..data.source import EditSource
from ..errors import InputError
from ..training.jobs.edit import EditJob
from ..training.machine import Machine
from ..training.runs.run import recipe_source
from .measures import GROUPS, ZERO_SHOT, Record, about, measure_selections
from .records import write_whole
from .schedule import Run, asked_groups

logger = logging.getLogger("instructx")

FIRST = 100_000  # number of the first sample that is looked at
SEARCHED = 1_000  # for one that is wanted, before it is given up
MODALITY: Mapping[str, str] = {
    "small objects": "image",
    "zero-shot clips": "video",
    "appears in the middle": "video",
}


@dataclass(frozen=True, slots=True)
class ChosenSamples:
    """Some test samples of a source as a source of their own (data/source.py::EditSource)."""

    source: EditSource
    name: str
    version: str
    numbers: dict[Bucket, tuple[int, ...]]

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        return tuple(self.numbers)

    def size(self, split: str, bucket: Bucket) -> int:
        return len(self.numbers[bucket])

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        return self.source.task(split, self.numbers[bucket][number], bucket)

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        return self.source.edit(split, self.numbers[bucket][number], bucket)


def measure_group(job: EditJob, machine: Machine, output: Path, group: str, count: int) -> list[Record]:
    """Records of so many samples of a group, marked as drawn for it."""
    chosen = samples_of_group(job.source, group, count, output)
    cache = Cache(output / "pools", chosen, machine.renderer)
    wanted = select_samples(chosen, "test", {(MODALITY[group], False): count})
    records = measure_selections(job, cache, wanted)
    return [record | {"id": f"{group}: {record['id']}", "drawn": group} for record in records]


def samples_of_group(source: EditSource, group: str, count: int, output: Path) -> ChosenSamples:
    """As many of each size as select_samples asks for. Raises InputError where the source has too few."""
    slug = group.replace(" ", "-")
    path = output / "pools" / f"{source.name}-{source.version}-{slug}-{count}.json"
    buckets = {
        str(bucket): bucket
        for bucket in source.buckets("test")
        if bucket.modality == MODALITY[group] and not bucket.reference
    }
    if path.is_file():
        noted: dict[str, list[int]] = json.loads(path.read_text())
    else:
        logger.info("looking for %d test samples of %s: %s", count, source.name, group)
        shares = [count * (n + 1) // len(buckets) - count * n // len(buckets) for n in range(len(buckets))]
        noted = {
            name: found_numbers(source, bucket, group, share)
            for (name, bucket), share in zip(buckets.items(), shares, strict=True)
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, noted)
    numbers = {bucket: tuple(noted[name]) for name, bucket in buckets.items()}
    return ChosenSamples(source, f"{source.name}-{slug}-{count}", source.version, numbers)


def find_groups(runs: Sequence[Run], output: Path) -> None:
    """Looks for all that these runs are measured on, before what they cost is said."""
    for run in runs:
        for group, count in asked_groups(run.scale).get(run.name, {}).items():
            samples_of_group(recipe_source(run.recipe), group, count, output)


def found_numbers(source: EditSource, bucket: Bucket, group: str, count: int) -> list[int]:
    """The first numbers of a bucket whose samples are of the group."""
    found = list[int]()
    for number in range(FIRST, FIRST + SEARCHED * max(1, count)):
        if len(found) == count:
            return found
        is_other = (source.task("test", number, bucket) in ZERO_SHOT) != (group == "zero-shot clips")
        if MODALITY[group] == "video" and is_other:
            continue  # without drawing it
        if GROUPS[group](about(source.edit("test", number, bucket), bucket, number)):
            found.append(number)
    raise InputError(f"{source.name} has no {count} test samples of {bucket} of the group {group!r}")
