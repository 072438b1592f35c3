"""What a benchmark found, kept the same way in each: printed, as JSON, and as a table in a document.

A document holds a table between the marks `<!-- NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser, document: bool = False) -> None:
    """--json, and --write for a benchmark whose table stands in a document."""
    parser.add_argument("--json", type=Path, help="write the figures here")
    if document:
        parser.add_argument("--write", type=Path, help="document to put the table into")


def report(args: argparse.Namespace, found: Any, text: str, name: str = "") -> None:
    """Prints `text`; `found` goes to --json, the text to --write, at the marks of `name`."""
    sys.stdout.write(f"{text}\n")
    if args.json:
        write_json(args.json, found)
    if name and args.write:
        write_table(args.write, name, text)


def write_json(path: Path, found: Any) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_table(path: Path, name: str, text: str) -> None:
    """Replaces what lies between the marks. Raises SystemExit when the document doesn't hold each of them once."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = path.read_text(encoding="utf-8")
    if any(page.count(mark) != 1 for mark in (start, end)):
        raise SystemExit(f"error: {path} must hold the marks {start} and {end} once")
    body = f"{start}\n\n{text}\n\n{end}"
    path.write_text(re.sub(f"{start}.*{end}", lambda _: body, page, flags=re.DOTALL), encoding="utf-8")


def shortest(call: Callable[[], Any], rounds: int) -> float:
    """Processor seconds of the quickest call."""
    found = list[float]()
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)
