"""A record comes back from JSON as it was, and what is wrong with one is said with its id and field."""

import json

import pytest

from instructx_core.data.record import EditRecord, Locator, from_json
from instructx_core.errors import InputError

GOOD = {"id": "a", "task": "add", "modality": "image", "instruction": "Add a hat.", "source": "a.png"}


def test_a_record_survives_json():
    record = EditRecord(
        "a/1",
        "swap",
        "video",
        "Swap \u2028 it.",
        Locator("set.tar", member="a.mp4"),
        target=Locator("p.parquet", row=3, column="target"),
        reference=Locator("r.png"),
        meta={"score": 4.5, "boxes": [[0, 1]]},
    )
    assert from_json(json.loads(json.dumps(record.as_json()))) == record
    assert from_json(GOOD).as_json() == GOOD


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 3}, "id is 3"),
        ({"id": " "}, "without an id"),
        ({"modality": "film"}, "'film'; use one of image, video"),
        ({"instruction": " \n"}, "record a: the instruction is empty"),
        ({"source": None}, "source"),
        ({"source": ""}, "without a path"),
        ({"source": {"path": "x.tar", "name": "a"}}, "unknown field 'name'"),
        ({"target": {"path": "x.parquet", "row": 1}}, "both `row` and `column`"),
        ({"target": {"path": "x.parquet", "row": -1, "column": "c"}}, "rows are whole numbers"),
        ({"target": {"path": "x.parquet", "row": True, "column": "c"}}, "rows are whole numbers"),
        ({"mask": 7}, "mask is 7"),
        ({"meta": []}, "meta is []"),
        ({"prompt": "x"}, "unknown field 'prompt'"),
    ],
)
def test_what_is_wrong_is_said(change, words):
    with pytest.raises(InputError) as caught:
        from_json(GOOD | change)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name):
    with pytest.raises(InputError, match=name):
        from_json({key: value for key, value in GOOD.items() if key != name})


def test_a_record_is_an_object():
    with pytest.raises(InputError, match="JSON object, not list"):
        from_json([])
