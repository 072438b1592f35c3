"""A mixture file: sets, weights and filters, and every wrong word in one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from instructx_core.data.opening import open_path
from instructx_core.data.readers.jsonl import write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from edit_sets import mixture, pairs


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Twenty records that say their size, so that no file is opened."""
    made = [
        EditRecord(
            f"r{n}",
            ("add", "style")[n % 2],
            "image",
            "x",
            Locator(f"{n}/s.png"),
            Locator(f"{n}/t.png"),
            meta={"size": [64, 64], "judge": n / 2} if n else {"size": [64, 64]},
        )
        for n in range(20)
    ]
    write_records(tmp_path / "r.jsonl", made)
    return tmp_path


def kept(folder: Path, *rules: str) -> list[str]:
    text = "\n".join(['[[set]]\npath = "r.jsonl"', *rules])
    return [each.id for each in open_path("mixture", str(mixture(folder / "m.toml", text))).sets[0].records]


def test_filters(scored: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept(scored, 'tasks = ["add"]') == [f"r{n}" for n in range(0, 20, 2)]
    assert kept(scored, 'but = ["add"]') == [f"r{n}" for n in range(1, 20, 2)]
    assert kept(scored, 'keep = { judge = ">= 9" }') == ["r18", "r19"]
    caplog.clear()
    with caplog.at_level("INFO", "instructx"):
        assert kept(scored, 'but = ["style"]', "best = { judge = 0.2 }") == ["r16", "r18"]
    assert "r: keeps 2 of 20 records (10.00 %)" in caplog.text


def test_weights_are_shares_of_draws(scored: Path) -> None:
    pairs(scored / "few", images=3)
    sets = '[[set]]\npath = "r.jsonl"\nweight = 1\n[[set]]\npath = "few"\nweight = 3\n'
    source = open_path("mixture", str(mixture(scored / "m.toml", sets)))
    (bucket,) = source.buckets("train")
    shares = source.shares("train", bucket)
    few = [source.set_of("train", number, bucket) == "few" for number in range(len(shares))]
    assert shares.sum() == pytest.approx(1) and shares[few].sum() == pytest.approx(0.75)
    assert (source.size("val", bucket) == 1 and sum(few) == 3) or sum(few) == 2


WRONG = {
    "weigth = 2": "unknown 'weigth'; known: path, name",
    'weight = "2"': "weight is '2'; it must be a number",
    "weight = 0": "weight is 0; give a number above 0",
    'tasks = "add"': "tasks is 'add'; it must be a list",
    "tasks = [3]": "tasks holds 3; it must be text",
    'tasks = ["hat"]': "no record has task 'hat'; its tasks are add, style",
    "keep = { judge = 4 }": "keep holds 4; it must be text",
    'keep = { judge = "good" }': "keep.judge is 'good'; write a limit",
    'keep = { judge = "> good" }': "> needs a number",
    'keep = { jugde = "> 1" }': "no record has 'jugde' in its meta; it has judge, size",
    'keep = { judge = "> 99" }': "filters keep none of 20 records",
    "best = { judge = 2 }": "best.judge is 2; give a share",
    'format = "parquet"': "no format 'parquet'; known: records, pairs, nhr_edit",
    'columns = { source = "x" }': "columns are not for records",
    'name = "a"\n[[set]]\npath = "r.jsonl"\nname = "a"': "two sets are called a",
    '[[set]]\nname = "b"': "without path",
    '[[set]]\npath = "nowhere"': "no such file or folder; paths are relative",
    "= 3": "is not TOML",
}


@pytest.mark.parametrize("rule", WRONG)
def test_what_is_wrong_in_a_mixture_is_said(rule: str, scored: Path) -> None:
    with pytest.raises(InputError) as caught:
        kept(scored, rule)
    assert WRONG[rule] in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"frames": [16]}, "give lengths of 4n + 1"),
        ({"frames": 17}, "frames is 17; it must be a list"),
        ({"image_pixels": 4}, "image_pixels is 4"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"frame": [17]}, "a mixture has an unknown 'frame'"),
    ],
)
def test_wrong_rules(rules: dict, words: str, scored: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_path("mixture", str(mixture(scored / "m.toml", '[[set]]\npath = "r.jsonl"\n', **rules)))
    assert words in str(caught.value)


def test_an_empty_mixture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no set; add \[\[set\]\]"):
        open_path("mixture", str(mixture(tmp_path / "m.toml", "")))
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no record"):
        open_path("records", str(tmp_path / "e.jsonl"))
    (tmp_path / "l.jsonl").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="1 of 1 records cannot be used"):
        open_path("records", str(tmp_path / "l.jsonl"))
