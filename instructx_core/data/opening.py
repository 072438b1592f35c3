"""A mixture, or the path of a single set -> a source: sets are read, filtered and sorted into buckets.

Between mixture.py and records.py; data/sources.py names it. What is said of a set goes to the log: records, what its
filters keep, what cannot be used.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError
from .filters import filtered
from .mixture import Mixture, MixtureSet
from .readers.jsonl import NAME, read_records
from .readers.pairs import is_pairs, read_pairs
from .readers.published import SETS, read_published
from .record import EditRecord
from .record.rejects import RejectedRecord, check_share
from .records import Records, RecordSet

logger = logging.getLogger("instructx")

OWN: dict[str, Callable[[Path], Iterator[EditRecord | RejectedRecord]]] = {"records": read_records, "pairs": read_pairs}
FORMATS = (*OWN, *SETS)


def open_path(kind: str, path: str) -> Records:
    """kind: "mixture", one of FORMATS, or "" to tell from the path. Raises InputError as open_mixture."""
    return open_mixture(find_mixture(kind, path))


def find_mixture(kind: str, path: str) -> Mixture:
    """That of a file, or one of a single set. Raises InputError for a path that is neither."""
    if not path:
        raise InputError(f"{kind} needs a path; give {kind}:PATH")
    place = Path(path)
    if not place.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if kind == "mixture" or (not kind and place.suffix == ".toml"):
        from .mixture_file import read_mixture

        return read_mixture(place)
    name = place.parent.name if place.name == NAME else place.stem
    return Mixture(name or "records", (MixtureSet(place, name or "records", kind),))


def format_of(path: Path) -> str:
    """Raises InputError for what is no set that can be told."""
    if path.suffix == ".jsonl" or (path / NAME).is_file():
        return "records"
    if path.is_dir() and is_pairs(path):
        return "pairs"
    if path.suffix == ".csv" or (path.is_dir() and len(list(path.glob("*.csv"))) == 1):
        return "table"
    raise InputError(f"{path}: cannot tell what set this is; say its `format` in a mixture: {', '.join(FORMATS)}")


def open_mixture(mixture: Mixture, strict: bool = True) -> Records:
    """strict: more bad records than the mixture allows raise InputError; else they are told in `rejects`.

    Raises InputError as well for a set that cannot be read, has no records, or whose filters fit nothing.
    """
    sets = [read_set(each) for each in mixture.sets]
    source = Records(mixture, sets)
    for each in sets:
        rejects = source.rejects[each.name]
        if strict:
            check_share(each.name, rejects, len(each.records) + len(each.rejects), mixture.max_rejects)
        logger.info("%s: %d records, %d cannot be used", each.name, each.total, len(rejects))
    return source


def unfiltered(chosen: MixtureSet) -> Iterator[EditRecord | RejectedRecord]:
    """Everything in a set, before its filters. Raises InputError as open_mixture."""
    form, path = chosen.format or format_of(chosen.path), chosen.path
    if form not in FORMATS:
        raise InputError(f"set {chosen.name}: no format {form!r}; known: {', '.join(FORMATS)}")
    if form in SETS:
        return read_published(path, SETS[form].changed(chosen.columns))
    if chosen.columns:
        raise InputError(f"set {chosen.name}: columns are not for {form}, which has names of its own; leave them out")
    if form == "pairs":
        return read_pairs(path, next(iter(chosen.instructions), None))
    return OWN[form](path / NAME if form == "records" and path.is_dir() else path)


def with_instructions(record: EditRecord, instructions: tuple[str, ...]) -> EditRecord:
    """The record with these wordings of its instruction, where there are any."""
    if not instructions:
        return record
    first, *others = instructions
    return dataclasses.replace(record, instruction=first, meta={**record.meta, "wordings": others})


def mirrored(record: EditRecord) -> EditRecord:
    """The same pair seen in a mirror; of the same source, so never on the other side of the validation split."""
    return dataclasses.replace(record, id=f"{record.id} mirrored", meta={**record.meta, "mirrored": True})


def read_set(chosen: MixtureSet) -> RecordSet:
    """The records that its filters keep. Raises InputError as open_mixture."""
    records, rejects, seen = list[EditRecord](), list[RejectedRecord](), set[str]()
    for each in unfiltered(chosen):
        if isinstance(each, RejectedRecord):
            rejects.append(each)
        elif each.id in seen:
            rejects.append(RejectedRecord(each.id, "another record has this id; give each its own", str(chosen.path)))
        else:
            seen.add(each.id)
            records.append(with_instructions(each, chosen.instructions))
    if not records and not rejects:
        raise InputError(f"{chosen.path}: holds no record; check the path")
    kept = filtered(records, chosen)
    kept += [mirrored(record) for record in kept] if chosen.mirror else []
    if len(kept) < len(records):
        share = 100 * len(kept) / len(records)
        logger.info("%s: keeps %d of %d records (%.2f %%)", chosen.name, len(kept), len(records), share)
    return RecordSet(chosen.name, chosen.weight, kept, rejects, len(records) + len(rejects))
