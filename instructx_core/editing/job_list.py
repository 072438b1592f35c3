"""A list of jobs on disk -> jobs that can be run, and lines that cannot, each with its reason and its output's name.

First step of many edits, before jobs.py. A list is JSON lines, or one JSON array of the same objects, in UTF-8, -16 or
-32. An object is an edit in plain values (options.py), paths relative to the list's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import read_request
from .places import Folders, Places
from .request import EditRequest

BOM = b"\xef\xbb\xbf"
MAX_DIGITS = 19  # of a whole number: the largest seed's


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the list that can be run. after: lines that write what this one reads."""

    line: int
    request: EditRequest
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BadLine:
    """One line of the list that cannot be run, and why. output: as far as the line tells it."""

    line: int
    problem: str
    output: str = ""


def read_jobs(path: str | Path, defaults: Mapping[str, object]) -> list[Job | BadLine]:
    """The jobs of a list. defaults: options of every line that does not set them itself.

    line: from 1; of a JSON array the number of the object. A line that cannot be run becomes a bad one. Raises
    InputError when the file cannot be read or is empty.
    """
    path = Path(path)
    jobs: list[Job | BadLine] = []
    folders = Folders()
    written, read = Places(folders), Places(folders)
    for line, raw in _entries(path):
        text = raw.decode("utf-8", "replace")
        try:
            request = _request(line, raw, path.parent, defaults)
            jobs.append(Job(line, request, _lines_before(line, request, written, read, folders)))
        except InputError as error:
            jobs.append(BadLine(line, str(error), _output_named(text, path.parent)))
    if not jobs:
        raise InputError(f"{path}: holds no job; write one JSON object a line")
    return jobs


def _entries(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, UTF-8) of every line that is not blank, or of every object of an array.

    Lines end with a line feed only: U+2028, U+0085 and the like may stand in an instruction."""
    try:
        data = path.read_bytes()
        encoding = json.detect_encoding(data)
        if not encoding.startswith("utf-8"):
            data = data.decode(encoding).encode()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a list of jobs ({error}); give one JSON object a line") from None
    if data.removeprefix(BOM).lstrip()[:1] == b"[":
        yield from enumerate(_array(path, data), start=1)
        return
    for number, raw in enumerate(data.split(b"\n"), start=1):
        text = raw.decode("utf-8", "surrogateescape").lstrip("\ufeff").strip()  # a BOM also where lists were joined
        if text:
            yield number, text.encode("utf-8", "surrogateescape")


def _array(path: Path, data: bytes) -> Iterator[bytes]:
    """The text of each element of a JSON array."""
    decoder, space = json.JSONDecoder(parse_int=str), re.compile(r"\s*")
    try:
        text = data.decode("utf-8-sig").strip()
        at = space.match(text, 1).end()  # type: ignore[union-attr]
        while text[at] != "]":
            _, end = decoder.raw_decode(text, at)
            yield text[at:end].encode("utf-8", "surrogatepass")
            at = space.match(text, end).end()  # type: ignore[union-attr]
            if text[at] == ",":
                at = space.match(text, at + 1).end()  # type: ignore[union-attr]
        if at != len(text) - 1:
            raise InputError(f"more follows after its ] at character {at + 1}")
    except (ValueError, IndexError, RecursionError) as error:
        raise InputError(
            f"{path}: begins with [ and is no JSON array ({error}); mend it, or write one object a line"
        ) from None


def _request(line: int, raw: bytes, folder: Path, defaults: Mapping[str, object]) -> EditRequest:
    try:
        values = _parse(raw)
    except InputError as error:
        raise InputError(f"line {line} {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"line {line} is a {type(values).__name__}; write an object with input, instruction, output")
    try:
        return read_request({**defaults, **values}, folder)
    except InputError as error:
        raise InputError(f"line {line}: {error}") from None


def _parse(raw: bytes) -> Any:
    """One JSON value, strictly: no NaN, no name twice, no endless number. Raises InputError, a sentence without its
    subject."""
    try:
        return json.loads(raw.decode(), parse_constant=_constant, parse_int=_whole, object_pairs_hook=_each_once)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02X} at {error.start + 1}"
        raise InputError(f"is not UTF-8 ({byte}); save the list as UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON ({error.msg} at character {error.pos + 1}); write one object a line") from None
    except RecursionError:
        raise InputError("is nested too deep; write an object with input, instruction, output") from None


def _constant(name: str) -> float:
    raise InputError(f"holds {name}, which is no JSON and no value of an option; write a number")


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise InputError(f"holds a whole number of {len(digits.lstrip('-'))} digits; no option takes such a number")
    return int(digits)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"gives {twice} twice; leave one of them out")
    return dict(pairs)


def _lines_before(line: int, request: EditRequest, written: Places, read: Places, folders: Folders) -> tuple[int, ...]:
    """Lines that write what this one reads. Raises InputError where two write one file, or where this one writes over
    what it or an earlier one reads: the next run of the list would edit the edit."""
    mask = request.keep_outside.mask if request.keep_outside is not None else None
    inputs = [request.source, *request.references, *([mask] if mask is not None else [])]
    first = written.find(request.output)
    if first is not None:
        raise InputError(
            f"line {line}: line {first} writes the same file {request.output}; give each job an output of its own"
        )
    input_places = Places(folders)
    for path in inputs:
        input_places.add(path, line)
    reader = input_places.find(request.output) or read.find(request.output)
    if reader is not None:
        raise InputError(
            f"line {line}: {request.output} is what line {reader} reads; when the list is run again that would be "
            "edited again: give the output another name"
        )
    after = {found for path in inputs if (found := written.find(path)) is not None}
    written.add(request.output, line)
    for path in inputs:
        read.add(path, line)
    return tuple(sorted(after))


def _output_named(text: str, folder: Path) -> str:
    """The output that a bad line names, for the report; "" where it names none."""
    match = re.search(r'"output"\s*:\s*("(?:[^"\\]|\\.)*")', text)
    try:
        return str(folder / json.loads(match[1], strict=False)) if match else ""
    except ValueError:
        return ""
