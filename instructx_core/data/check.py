"""What a mixture holds, counted: by set, task, modality, size and length, and what cannot be used, with the reasons.

Behind `instructx data check`; opening.py sorts, this file counts. With `decode` every sample is read as training would.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .record.rejects import RejectedRecord
from .records import SPLITS, Records


@dataclass(frozen=True, slots=True)
class Inventory:
    """sets: name -> counts. share: of a set in the draws of each modality. buckets: of train and val together."""

    name: str
    sets: dict[str, dict[str, int]]
    shares: dict[str, dict[str, float]]
    tasks: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    buckets: Counter[str] = field(default_factory=Counter)
    rejects: list[RejectedRecord] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sets": self.sets,
            "shares": self.shares,
            **{name: dict(getattr(self, name)) for name in ("tasks", "modalities", "splits", "buckets")},
            "rejects": [{"id": each.id, "reason": each.reason, "where": each.where} for each in self.rejects],
        }

    def lines(self) -> list[str]:
        """A table for a person."""
        found = [f"{'set':<20}{'read':>9}{'kept':>9}{'used':>9}{'rejects':>9}   share of draws"]
        for name, counts in self.sets.items():
            shares = ", ".join(f"{modality} {share:.1%}" for modality, share in self.shares[name].items())
            numbers = "".join(f"{counts[each]:>9}" for each in ("read", "kept", "used", "rejects"))
            found.append(f"{name:<20}{numbers}   {shares}")
        for title in ("modalities", "splits", "tasks", "buckets"):
            counted: Counter[str] = getattr(self, title)
            found += ["", f"{title:<60}{counted.total():>9}"]
            found += [f"  {name:<58}{count:>9}" for name, count in counted.most_common()]
        return found


def take_inventory(source: Records, decode: bool = False) -> Inventory:
    """decode: read every sample, which finds what heads of files do not tell."""
    rejects = {name: list(each) for name, each in source.rejects.items()}
    found = Inventory(source.name, {}, {each.name: {} for each in source.sets})
    used = Counter[str]()
    for split in SPLITS:
        for bucket in source.buckets(split):
            shares = source.shares(split, bucket)
            for number in range(source.size(split, bucket)):
                record, name = source.record(split, number, bucket), source.set_of(split, number, bucket)
                if decode and (bad := _decoded(source, split, number, bucket)) is not None:
                    rejects[name].append(bad)
                    continue
                used[name] += 1
                found.tasks[record.task] += 1
                found.modalities[bucket.label] += 1
                found.splits[split] += 1
                found.buckets[str(bucket)] += 1
                if split == "train":
                    mine = found.shares[name]
                    mine[bucket.modality] = mine.get(bucket.modality, 0.0) + float(shares[number])
    for each in source.sets:
        bad = rejects[each.name]
        counts = {"read": each.total, "kept": len(each.records), "used": used[each.name], "rejects": len(bad)}
        found.sets[each.name] = counts
        found.rejects.extend(bad)
    return found


def _decoded(source: Records, split: str, number: int, bucket: Any) -> RejectedRecord | None:
    try:
        source.edit(split, number, bucket)
    except InputError as error:
        record = source.record(split, number, bucket)
        return RejectedRecord(record.id, str(error), record.source.path)
    return None
