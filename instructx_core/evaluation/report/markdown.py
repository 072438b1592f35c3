"""The report as Markdown: warnings, tables, the worst items with the judge's words. For READMEs and terminals.

Place: contents -> markdown. The same tables as on the page.
"""

from __future__ import annotations

from .contents import Report
from .tables import ReportCell, ReportTable

WORST = 10
MARKS = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}


def markdown_cell(cell: ReportCell) -> str:
    text = MARKS[cell.rank].format(cell.text.replace("|", "\\|"))
    return f"{text} {cell.interval}".strip()


def markdown_table(table: ReportTable) -> str:
    lines = [f"### {table.title}", "", f"| {' | '.join(table.columns)} |", f"|{' --- |' * len(table.columns)}"]
    for row in table.rows:
        cells = [markdown_cell(cell) for cell in row.cells]
        if row.is_published:
            cells = [f"*{cell}*" if cell != "-" else cell for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)])


def markdown_report(report: Report, title: str) -> str:
    parts = [f"# {title}", *(f"> **Warning.** {text}" for text in report.warnings())]
    for judge in report.judges:
        parts.append(f"## Judged by {judge}")
        parts += [markdown_table(table) for table in report.tables(judge)]
        parts.append(_worst(report, judge))
    parts += map(markdown_table, report.other_tables())
    text = "Intervals are 95 % bootstrap ones over items. Best and second best of several editors are marked."
    if any(row.is_published for judge in report.judges for table in report.tables(judge) for row in table.rows):
        text += " Rows in italics are the paper's, by its judge, and stand outside of that."
    parts.append(text)
    return "\n\n".join(parts) + "\n"


def _worst(report: Report, judge: str) -> str:
    reasons = {(s.id, s.editor): s.reason for s in report.scores if s.judge == judge}
    scored = [
        (each["overall"], judged.editor, item) for judged in report.judged(judge) for item, each in judged.items.items()
    ]
    instructions = {item.id: item.instruction for item in report.items}
    lines = [f"### The {min(WORST, len(scored))} worst", ""]
    for value, editor, item in sorted(scored)[:WORST]:
        reason = " ".join(reasons.get((item, editor), "").split())
        lines.append(f'- {value:.2f} {editor}, {item}: "{instructions[item]}"{f" - {reason}" if reason else ""}')
    return "\n".join(lines)
