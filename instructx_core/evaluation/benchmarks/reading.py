"""Tables that benchmarks ship (JSON, JSON lines, CSV, YAML, parquet, arrow) -> rows, with what is wrong named.

Place: files of the authors -> reading -> the adapters beside it -> items.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.record import EditRecord, Locator
from ...errors import InputError
from ...media.base import IMAGE_SUFFIXES
from ..items import ItemIds
from ..lines import read_lines

CLIPS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
STILLS = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".webp")  # which may be an animation


@dataclass(frozen=True, slots=True)
class Download:
    """What an adapter reads from and for. place: a file or folder of the user's download. folder: of the evaluation,
    which the items' paths are relative to. partial: a part of the benchmark is wanted, so counts are not held to."""

    place: Path
    folder: Path
    partial: bool = False

    def locator(self, path: Path) -> Locator:
        """A file, relative to the evaluation's folder where that can be."""
        try:
            return Locator(os.path.relpath(path, self.folder))
        except ValueError:  # Windows: on another drive
            return Locator(str(path.absolute()))

    def find(self, *names: str) -> Path:
        """The place itself where it is a file, else the first of the names in it. Raises InputError for none."""
        if self.place.is_file():
            return self.place
        for name in names:
            if (self.place / name).is_file():
                return self.place / name
        if not self.place.is_dir():
            raise InputError(f"{self.place}: is no file and no folder; check the path")
        raise InputError(f"{self.place}: no {' or '.join(names)} in it; give the folder of the download")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row. where: for messages. Values are asked for by `text`."""

    where: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Raises InputError for a value that is missing, empty or no text."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{self.where}: {name} is {value!r:.80}; it must be a text")
        return value

    def clip(self, name: str, benchmark: str) -> str:
        """The text `name`, which is a file. Raises InputError for a picture, of which that benchmark has none."""
        value = self.text(name)
        if Path(value).suffix.lower() in STILLS:
            raise InputError(
                f"{self.where}: {name} {value} is a picture; {benchmark} is of clips, give one ({', '.join(CLIPS)}); "
                "benchmarks of pictures are gedit and imgedit"
            )
        return value


def table_rows(path: Path) -> Iterator[TableRow]:
    """Rows of a .jsonl, .json (a list, or an object by key), .csv or .yaml file. Raises InputError with the row."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        for number, values in read_lines(path, is_whole=True):
            yield TableRow(f"{path}: line {number}", values)
        return
    if suffix == ".csv":
        yield from _csv(path)
        return
    values = _yaml(path) if suffix in (".yaml", ".yml") else _json(path)
    rows = (
        [{"key": key, **row} if isinstance(row, dict) else row for key, row in values.items()]
        if isinstance(values, dict)
        else values
    )
    if not isinstance(rows, list):
        raise InputError(f"{path}: is no list of rows; check that it is the benchmark's file")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {number} is {row!r:.80}; it must be an object")
        yield TableRow(f"{path}: row {number}", row)


def _csv(path: Path) -> Iterator[TableRow]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                if None in row:
                    raise InputError(
                        f"{path}: row {number} has more cells than there are columns; write texts with commas in quotes"
                    )
                yield TableRow(f"{path}: row {number}", row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); check the file") from None


def _json(path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # the last one would count, without a word
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise InputError(f"{path}: {twice!r:.80} is there twice in one object; the file was joined of others")
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); check the file") from None


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); check the file") from None


def columns(place: Path) -> Iterator[TableRow]:
    """Rows of every .parquet or .arrow file below a folder, or of one file, in the order of their names."""
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError:
        raise InputError(f"{place}: reading parquet and arrow needs pyarrow; pip install instructx[eval]") from None
    files = [place] if place.is_file() else sorted([*place.rglob("*.parquet"), *place.rglob("*.arrow")])
    if not files:
        raise InputError(f"{place}: no .parquet or .arrow file in it; give the folder of the download")
    for path in files:
        try:
            if path.suffix == ".parquet":
                batches = parquet.ParquetFile(path).iter_batches(64)
            else:
                batches = iter(ipc.open_stream(pyarrow.memory_map(str(path))))
            number = 0
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    yield TableRow(f"{path}: row {number}", values)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read ({error}); download it again") from None


def check_ids(items: list[EditRecord]) -> list[EditRecord]:
    """The same items. Raises InputError for two of one id, as where files of two versions were joined."""
    ids = ItemIds()
    for item in items:
        ids.add(item.id)
    return items
