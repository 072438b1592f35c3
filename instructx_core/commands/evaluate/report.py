"""`instructx eval report`: tables in the paper's layout, plots and every output, as one HTML page and as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation: items.jsonl, a folder of outputs an editor, scores")
    parser.add_argument("--out", type=Path, help="the page (default: FOLDER/report.html); report.md goes beside it")
    parser.add_argument("--editors", nargs="+", default=[], metavar="NAME", help="whose outputs (default: all)")
    parser.add_argument("--side", type=int, default=320, help="longest side of pictures in pixels (default: 320)")
    parser.add_argument("--title", help="default: the benchmark's name")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.report.contents import read_report
    from ...evaluation.report.markdown import markdown_report
    from ...evaluation.report.page import write_report_page
    from ...media.outputs import atomic_path
    from ...pages.embed import PREVIEW, Rendition

    page = args.out or args.folder / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{page}: the report is a page; use .html")
    report = read_report(args.folder, args.editors)
    title = args.title or f"Evaluation: {report.benchmark or args.folder.resolve().name}"
    text = markdown_report(report, title)
    size = write_report_page(page, report, title, Rendition(args.side, PREVIEW.quality, PREVIEW.crf))
    with atomic_path(page.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for warning in report.warnings():
        print(f"warning: {warning}")
    print(f"{page}: {len(report.items)} items of {len(report.outputs)} editors, {size / 1e6:.1f} MB of media")
    return 0
