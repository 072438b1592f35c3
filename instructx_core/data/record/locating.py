"""A locator -> a file that media/ can open: itself, or for a while a copy of a tar's member or of a parquet's cell.

Between edit_record.py and decoding.py. A tar is never unpacked: a member is read at its offset. Of a parquet the row
group with the cell is read, and kept while neighbours are asked for.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from .edit_record import Locator

_STAMPED = 4096
KEPT_GROUPS = 4  # columns of row groups that stay in memory


@contextmanager
def located(locator: Locator) -> Iterator[Path]:
    """A path to the bytes, valid in the block. Errors of the user about it name the locator, not a copy."""
    if locator.member is None and locator.row is None:
        yield Path(locator.path)
        return
    data = read_bytes(locator)
    with tempfile.TemporaryDirectory(prefix="instructx-") as folder:
        path = Path(folder) / "media"  # what it is, its bytes say
        path.write_bytes(data)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), str(locator))) from None


def read_bytes(locator: Locator) -> bytes:
    """Raises InputError for a file, member or cell that is not there."""
    if locator.row is not None:
        return _cell(locator)
    try:
        if locator.member is None:
            return Path(locator.path).read_bytes()
        offset, size = _place(locator)
        with open(locator.path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise InputError(f"{locator}: cannot be read ({error.strerror}); check the path") from None
    if len(data) < size:
        raise InputError(f"{locator}: the tar is cut off within this member; get the tar again")
    return data


def _place(locator: Locator) -> tuple[int, int]:
    if locator.offset is not None and locator.size is not None:
        return locator.offset, locator.size
    assert locator.member is not None
    places = _members(locator.path, Path(locator.path).stat().st_mtime_ns).get(locator.member, [])
    if len(places) != 1:
        found = f"{len(places)} members of that name; give `offset` and `size`" if places else "no such member"
        raise InputError(f"{locator}: the tar has {found}")
    return places[0]


@lru_cache(maxsize=64)
def _members(path: str, changed: int) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for name, offset, size in tar_members(path):
        found.setdefault(name, []).append((offset, size))
    return found


def locator_stamp(locator: Locator) -> str:
    """Tells contents apart without reading all: size, first and last 4 KiB; of a parquet its end, which has the sizes
    of all columns, and the cell's place. Empty for what is not there."""
    try:
        with open(locator.path, "rb") as file:
            offset, size = (0, file.seek(0, 2)) if locator.member is None else _place(locator)
            digest = hashlib.sha256(f"{size} {locator.column} {locator.row}".encode())
            for start in (offset, max(offset, offset + size - _STAMPED)):
                file.seek(start)
                digest.update(file.read(min(_STAMPED, size)))
        return digest.hexdigest()[:16]
    except (OSError, InputError):
        return ""


def tar_members(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every file in a tar, of those that were joined end to end as well.

    Raises InputError for a file that is compressed, cut off or no tar.
    """
    try:
        # ignore_zeros: behind the blocks that end one tar, another may follow.
        with tarfile.open(path, "r:", ignore_zeros=True) as tar:
            untyped: Any = tar  # its list of members is in no stub
            for member in tar:
                if member.isfile():
                    yield member.name, member.offset_data, member.size
                untyped.members = []  # else it keeps all of them
    except tarfile.ReadError as error:
        raise InputError(
            f"{path}: cannot be read as a tar ({error}); get it again, or unpack it where it is compressed"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def open_parquet(path: str | Path) -> Any:
    """A pyarrow ParquetFile. Raises InputError without pyarrow, and for a file that is none."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError(f"{path}: parquet needs pyarrow; install it with: pip install 'instructx[train]'") from None
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as parquet ({error}); get it again") from None


def _cell(locator: Locator) -> bytes:
    row, column = locator.row, locator.column
    assert row is not None and column is not None
    file = open_parquet(locator.path) if not Path(locator.path).is_file() else _parquet(locator.path)
    if column not in file.schema_arrow.names:
        raise InputError(f"{locator}: no such column; it has {', '.join(file.schema_arrow.names)}")
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row < start + count:
            value = _group(locator.path, group, column)[row - start].as_py()
            data = value.get("bytes") if isinstance(value, dict) else value  # Hugging Face: {"bytes", "path"}
            if not isinstance(data, bytes) or not data:
                raise InputError(f"{locator}: holds no bytes but {value!r:.60}; name a column of pictures or clips")
            return data
        start += count
    raise InputError(f"{locator}: the file has {start} rows")


@lru_cache(maxsize=16)
def _parquet(path: str) -> Any:
    return open_parquet(path)


@lru_cache(maxsize=KEPT_GROUPS)
def _group(path: str, group: int, column: str) -> Any:
    return _parquet(path).read_row_group(group, columns=[column]).column(0)
