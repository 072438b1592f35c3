"""Tables of the benchmarks into the documents: between the marks `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path


def write(path: Path, name: str, text: str) -> None:
    """Replaces what lies between the marks. Raises SystemExit when the document doesn't hold each of them once."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = path.read_text(encoding="utf-8")
    if any(page.count(mark) != 1 for mark in (start, end)):
        raise SystemExit(f"error: {path} must hold the marks {start} and {end} once")
    body = f"{start}\n\n{text}\n\n{end}"
    path.write_text(re.sub(f"{start}.*{end}", lambda _: body, page, flags=re.DOTALL), encoding="utf-8")
