"""The benchmarks' rules of averaging: the paper's columns come out of them; what has no score is counted."""

from __future__ import annotations

import math

import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.report.published import published
from instructx_core.evaluation.scores import Score
from instructx_core.evaluation.statistics.cells import cells, gather, overall
from instructx_core.evaluation.statistics.rules import GEDIT, IMGEDIT, VIE, rule_named

# Rows of Table 3 whose Avg. is not the mean of their dimensions: as published, and what the mean is.
ODD = {("Add", "Omni-Video"): 6.042, ("Swap / Change", "Kling"): 8.797, ("Remove", "InsV2V"): 2.1}


def said(item: str, status: str = "ok", editor: str = "ours", **dimensions: float) -> Score:
    return Score(item, editor, "judge", dimensions, status)


def test_the_avg_column_of_table_3_is_the_mean_of_its_dimensions() -> None:
    table = published("vie")
    names = {"Instruct follow": "instruction", **{n: n.lower() for n in ("Preservation", "Quality", "Similarity")}}
    assert len(table.rows) == 37
    for row in map(table.named, table.rows):
        found = VIE.of_item({ours: float(row[name]) for name, ours in names.items() if row[name] is not None})
        odd = ODD.get((row["Task"], row["Model"]))
        # The paper cuts after three digits.
        assert math.floor(1000 * found + 1e-6) / 1000 == pytest.approx(odd or row["Avg."]), row
        assert odd is None or odd != row["Avg."], row


def test_the_overall_column_of_table_2_is_the_mean_of_eight_types() -> None:
    table = published("imgedit")
    types = table.columns[2:-1]
    assert len(types) == 8
    for row in map(table.named, table.rows):
        scores = [said(kind, a=float(row[kind]), b=float(row[kind])) for kind in types] + [said("x", a=1.0)]
        groups = {kind: kind.lower() for kind in types} | {"x": "extract"}
        (judged,) = gather(scores, IMGEDIT)
        assert overall(judged, groups, IMGEDIT).values["overall"].mean == pytest.approx(
            float(row["Overall"]), abs=0.0051
        )


def test_q_o_is_taken_of_each_item() -> None:
    scores = [said("a", semantics=9.0, quality=4.0), said("b", semantics=0.0, quality=10.0)]
    (judged,) = gather(scores, GEDIT)
    (cell,) = cells(judged, {"a": "g", "b": "g"}, GEDIT)
    assert cell.values["overall"].mean == 3.0, "not sqrt(4.5 * 7) = 5.6, which the means would give"
    table = published("gedit")
    for row in map(table.named, table.rows):  # a mean of roots is at most the root of the means
        assert float(row["Q_O"]) <= math.sqrt(float(row["Q_SC"]) * float(row["Q_PQ"])) + 0.01


def test_groups_weigh_the_same_and_need_a_score_each() -> None:
    scores = [said(f"i{k}", instruction=2.0, preservation=2.0, quality=2.0) for k in range(9)]
    scores.append(said("j", instruction=8.0, preservation=8.0, quality=8.0))
    (judged,) = gather(scores, VIE)
    groups = {**{f"i{k}": "add" for k in range(9)}, "j": "remove"}
    assert overall(judged, groups, VIE).values["overall"].mean == 5.0
    none = overall(judged, {**groups, "k": "style"}, VIE)
    assert none.values == {} and none.absent == ("style",) and none.lost == {"not judged": 1}


def test_what_has_no_score_is_counted() -> None:
    scores = [
        said("a", instruction=7.0, preservation=7.0, quality=7.0),
        said("b", "missing"),
        said("c", "unparsed"),
        said("d", "refused"),
    ]
    (judged,) = gather(scores, VIE)
    (cell,) = cells(judged, dict.fromkeys("abcde", "add"), VIE)
    assert cell.count == 1 and cell.lost == {"unparsed": 1, "missing": 1, "refused": 1, "not judged": 1}
    assert cell.values["overall"].mean == 7.0 and cell.floor == 4.0, "a missing output, as the lowest score"


def test_samples_of_an_item_are_one_item() -> None:
    one = {"instruction": 6.0, "preservation": 6.0, "quality": 6.0}
    scores = [
        Score("a", "ours", "judge", one, sample=0),
        Score("a", "ours", "judge", dict.fromkeys(one, 9.0), sample=1),
        Score("a", "ours", "judge", {}, "unparsed", sample=2),
        Score("a", "theirs", "judge", one),
    ]
    ours, theirs = gather(scores, VIE)
    assert ours.items["a"]["overall"] == 7.5 and not ours.failed and theirs.items["a"]["quality"] == 6.0


@pytest.mark.parametrize(("dimensions", "why"), [({"quality": 7.0}, "instruction"), ({"instruction": 11.0}, "preserv")])
def test_a_score_that_breaks_the_rule_is_named(dimensions: dict[str, float], why: str) -> None:
    with pytest.raises(InputError, match=why):
        gather([said("a", **dimensions)], VIE)
    with pytest.raises(InputError, match="between 1 and 10"):
        gather([said("a", instruction=11.0, preservation=2.0, quality=3.0)], VIE)
    with pytest.raises(InputError, match="vie, gedit"):
        rule_named("vbench")
