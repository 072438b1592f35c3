"""Records as a data source: sorted into buckets once, decoded when a sample is asked for.

Between mixture.py, which reads the sets, and the cache, which encodes. A record belongs to "val" or "train" by a digest
of its source, so that edits of one picture stay together. What cannot be used is a reject, never dropped silently.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .bucket import Bucket
from .decoding import read_edit
from .mixture import Mixture
from .probing import shape_of, size_of_reference
from .record import EditRecord, Locator
from .record.locating import locator_stamp
from .record.rejects import RejectedRecord, check_share
from .samples import EditSample
from .sizing import Sizing

SPLITS = ("train", "val")
READERS, LOOKED_AT = 16, 64  # threads that look at heads of files, records that each takes at once
GROUP = {"image": 500, "video": 50}  # records that the cache keeps in one file, at most
GROUP_PIXELS = 1 << 26  # of all of them: 64 pictures of 1024x1024, two clips of 480P with 81 frames


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The records of one set that a mixture keeps. total: read, with those that are filtered out or bad."""

    name: str
    weight: float
    records: Sequence[EditRecord]
    rejects: Sequence[RejectedRecord]
    total: int


@dataclass(slots=True)
class Table:
    """Records of one split and bucket, those of a set side by side. share: of each in the draws of its modality."""

    records: list[EditRecord] = field(default_factory=list)
    sets: list[int] = field(default_factory=list)
    share: list[float] = field(default_factory=list)


def bucket_of(record: EditRecord, sizing: Sizing) -> Bucket:
    """Raises InputError for media that do not fit together, or fit no bucket."""
    shape = shape_of(record)
    if record.target is None:
        raise InputError("it has no target, which training needs; add it, or leave the record out")
    if record.modality == "image":
        frames, pixels = 1, sizing.image_pixels
    else:
        frames, pixels = sizing.length(shape.frames, shape.fps), sizing.video_pixels
    size = sizing.size(*shape.size, pixels)
    if record.reference is None:
        return Bucket(record.modality, frames, *size)
    try:
        reference = sizing.size(*size_of_reference(record), sizing.reference_pixels)
    except InputError as error:
        raise InputError(f"its reference: {error}") from None
    return Bucket(record.modality, frames, *size, True, None if reference == size else reference)


def sorted_records(
    records: Sequence[EditRecord], sizing: Sizing
) -> Iterator[tuple[EditRecord, Bucket] | RejectedRecord]:
    """In their order, each with its bucket; heads of files are read in threads."""

    def look(record: EditRecord) -> tuple[EditRecord, Bucket] | RejectedRecord:
        try:
            return record, bucket_of(record, sizing)
        except InputError as error:
            return RejectedRecord(record.id, str(error), record.source.path)

    groups = [records[first : first + LOOKED_AT] for first in range(0, len(records), LOOKED_AT)]
    with ThreadPoolExecutor(READERS) as threads:
        for group in threads.map(lambda some: [look(record) for record in some], groups):
            yield from group


