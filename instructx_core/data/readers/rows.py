"""Rows of what sets ship as: CSV, JSON, JSON lines, parquet, tars, and lists of tables with a folder for each.

Before columns.py, which makes records of rows. No picture is read: bytes in a parquet or a tar become locators.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, some
from ..record import Locator
from ..record.locating import open_parquet, read_bytes, tar_members
from ..record.rejects import RejectedRecord
from .columns import ColumnMap, SetRow
from .jsonl import parse, text_lines

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".tar")
Rows = Iterator[SetRow | RejectedRecord]


def read_rows(path: Path, columns: ColumnMap) -> Rows:
    """Of a table, or of all tables of a folder. Raises InputError for a table without a column that the map needs."""
    if path.suffix == ".txt":
        for root, table in listed_tables(path):
            yield from _table_rows(table, columns, root)
        return
    tables = [path] if path.is_file() else sorted(each for each in path.glob(columns.files) if each.is_file())
    if not tables:
        raise InputError(f"{path}: holds no {columns.files}; give the table itself, or `files` in columns")
    for table in tables:
        yield from _table_rows(table, columns, table.parent)


def listed_tables(path: Path) -> Iterator[tuple[Path, Path]]:
    """(folder of the media, table) of each line ROOT,TABLE[,FLAG], as UniWorld's sets list them; relative to it."""
    for line in text_lines(path):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 2:
            raise InputError(f"{path}: {line!r:.60} is no line ROOT,TABLE; name a folder and a JSON file")
        yield path.parent / parts[0], path.parent / parts[1]


def _table_rows(table: Path, columns: ColumnMap, root: Path) -> Rows:
    name = table.stem
    if table.suffix == ".tar":
        yield from _tar_rows(table)
        return
    if table.suffix == ".parquet":
        yield from _parquet_rows(table, columns, root)
        return
    readers = {".csv": _csv_values, ".json": _json_values, ".jsonl": _jsonl_values}
    if table.suffix not in readers:
        raise InputError(f"{table}: no table that is read here; give one of {', '.join(SUFFIXES)}")
    for number, values in enumerate(readers[table.suffix](table, columns)):
        where = f"{table}:{number + 1}"
        if isinstance(values, InputError):
            yield RejectedRecord(f"{name}:{number}", str(values), where)
        elif not isinstance(values, dict):
            yield RejectedRecord(f"{name}:{number}", f"is {values!r:.60}; a row is an object", where)
        else:
            yield SetRow(values, f"{name}:{number}", str(root))


def _check_header(table: Path, header: Sequence[str], columns: ColumnMap) -> None:
    for name in columns.needed:
        if name not in header and name.split(".")[0] not in header:
            raise InputError(f"{table}: no column {name!r}; it has {some(header, 12)}. Name it in the set's `columns`")


def _csv_values(table: Path, columns: ColumnMap) -> Iterator[Any]:
    csv.field_size_limit(1 << 24)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = ";" if ";" in first and "," not in first else ","
            reader = csv.DictReader(file, restkey="", restval=None, delimiter=delimiter)
            _check_header(table, reader.fieldnames or (), columns)
            for values in reader:
                cells = values.pop("", None)
                wrong = cells is not None or None in values.values()
                yield InputError("has more or fewer cells than the header; mend its quotes") if wrong else values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8") from None


def _json_values(table: Path, columns: ColumnMap) -> Iterator[Any]:
    try:
        values = json.loads(table.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{table}: cannot be read as JSON ({error}); get it again") from None
    if isinstance(values, dict):  # one list under a name
        lists = [each for each in values.values() if isinstance(each, list)]
        values = lists[0] if len(lists) == 1 else values
    if not isinstance(values, list):
        raise InputError(f"{table}: is no list of rows; give a JSON array of objects")
    yield from values


def _jsonl_values(table: Path, columns: ColumnMap) -> Iterator[Any]:
    for line in text_lines(table):
        try:
            yield parse(line)
        except InputError as error:
            yield error


def _parquet_rows(table: Path, columns: ColumnMap, root: Path) -> Rows:
    import pyarrow as pa

    file = open_parquet(table)
    schema = file.schema_arrow
    _check_header(table, schema.names, columns)
    cells = [field.name for field in schema if _holds_bytes(field.type, pa)]
    plain = [name for name in schema.names if name not in cells]
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=plain or cells[:1]):
        for values in batch.to_pylist():
            media = {name: Locator(str(table), row=number, column=name) for name in cells}
            yield SetRow({**(values if plain else {}), **media}, f"{table.stem}:{number}", str(root))
            number += 1


def _holds_bytes(kind: Any, pa: Any) -> bool:
    """Bytes, or Hugging Face's pictures and clips: {"bytes", "path"}."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _tar_rows(table: Path) -> Rows:
    """Members that share a name up to its first dot are a row: KEY.json has its values, KEY.NAME.png the media NAME.

    Of tars that were joined, names come again: then another row begins.
    """
    key, found, seen = "", dict[str, Locator](), dict[str, int]()
    try:
        for name, offset, size in tar_members(table):
            stem, _, rest = name.rpartition("/")[2].partition(".")
            stem = f"{name.rpartition('/')[0]}/{stem}".lstrip("./")
            if found and (stem != key or rest in found):
                yield _tar_row(table, key, found, seen)
                found = {}
            key = stem
            found[rest] = Locator(str(table), name, offset=offset, size=size)
    except InputError as error:
        yield RejectedRecord(table.stem, str(error), str(table))
    if found:
        yield _tar_row(table, key, found, seen)


def _tar_row(table: Path, key: str, found: dict[str, Locator], seen: dict[str, int]) -> SetRow | RejectedRecord:
    count = seen[key] = seen.get(key, 0) + 1
    name = f"{table.stem}/{key}" + (f"#{count}" if count > 1 else "")
    values: dict[str, Any] = {}
    try:
        if "json" in found:
            values = parse(read_bytes(found["json"]).decode("utf-8", "surrogateescape"))
            if not isinstance(values, dict):
                raise InputError(f"its JSON is {values!r:.60}; it must be an object")
        if "txt" in found:
            values.setdefault("txt", read_bytes(found["txt"]).decode("utf-8", "replace").strip())
    except InputError as error:
        return RejectedRecord(name, str(error), str(table))
    media = {rest.rpartition(".")[0]: place for rest, place in found.items() if rest not in ("json", "txt")}
    return SetRow({**values, **media}, name, str(table.parent))
