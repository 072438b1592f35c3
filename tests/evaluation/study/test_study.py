"""A study is blind, planted preferences of simulated raters come out of it, and what is wrong with answers is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.cli import main
from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.study.answers import QUESTIONS, Answers, read_answers
from instructx_core.evaluation.study.plan import StudyPlan, make_plan, read_key, write_key
from instructx_core.evaluation.study.result import study_result

EDITORS = ("alpha-edit", "beta-edit", "gamma-edit")


def plan_of(count: int, editors: tuple[str, ...] = EDITORS, drawn: int | None = None, seed: int = 0) -> StudyPlan:
    items = [EditRecord(f"i{n}", "add", "image", "Do it", Locator("a.png")) for n in range(count)]
    files = {editor: {item.id: Path("x.png") for item in items} for editor in editors}
    return make_plan(items, files, drawn, seed, secret="of the test")


def simulated(plan: StudyPlan, rater: int, quality: dict[str, float], noise: float = 0.6) -> Answers:
    """A rater who is strict or kind, sees each editor's quality with noise, and says whole scores from 1 to 5."""
    rng = np.random.default_rng(rater)
    kindness = rng.normal(0.0, 0.3)
    ratings: dict[str, Any] = {}
    for item, codes in plan.codes.items():
        for code, editor in codes.items():
            seen = quality[editor] + kindness + rng.normal(0.0, noise, len(QUESTIONS))
            scores = np.clip(np.rint(seen), 1, 5).astype(int).tolist()
            ratings.setdefault(item, {})[code] = dict(zip(QUESTIONS, scores, strict=True))
    return Answers(f"rater {rater}", ratings, Path(f"{rater}.json"))


def test_planted_preferences_are_recovered() -> None:
    plan = plan_of(40)
    quality = {"alpha-edit": 2.5, "beta-edit": 3.9, "gamma-edit": 3.0}
    result = study_result(plan, [simulated(plan, rater, quality) for rater in range(12)])
    assert list(result.means) == ["beta-edit", "gamma-edit", "alpha-edit"], "best first"
    for editor, planted in quality.items():
        for key in QUESTIONS:
            found = result.means[editor][key]
            assert found is not None and found.low is not None and found.high is not None
            assert found.mean == pytest.approx(planted, abs=0.25) and found.low < planted < found.high
    for each in result.differences["average"]:
        assert each.p_holm is not None and each.p_holm < 0.01
        planted = quality[each.first] - quality[each.second]
        assert each.difference.mean == pytest.approx(planted, abs=0.15)
    assert result.given == result.asked == 12 * 40 * 3 * 3 and not result.incomplete
    assert "| beta-edit | 3." in result.text()


def test_equal_editors_are_not_told_apart_and_guessing_raters_do_not_agree() -> None:
    plan = plan_of(30, EDITORS[:2])
    same = dict.fromkeys(EDITORS, 3.0)
    guessed = study_result(plan, [simulated(plan, rater, same, noise=2.0) for rater in range(8)])
    (each,) = guessed.differences["average"]
    assert each.p is not None and each.p > 0.05
    agreement = guessed.agreement["quality"]
    assert agreement is not None and abs(agreement.mean) < 0.1
    told = study_result(plan, [simulated(plan, r, {"alpha-edit": 1.0, "beta-edit": 5.0}, 0.3) for r in range(8)])
    agreement = told.agreement["quality"]
    assert agreement is not None and agreement.low is not None and agreement.low > 0.7
    alike = study_result(plan, [simulated(plan, r, {"alpha-edit": 9.0, "beta-edit": 9.0}, 0.1) for r in range(3)])
    assert alike.agreement["quality"] is None and "not defined" in alike.text()


def test_alpha_is_that_of_krippendorffs_example() -> None:
    """The data of "Computing Krippendorff's Alpha-Reliability": four observers, twelve units, ordinal alpha 0.815."""
    from instructx_core.evaluation.statistics.agreement import alpha

    rows = ["1 2 3 3 2 1 4 1 2 * * *", "1 2 3 3 2 2 4 1 2 5 * 3", "* 3 3 3 2 3 4 2 2 5 1 *", "1 2 3 3 2 4 4 1 2 5 1 *"]
    score = np.array([[np.nan if each == "*" else float(each) for each in row.split()] for row in rows])
    found = alpha(score)
    assert found is not None and found.mean == pytest.approx(0.815, abs=0.001) and found.count == 11


