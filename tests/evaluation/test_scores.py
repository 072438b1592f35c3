"""scores.jsonl: every status is a line, one of each item, editor, judge and sample; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.scores import SCORES, STATUSES, Score, ScoreFile, read_scores

GOOD = Score("a", "ours", "gpt", {"instruction": 8, "quality": 7.5}, reason="fine", transcript="t1")
EMPTY = [Score("b", "ours", "gpt", {}, status, "why") for status in STATUSES if status != "ok"]


def test_every_status_is_kept(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path)
    file.start()
    scores = [GOOD, *(Score(f"{i}", "ours", "gpt", {}, each.status) for i, each in enumerate(EMPTY))]
    file.add(scores)
    assert read_scores(tmp_path / SCORES) == scores


def test_half_of_a_character_does_not_end_a_run(tmp_path: Path) -> None:
    """As a judge's reply may hold, that was cut within an emoji."""
    file = ScoreFile(tmp_path)
    file.start()
    file.add([Score("a", "ours", "gpt", {"q": 3}, reason="good \ud83d"), Score("\U0001f600", "ours", "gpt", {"q": 3})])
    assert [(score.id, score.reason) for score in read_scores(tmp_path / SCORES)] == [
        ("a", "good \ufffd"),
        ("\U0001f600", ""),
    ]


def test_one_line_counts_of_each_item_judge_and_sample(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path)
    file.start()
    others = [Score("a", "ours", "gpt", {"q": 1}, sample=1), Score("a", "ours", "qwen", {"q": 2})]
    newer = Score("a", "ours", "gpt", {"q": 3})
    file.add([GOOD, *others, newer])
    assert read_scores(tmp_path / SCORES) == [*others, newer]


def test_missing_outputs_are_asked_for_again(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path)
    file.start()
    file.add([GOOD, Score("b", "ours", "gpt", {}, "missing"), Score("c", "ours", "gpt", {}, "unparsed")])
    assert [key[0] for key in ScoreFile(tmp_path).start()] == ["a", "c"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "good"}, "use one of ok, unparsed, missing, refused"),
        ({"dimensions": {}}, "status ok with dimensions"),
        ({"status": "missing"}, "status missing with dimensions"),
        ({"dimensions": {"q": float("nan")}}, "q is nan"),
        ({"dimensions": {"q": True}}, "q is True"),
        ({"dimensions": {"q": "8"}}, "q is '8'"),
        ({"dimensions": [8]}, "status ok with dimensions"),
        ({"id": " "}, "id is ' '"),
        ({"sample": -1}, "sample is -1"),
        ({"reason": ["x"]}, "reason is .*; it must be a text"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Score(**{**GOOD.as_json(), **fields})


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / SCORES
    path.write_text('{"id": "a", "editor": "e", "judge": "j", "status": "ok", "dimensions": {"q": NaN}}\n')
    with pytest.raises(InputError, match=r"scores.jsonl: line 1: .* q is nan"):
        read_scores(path)