class Records:
    """Edit pairs of one set or several (data/source.py::StoredSource)."""

    def __init__(self, mixture: Mixture, sets: Sequence[RecordSet]) -> None:
        """The rules of `mixture`; its validation is a share of each set and bucket, at least one record of two."""
        self.name, self.sizing, self.sets, self.max_rejects = mixture.name, mixture.sizing, sets, mixture.max_rejects
        self._refused: dict[str, RejectedRecord] = {}
        self.rejects: dict[str, list[RejectedRecord]] = {each.name: list(each.rejects) for each in sets}
        self._tables: dict[tuple[str, Bucket], Table] = {}
        digest = hashlib.sha256(repr(self.sizing).encode())
        for index, each in enumerate(sets):
            self._add(index, each, mixture.validation)
            for record in each.records:
                digest.update(content(record).encode())
        self.version = digest.hexdigest()[:12]
        self._tables = {key: self._tables[key] for key in sorted(self._tables)}
        self._share_out()

    def _add(self, index: int, part: RecordSet, validation: float) -> None:
        found: dict[Bucket, list[EditRecord]] = {}
        for each in sorted_records(part.records, self.sizing):
            if isinstance(each, RejectedRecord):
                self.rejects[part.name].append(each)
            else:
                found.setdefault(each[1], []).append(each[0])
        for bucket, records in found.items():
            for split, chosen in zip(SPLITS, split_records(records, validation), strict=True):
                if chosen:
                    table = self._tables.setdefault((split, bucket), Table())
                    table.records += chosen
                    table.sets += [index] * len(chosen)

    def _share_out(self) -> None:
        """A set's weight is shared evenly by its records of a split and modality."""
        counts: dict[tuple[str, str, int], int] = {}
        for (split, bucket), table in self._tables.items():
            for index in table.sets:
                counts[split, bucket.modality, index] = counts.get((split, bucket.modality, index), 0) + 1
        totals: dict[tuple[str, str], float] = {}
        for split, modality, index in counts:
            totals[split, modality] = totals.get((split, modality), 0.0) + self.sets[index].weight
        for (split, bucket), table in self._tables.items():
            whole = totals[split, bucket.modality]
            table.share = [
                self.sets[index].weight / whole / counts[split, bucket.modality, index] for index in table.sets
            ]

    def _table(self, split: str, bucket: Bucket) -> Table:
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; {self.name} has {' and '.join(SPLITS)}")
        if (split, bucket) not in self._tables:
            raise InputError(f"{self.name} has no bucket {bucket} in {split!r}")
        return self._tables[split, bucket]

    # --- a source ---

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; {self.name} has {' and '.join(SPLITS)}")
        return tuple(bucket for each, bucket in self._tables if each == split)

    def size(self, split: str, bucket: Bucket) -> int:
        return len(self._table(split, bucket).records)

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        return self.record(split, number, bucket).task

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        """Raises InputError for a record whose media turn out not to be what their heads said."""
        return read_edit(self.record(split, number, bucket), bucket, self.sizing)

    def texts(self) -> Iterator[str]:
        """Instructions, for a tokenizer of the set's own."""
        for (split, _), table in self._tables.items():
            if split == "train":
                yield from (record.instruction for record in table.records)

    # --- what is stored ---

    def refuse(self, rejects: Sequence[RejectedRecord]) -> None:
        """Raises InputError where more than the mixture's max_rejects of all records have turned out to be bad."""
        self._refused |= {each.reason: each for each in rejects}
        total = sum(len(table.records) for table in self._tables.values())
        check_share(self.name, list(self._refused.values()), total, self.max_rejects)

    def record(self, split: str, number: int, bucket: Bucket) -> EditRecord:
        records = self._table(split, bucket).records
        if not 0 <= number < len(records):
            raise InputError(f"{self.name} has {len(records)} samples of {bucket} in {split!r}, and no number {number}")
        return records[number]

    def set_of(self, split: str, number: int, bucket: Bucket) -> str:
        """The name of the set that a sample is of."""
        return self.sets[self._table(split, bucket).sets[number]].name

    def shares(self, split: str, bucket: Bucket) -> np.ndarray:
        return np.array(self._table(split, bucket).share)

    def part(self, split: str, bucket: Bucket, numbers: Sequence[int]) -> RecordsPart:
        records = self._table(split, bucket).records
        return RecordsPart(self.sizing, {number: records[number] for number in numbers})

    def groups(self, split: str, bucket: Bucket, numbers: Sequence[int]) -> list[tuple[str, list[int]]]:
        table = self._table(split, bucket)
        most = max(1, min(GROUP[bucket.modality], GROUP_PIXELS // bucket.pixels))
        groups: list[list[int]] = []
        for number in numbers:
            last = groups[-1] if groups else []
            if last and len(last) < most and table.sets[last[-1]] == table.sets[number]:
                last.append(number)
            else:
                groups.append([number])
        with ThreadPoolExecutor(READERS) as threads:
            named = threads.map(lambda group: self._key([table.records[number] for number in group]), groups)
            return list(zip(named, groups, strict=True))

    def _key(self, records: Sequence[EditRecord]) -> str:
        """By what the records say, the bytes of their media and the rate; names of folders count for nothing."""
        digest = hashlib.sha256(str(self.sizing.fps).encode())
        for record in records:
            digest.update(content(record, locator_stamp).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RecordsPart:
    """Some records of one split and bucket, small enough to be sent to another process."""

    sizing: Sizing
    records: Mapping[int, EditRecord]

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        return read_edit(self.records[number], bucket, self.sizing)


def content(record: EditRecord, tell: Callable[[Locator], str] = str) -> str:
    """Everything of a record that a sample depends on, in one line."""
    media = [each and tell(each) for each in (record.source, record.target, record.reference)]
    words = [record.task, record.instruction, record.meta.get("caption", ""), *record.meta.get("wordings", ())]
    return json.dumps([record.id, *media, *words]) + "\n"


def split_records(records: Sequence[EditRecord], share: float) -> tuple[list[EditRecord], list[EditRecord]]:
    """(train, val), each in the order of `records`: val are those whose source has the smallest digests."""
    if not share or len(records) < 2:
        return list(records), []
    digests = [hashlib.sha256(source_name(record.source).encode()).digest() for record in records]
    last = sorted(digests)[max(1, math.floor(share * len(records) + 0.5)) - 1]
    is_val = [digest <= last for digest in digests]
    if all(is_val):  # edits of a single picture
        is_val = [number == 0 for number in range(len(records))]
    parts = ([record for record, out in zip(records, is_val, strict=True) if out is val] for val in (False, True))
    train, val = parts
    return train, val


def source_name(locator: Locator) -> str:
    """Of a source, wherever its set lies: folder, file, and what is in it."""
    return repr(replace(locator, path="/".join(Path(locator.path).parts[-2:]), offset=None, size=None))