def test_an_interval_over_raters_and_items_is_wider_than_one_over_ratings() -> None:
    from instructx_core.evaluation.statistics.agreement import crossed_interval
    from instructx_core.evaluation.statistics.intervals import mean_interval

    rng = np.random.default_rng(0)
    score = 3.0 + rng.normal(0, 0.5, (10, 1)) + rng.normal(0, 0.5, (1, 30)) + rng.normal(0, 0.2, (10, 30))
    crossed, plain = crossed_interval(score), mean_interval(score.ravel().tolist())
    assert crossed is not None and crossed.low is not None and crossed.mean == pytest.approx(plain.mean)
    assert crossed.high - crossed.low > 2.5 * (plain.high - plain.low)
    score[:, 0] = np.nan
    held = crossed_interval(score)
    assert held is not None and held.mean == pytest.approx(np.nanmean(score)) and held.count == 290


def test_codes_tell_nothing_and_the_draw_is_by_seed() -> None:
    plan = plan_of(50, drawn=20, seed=4)
    codes = [code for of in plan.codes.values() for code in of]
    assert len(set(codes)) == 60 and plan_of(50, drawn=20, seed=4) == plan
    assert plan_of(50, drawn=20, seed=5).codes != plan.codes
    first = Counter(of[min(of)] for of in plan_of(50).codes.values())
    assert max(first.values()) < 30, "in the order of codes no editor comes first as a rule"
    assert make_plan.__defaults__ is not None and make_plan.__defaults__[-1] is None, "by default the secret is drawn"


