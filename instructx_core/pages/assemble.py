"""One HTML file out of a title, styles, scripts, data and media; written piece by piece, as it may be large.

Place: embed -> assemble -> study form, report. Scripts find the data in #data (JSON) and each picture or clip as base64
text in #media-NUMBER, which the browser does not decode before the page asks for it.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..media.outputs import atomic_path, not_written
from .embed import PageMedia

STATIC = Path(__file__).parent
LARGEST = 400 << 20  # bytes of media; browsers refuse or crawl with much larger pages

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:;
 media-src blob:">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<noscript>This page needs JavaScript. It loads nothing from anywhere.</noscript>
<main id="page"></main>
"""


def script_text(value: Any) -> str:
    """JSON that may stand inside a script element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def write_page(
    path: Path, title: str, data: Any, media: Iterable[PageMedia], styles: Iterable[Path], scripts: Iterable[Path]
) -> int:
    """Write the page; returns its bytes of media. Raises InputError where they are too many, or nothing is written."""
    style = "\n".join(file.read_text(encoding="utf-8") for file in (STATIC / "base.css", *styles))
    code = [file.read_text(encoding="utf-8") for file in (STATIC / "media.js", *scripts)]
    total = 0
    try:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(HEAD.format(title=html.escape(title), style=style))
            for number, each in enumerate(media):
                total += len(each.data)
                if total > LARGEST:
                    raise InputError(
                        f"{path}: pictures and clips take more than {LARGEST >> 20} MB; use fewer items or smaller ones"
                    )
                text = base64.b64encode(each.data).decode("ascii")
                file.write(f'<script type="text/plain" id="media-{number}" data-mime="{each.mime}">{text}</script>\n')
            file.write(f'<script type="application/json" id="data">{script_text(data)}</script>\n')
            file.writelines(f"<script>\n{part}\n</script>\n" for part in code)
            file.write("</body>\n</html>\n")
    except OSError as error:
        raise not_written(path, error) from None
    return total
