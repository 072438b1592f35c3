"""Tables 1 to 3 out of fixture scores, with the right numbers in the right places; what is missing is in sight."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from instructx_core.cli import main
from instructx_core.data.record import EditRecord
from instructx_core.errors import InputError
from instructx_core.evaluation.items import read_items, write_items
from instructx_core.evaluation.report.contents import read_report
from instructx_core.evaluation.report.markdown import markdown_report, markdown_table
from instructx_core.evaluation.report.published import published
from instructx_core.evaluation.report.tables import (
    ReportTable,
    TableData,
    difference_table,
    gedit_table,
    imgedit_table,
    plain_table,
    vie_table,
)
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.evaluation.scores import Score, ScoreFile
from instructx_core.evaluation.statistics.cells import gather
from instructx_core.evaluation.statistics.rules import GEDIT, IMGEDIT, OPENVE, VIE, Averaging


def evaluated(scores: list[Score], groups: dict[str, str], averaging: Averaging, **options: object) -> TableData:
    return TableData(gather(scores, averaging), groups, averaging, **options)


def row_of(table: ReportTable, *names: str) -> dict[str, str]:
    """Text by column of the one row that begins with these."""
    (found,) = [row for row in table.rows if tuple(cell.text for cell in row.cells[: len(names)]) == names]
    return dict(zip(table.columns, (cell.text for cell in found.cells), strict=True))


def test_table_3() -> None:
    scores = [
        Score("a0", "mine", "j", {"instruction": 8, "preservation": 9, "quality": 7}),
        Score("a1", "mine", "j", {"instruction": 4, "preservation": 6, "quality": 5}),
        Score("a2", "mine", "j", {}, "missing", "crashed"),
        Score("r0", "mine", "j", {"instruction": 9, "preservation": 9, "quality": 8, "similarity": 10}),
        Score("a0", "other", "j", {"instruction": 10, "preservation": 5, "quality": 5}),
    ]
    groups = {"a0": "Add", "a1": "Add", "a2": "Add", "r0": "Ref Base Swap"}
    metrics = {("a0", "mine"): {"smoothness": 0.99}, ("a1", "mine"): {"smoothness": 0.97}}
    table = vie_table(evaluated(scores, groups, VIE, metrics=metrics))
    mine = row_of(table, "Add", "mine")
    names = ("Instruct follow", "Preservation", "Quality", "Similarity", "Avg.", "Smoothness", "Aesthetics", "n")
    assert [mine[name] for name in names] == ["6.000", "7.500", "6.000", "-", "6.500", "0.980", "-", "2"]
    assert mine["Without a score"] == "1 missing (Avg. 4.667 if a missing output had the lowest score)"
    assert (
        row_of(table, "Ref Base Swap", "mine")["Avg."] == "9.000"
        and row_of(table, "Ref Base Swap", "mine")["Similarity"] == "10.000"
    )
    assert row_of(table, "Add", "InstructX (paper)")["Avg."] == "8.349"
    other = row_of(table, "Add", "other")
    assert other["n"] == "1" and other["Without a score"] == "2 not judged"
    assert len(table.rows) == 37 + 4, "two editors in each of the two groups, and every row of the paper"
    text = markdown_table(table)
    assert "| Add | mine | - | - | <u>6.000</u> [4.000, 8.000] |" in text and "**10.000**" in text
    assert "*8.349*" in text and "**8.349**" not in text


def test_table_1() -> None:
    scores = [
        Score("a", "mine", "j", {"semantics": 9, "quality": 4}),
        Score("b", "mine", "j", {"semantics": 4, "quality": 4}),
        Score("c", "mine", "j", {"semantics": 1, "quality": 9}),
        Score("d", "mine", "j", {"semantics": 0, "quality": 10}),
    ]
    groups = {"a": "one", "b": "one", "c": "two", "d": "two"}
    row = row_of(gedit_table(evaluated(scores, groups, GEDIT)), "mine")
    # Q_O of the items: 6, 4, 3, 0; of the groups: 5, 1.5.
    assert [row[name] for name in ("Q_SC", "Q_PQ", "Q_O", "n")] == ["3.50", "6.75", "3.25", "4"]
    subsets = {"en, full": frozenset("abcd"), "en, intersection": frozenset("ac")}
    table = gedit_table(evaluated(scores, groups, GEDIT, subsets=subsets))
    assert (
        row_of(table, "mine (en, intersection)")["Q_O"] == "4.50" and row_of(table, "mine (en, full)")["Q_O"] == "3.25"
    )
    assert row_of(table, "GPT-4o")["Q_O"] == "7.83" and len(table.rows) == 10


def test_table_2() -> None:
    types = published("imgedit").columns[2:-1]
    groups = {f"{kind}{k}": kind.lower() for kind in types for k in range(2)} | {"x": "extract"}
    scores = [
        Score(item, "mine", "j", {"one": 1 + place % 5, "two": 1 + place % 5, "three": 1 + place % 5})
        for place, item in enumerate(groups)
    ]
    table = imgedit_table(evaluated(scores, groups, IMGEDIT))
    values = [1 + place % 5 for place in range(16)]
    means = [(a + b) / 2 for a, b in zip(values[::2], values[1::2], strict=True)]
    row = row_of(table, "mine")
    assert [row[kind] for kind in types] == [f"{mean:.2f}" for mean in means]
    assert row["Overall"] == f"{sum(means) / 8:.2f}" and row["n"] == "16", "extract is left out"
    part = imgedit_table(evaluated(scores, {i: g for i, g in groups.items() if g != "style"}, IMGEDIT))
    assert row_of(part, "mine")["Overall"] == "-" and row_of(part, "mine")["Style"] == "-"


def test_editors_that_share_no_scored_item_have_no_difference() -> None:
    """One of pictures, one of clips: each has its rows all the same."""
    scores = [Score(item, editor, "j", {"quality": 4}) for item, editor in (("a", "one"), ("b", "one"), ("c", "two"))]
    table = difference_table(evaluated(scores, dict.fromkeys("abc", "all"), Averaging("plain", scale=(0.0, 10.0))))
    assert table is not None
    assert [cell.text for cell in table.rows[0].cells] == ["one", "two", "-", "-", "-", "0", "3"]


def test_tables_say_what_they_weigh() -> None:
    """Of three items of one kind and one of another the better in "all" is the worse item by item."""
    groups = {"a": "Add", "b": "Add", "c": "Add", "x": "extract"}
    given = {"one": (3, 3, 3, 5), "two": (4, 4, 4, 3)}
    scores = [
        Score(item, editor, "j", {"quality": value})
        for editor, values in given.items()
        for item, value in zip(groups, values, strict=True)
    ]
    of = evaluated(scores, groups, Averaging("plain", scale=(0.0, 10.0)))
    kinds, between = plain_table(of, "By kind of edit"), difference_table(of)
    assert between is not None and row_of(between, "one", "two")["Difference of Avg."] == "-0.250"
    assert row_of(kinds, "all", "one")["Avg."] == "4.000" and row_of(kinds, "all", "two")["Avg."] == "3.500"
    assert kinds.notes == ("all: the mean of the kinds, each alike.",)
    assert "each alike; so it can differ from" in between.notes[0]
    assert "which weighs the kinds alike" in markdown_table(between)
    assert plain_table(evaluated(scores, groups, IMGEDIT), "x").notes[0].endswith("each alike, without extract.")
    of = evaluated(scores, groups, OPENVE)
    between = difference_table(of)
    assert between is not None and between.notes == ("Over the items that both have a score of, each alike.",)
    assert plain_table(of, "x").notes == ("all: the mean of the items, each alike.",)


@pytest.fixture
def vie_folder(benchmark_folder: Callable[..., Path]) -> Path:
    """Nine items of three tasks, two editors, scores; one reply that could not be read."""
    folder = benchmark_folder(9, ("mine", "other"), clips=(4,)).parent
    (folder / "benchmark.json").write_text(json.dumps({"name": "vie"}))
    groups = {"add": "Add", "remove": "Remove", "style": "Style / Tone Change"}
    items = [
        EditRecord(i.id, i.task, i.modality, i.instruction, i.source, meta={"group": groups[i.task]})
        for i in read_items(folder / "items.jsonl")
    ]
    write_items(folder / "items.jsonl", items)
    file = ScoreFile(folder)
    file.start()
    for place, item in enumerate(items):
        value = 2 + place % 8
        scored = {"instruction": value, "preservation": value, "quality": value}
        better = {name: number + 1 for name, number in scored.items()}
        file.add([Score(item.id, "mine", "gpt-4o", better, reason=f"Reason <i>{place}</i> | it is so")])
        unparsed = Score(item.id, "other", "gpt-4o", {}, "unparsed", "no JSON in the reply")
        file.add([unparsed if place == 3 else Score(item.id, "other", "gpt-4o", scored)])
    return folder


def test_the_report_warns_of_a_judge_that_was_not_checked_or_did_badly(vie_folder: Path) -> None:
    report = read_report(vie_folder)
    assert any("gpt-4o was not checked" in warning for warning in report.warnings())
    of = {"accuracy": 0.95, "low": 0.9, "high": 1.0, "correlation": 0.9, "pairs": 40, "tied": 2}
    dimensions = {"instruction": of, "quality": {**of, "accuracy": 0.55}}
    check = {"judge": "gpt-4o", "dimensions": dimensions, "swapped": of, "longer": None}
    (vie_folder / "judge-check-gpt.json").write_text(json.dumps(check))
    (warning,) = read_report(vie_folder).warnings()
    assert "55 % of planted pairs rightly in quality" in warning
    nothing = {**of, "accuracy": None, "low": None, "high": None, "correlation": None, "pairs": 0, "tied": 0}
    unchecked = {**check, "dimensions": {"instruction": of, "similarity": nothing}}
    (vie_folder / "judge-check-gpt.json").write_text(json.dumps(unchecked))
    (warning,) = read_report(vie_folder).warnings()
    assert "similarity was not checked" in warning and "--sources 4" in warning and "trust" not in warning
    asked = {"protocol": "vie", "model": "gpt-4o", "temperature": 0.0, "frames": 8}
    RunFolder(vie_folder).keep_judge("gpt-4o", asked)
    for settings, differ in (
        (asked, None),
        ({**asked, "frames": 4, "temperature": 0.6}, "another temperature, frames than"),
        ({**asked, "protocol": "gedit", "frames": 4}, None),
    ):
        (vie_folder / "judge-check-gpt.json").write_text(json.dumps({**check, "settings": settings}))
        text = " ".join(read_report(vie_folder).warnings())
        assert differ in text if differ else "than it judged with here" not in text
    wrong = [{}, {**check, "swapped": {}}, {**check, "dimensions": {"quality": {**of, "accuracy": "good"}}}]
    for values in (*wrong, {**check, "dimensions": {"quality": 3}}, {**check, "judge": 5}):
        (vie_folder / "judge-check-gpt.json").write_text(json.dumps(values))
        with pytest.raises(InputError, match="no result of judge-check"):
            read_report(vie_folder)


def test_a_score_off_the_scale_is_named_with_its_item(vie_folder: Path) -> None:
    off = {"instruction": 12, "preservation": 3, "quality": 3}
    ScoreFile(vie_folder).add([Score("item001", "mine", "gpt-4o", off)])
    with pytest.raises(InputError, match="score of item item001 of mine by gpt-4o: VIE-Bench: instruction is 12"):
        markdown_report(read_report(vie_folder), "x")


def test_markdown_of_a_folder(vie_folder: Path) -> None:
    text = markdown_report(read_report(vie_folder), "An evaluation")
    assert "### Table 3: VIE-Bench" in text and "| Remove | other |" in text and "1 unparsed" in text
    assert "| mine | other | 1.000" in text, "paired: better by one everywhere"
    worst = text.split("worst\n\n")[1].splitlines()[0]
    assert worst.startswith(("- 2.00 other, item000", "- 2.00 other, item008"))
    assert 'item008: "Make it <b>8</b>' in text and "Reason <i>8</i> | it is so" in text


def test_a_partial_benchmark_is_not_compared_with_the_paper(
    vie_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said on the terminal, first on the page, and below the table that holds the paper's rows; not of a whole one."""
    words = "cannot be compared with these"
    for partial, count in ((False, 0), (True, 2)):
        (vie_folder / "benchmark.json").write_text(json.dumps({"name": "vie", "partial": partial}))
        assert main(["eval", "report", str(vie_folder)]) == 0
        assert capsys.readouterr().out.count(words) == count // 2
        assert (vie_folder / "report.md").read_text().count(words) == count
        assert (vie_folder / "report.html").read_text().count(words) == count
    table = (vie_folder / "report.md").read_text().split("### ")[1]
    assert table.startswith("Table 3: VIE-Bench") and words in table and "*InstructX (paper)*" in table


def test_the_verb_writes_page_and_markdown(vie_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "report", str(vie_folder)]) == 0
    said = capsys.readouterr().out
    assert "warning: The judge gpt-4o was not checked" in said and "9 items of 2 editors" in said
    assert (vie_folder / "report.html").stat().st_size > 20_000 and "Table 3" in (vie_folder / "report.md").read_text()
    assert main(["eval", "report", str(vie_folder), "--out", str(vie_folder / "a.pdf")]) == 2
    ScoreFile(vie_folder).add([Score("nobody", "mine", "gpt-4o", {"quality": 3})])
    before = (vie_folder / "report.md").read_text()
    assert main(["eval", "report", str(vie_folder)]) == 0
    assert "Scores of 1 items are left out" in capsys.readouterr().out
    after = (vie_folder / "report.md").read_text()
    assert after.split("## Judged by")[1] == before.split("## Judged by")[1], "and they change no number"