def answers_file(tmp_path: Path, plan: StudyPlan, **changed: Any) -> Path:
    codes = plan.codes["i0"]
    ratings = {"i0": {code: dict.fromkeys(QUESTIONS, 3) for code in codes}}
    values = {"kind": "instructx study answers", "study": plan.study, "rater": "a", "ratings": ratings, **changed}
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"kind": "x"}, "no answers of a study"),
        ({"study": "other"}, "use its own key"),
        ({"ratings": {"i9": {"a": {}}}}, "which the study has not"),
        ({"ratings": {"i0": {"unknown": {"quality": 3}}}}, "changed by hand"),
        ({"ratings": {"i0": [3]}}, "stands where ratings should"),
        ({"ratings": None}, "no ratings"),
        ({"rater": 3}, "no answers of a study"),
        ({"rater": " "}, "no answers of a study"),
    ],
)
def test_wrong_answers_are_named(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    plan = plan_of(3)
    with pytest.raises(InputError, match=why):
        read_answers(answers_file(tmp_path, plan, **changed), plan)


@pytest.mark.parametrize("score", [0, 6, 3.5, True, "4", None])
def test_a_score_off_the_scale_is_named(tmp_path: Path, score: Any) -> None:
    plan = plan_of(3)
    code = next(iter(plan.codes["i0"]))
    with pytest.raises(InputError, match="from 1 to 5"):
        read_answers(answers_file(tmp_path, plan, ratings={"i0": {code: {"quality": score}}}), plan)


@pytest.mark.parametrize("changed", [{"codes": {}}, {"codes": {"i0": 5}}, {"codes": None}, {"study": 3}])
def test_a_key_that_was_changed_is_named(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_key(tmp_path / "key.json", plan_of(3))
    assert read_key(tmp_path / "key.json").codes == plan_of(3).codes
    values = json.loads((tmp_path / "key.json").read_text())
    (tmp_path / "key.json").write_text(json.dumps({**values, **changed}))
    with pytest.raises(InputError, match="a key that was changed or cut"):
        read_key(tmp_path / "key.json")


def test_incomplete_and_double_answers(tmp_path: Path) -> None:
    plan = plan_of(3)
    part = read_answers(answers_file(tmp_path, plan), plan)
    result = study_result(plan, [part])
    assert result.incomplete == {"a": 18} and (result.given, result.asked) == (9, 27) and "a: 18" in result.text()
    with pytest.raises(InputError, match="both of 'a'"):
        study_result(plan, [part, part])
    with pytest.raises(InputError, match="no rating"):
        study_result(plan, [Answers("b", {}, tmp_path)])


def test_table_and_difference_of_the_average_count_the_same_ratings() -> None:
    """A lone answer moves the column of its question, neither the average nor its difference."""
    plan = plan_of(1, EDITORS[:2])
    code = {editor: code for code, editor in plan.codes["i0"].items()}
    first = {"alpha-edit": dict.fromkeys(QUESTIONS, 3), "beta-edit": dict.fromkeys(QUESTIONS, 3)}
    second = {"alpha-edit": {"instruction": 5}, "beta-edit": {**first["beta-edit"], "instruction": 4}}
    answers = [
        Answers(str(rater), {"i0": {code[editor]: scores for editor, scores in of.items()}}, Path(f"{rater}.json"))
        for rater, of in enumerate((first, second))
    ]
    result = study_result(plan, answers)
    means = {editor: (of["instruction"].mean, of["average"].mean) for editor, of in result.means.items()}
    assert means["alpha-edit"] == (4.0, 3.0) and means["beta-edit"] == pytest.approx((3.5, 19 / 6))
    sign = 1 if result.differences["average"][0].first == "alpha-edit" else -1
    assert sign * result.differences["average"][0].difference.mean == pytest.approx(3.0 - 19 / 6)
    assert sign * result.differences["instruction"][0].difference.mean == pytest.approx(0.5)
    assert "count a rater's rating of a result only when all its questions are answered" in result.text()


def test_items_without_all_outputs_are_left_out_and_counted() -> None:
    items = [EditRecord(f"i{n}", "add", "image", "Do it", Locator("a.png")) for n in range(3)]
    files = {"a": {"i0": Path("x"), "i1": Path("x")}, "b": {"i1": Path("x"), "i2": Path("x")}}
    plan = make_plan(items, files)
    assert list(plan.codes) == ["i1"] and plan.left_out == {"a": ["i2"], "b": ["i0"]}
    with pytest.raises(InputError, match="at least two"):
        make_plan(items, {"a": files["a"]})
    with pytest.raises(InputError, match="use 1 to 1"):
        make_plan(items, files, 2)
    with pytest.raises(InputError, match="seed is -1; use 0 or more"):
        make_plan(items, files, 1, seed=-1)
    with pytest.raises(InputError, match="no item has an output of every editor"):
        make_plan(items, {"a": {"i0": Path("x")}, "b": {"i1": Path("x")}})


def test_the_page_holds_no_editor_and_no_file_name(
    tmp_path: Path, benchmark_folder: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    items = benchmark_folder(4, EDITORS, clips=(1,))
    form = tmp_path / "form.html"
    made = ["eval", "study-form", str(items.parent), "--out", str(form)]
    assert main([*made, "--count", "3", "--seed", "7", "--editors", "delta-edit"]) == 2
    assert "no outputs of delta-edit" in capsys.readouterr().err
    assert main([*made, "--count", "3", "--seed", "7"]) == 0
    text, key = form.read_text(), json.loads((tmp_path / "form.key.json").read_text())
    assert not [name for name in (*EDITORS, "out0", "out1", "sources/", ".png", str(tmp_path)) if name in text]
    assert len(key["codes"]) == 3 and sorted(next(iter(key["codes"].values())).values()) == sorted(EDITORS)
    assert "send the page alone" in capsys.readouterr().out
    answers = {item: {code: dict.fromkeys(QUESTIONS, 4) for code in codes} for item, codes in key["codes"].items()}
    file = tmp_path / "a.json"
    file.write_text(
        json.dumps({"kind": "instructx study answers", "study": key["study"], "rater": "a", "ratings": answers})
    )
    numbers = tmp_path / "numbers.json"
    assert (
        main(["eval", "study-result", str(file), "--key", str(tmp_path / "form.key.json"), "--json", str(numbers)]) == 0
    )
    assert json.loads(numbers.read_text())["means"]["beta-edit"]["quality"]["mean"] == 4.0
    assert main(["eval", "study-result", str(file), "--key", str(file)]) == 2
    assert "no key of a study" in capsys.readouterr().err
