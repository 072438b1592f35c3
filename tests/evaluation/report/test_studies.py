"""A user study's result stands on the report, beside a judge's or alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.evaluation.item_outputs import made_files
from instructx_core.evaluation.items import read_items
from instructx_core.evaluation.report.contents import read_report
from instructx_core.evaluation.study.plan import make_plan, write_key

EDITORS = ("alpha-edit", "beta-edit")
PLANTED = {"alpha-edit": 2, "beta-edit": 5}


def test_what_raters_said_is_on_the_report(benchmark_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = benchmark_folder(6, EDITORS).parent
    plan = make_plan(read_items(folder / "items.jsonl"), made_files(folder))
    write_key(folder / "form.key.json", plan)
    files = []
    for rater in range(3):
        ratings = {
            item: {
                code: {"instruction": PLANTED[who], "preservation": 3, "quality": 4 - rater // 2}
                for code, who in of.items()
            }
            for item, of in plan.codes.items()
        }
        files.append(folder / f"rater{rater}.json")
        values = {"kind": "instructx study answers", "study": plan.study, "rater": f"r{rater}", "ratings": ratings}
        files[-1].write_text(json.dumps(values))
    result = folder / "study-result.json"
    key = ["--key", str(folder / "form.key.json")]
    assert main(["eval", "study-result", *map(str, files), *key, "--json", str(result)]) == 0
    (table,) = read_report(folder).other_tables()
    texts = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in table.rows}
    assert texts["beta-edit"] == ["5.00", "3.00", "3.67", "3.89"] and texts["alpha-edit"][0] == "2.00"
    assert [cell.rank for row in table.rows[:2] for cell in row.cells[1:2]] == [1, 2], "best first, and marked"
    assert texts["Agreement (alpha)"][0] == "1.00" and table.columns[-1] == "Average"
    assert "3 raters, 6 items, 108 of 108 ratings" in table.notes[0] and "beta-edit" in table.notes[2]
    assert "only when all its questions are answered" in table.notes[1]
    assert main(["eval", "report", str(folder)]) == 0, "without a judge as well"
    text = (folder / "report.md").read_text()
    assert f"### User study {plan.study}" in text and "| **5.00**" in text
    assert plan.study in (folder / "report.html").read_text()
    values = json.loads(result.read_text())
    for wrong in ({"means": 3}, {**values, "means": {"a": 1}}, {**values, "agreement": {"quality": {"mean": "high"}}}):
        result.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"study-result\.json: is no result of study-result"):
            read_report(folder)
