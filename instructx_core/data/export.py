"""A mixture's records -> records.jsonl, or webdataset shards with their media: what was filtered and checked, once.

Behind `instructx data export`. Ids get their set's name in front, meta what heads of files said, so that the result
opens without its files. A shard is a tar of whole records: KEY.source.png, KEY.target.png, KEY.json.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from ..media.outputs import atomic_path, make_folder
from .probing import shape_of, size_of_reference
from .readers.jsonl import write_records
from .record import MEDIA, EditRecord, Locator
from .record.locating import read_bytes
from .records import SPLITS, Records

SHARD_BYTES = 1 << 30


def exported(source: Records) -> Iterator[EditRecord]:
    """In the order of splits and buckets."""
    for split in SPLITS:
        for bucket in source.buckets(split):
            for number in range(source.size(split, bucket)):
                record = source.record(split, number, bucket)
                name = source.set_of(split, number, bucket)
                shape = shape_of(record)
                meta = {**record.meta, "size": list(shape.size)}
                if shape.fps:
                    meta |= {"frames": shape.frames, "fps": str(shape.fps)}
                if record.reference is not None:
                    meta["reference_size"] = list(size_of_reference(record))
                yield dataclasses.replace(record, id=f"{name}/{record.id}", meta=meta)


def export_records(path: Path, source: Records) -> int:
    """How many were written, to a records.jsonl; media stay where they are."""
    return write_records(path, exported(source))


def export_shards(folder: Path, source: Records, shard_bytes: int = SHARD_BYTES) -> int:
    """How many records were written, into tars of about `shard_bytes`, each whole or not there."""
    make_folder(folder)
    records, count = exported(source), 0
    record = next(records, None)
    for shard in range(10**6):
        if record is None:
            break
        with atomic_path(folder / f"{shard:06d}.tar") as temporary, tarfile.open(temporary, "w") as tar:
            while record is not None and (not tar.offset or tar.offset < shard_bytes):
                _add_record(tar, f"{count:09d}", record)
                record, count = next(records, None), count + 1
    return count


def _add_record(tar: tarfile.TarFile, key: str, record: EditRecord) -> None:
    places = {name: getattr(record, name) for name in MEDIA if getattr(record, name) is not None}
    for name, locator in places.items():
        data = read_bytes(locator)
        _add(tar, f"{key}.{name}{_suffix(locator, data)}", data)
    fields = {name: value for name, value in record.as_json().items() if name not in MEDIA}
    _add(tar, f"{key}.json", json.dumps(fields, ensure_ascii=False, allow_nan=False).encode())


def _suffix(locator: Locator, data: bytes) -> str:
    """Of the name; of a parquet's cell, by how its bytes begin."""
    if locator.row is None:
        return PurePath(locator.member or locator.path).suffix.lower()
    heads = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"\x1aE\xdf\xa3": ".mkv"}
    return next((suffix for head, suffix in heads.items() if data.startswith(head)), ".mp4")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
