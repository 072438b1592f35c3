"""items.jsonl: records read back as written; missing media, two of one id and files inside of archives are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.items import ITEMS, check_items, count_tasks, media_path, read_items, write_items

ITEM = EditRecord(
    "a", "add", "image", "füge ein Boot hinzu", Locator("a.png"), reference=Locator("r.png"), meta={"language": "de"}
)


def test_written_and_read_back(tmp_path: Path) -> None:
    other = EditRecord("b", "remove", "video", "remove it", Locator("b.mp4"))
    write_items(tmp_path / ITEMS, [ITEM, other])
    assert read_items(tmp_path / ITEMS) == [ITEM, other]
    assert count_tasks([ITEM, other, ITEM]) == {"add": 2, "remove": 1}


def test_missing_media_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"1 files of the items are not there: a: reference .*r\.png"):
        check_items([ITEM], tmp_path)
    (tmp_path / "r.png").write_bytes(b"x")
    check_items([ITEM], tmp_path)
    assert media_path(ITEM, "mask", tmp_path) is None


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / ITEMS
    write_items(path, [ITEM, ITEM])
    with pytest.raises(InputError, match="line 2: item a is there already"):
        read_items(path)
    for other in ("A", "\uff41"):  # of another case, and the wide letter
        write_items(path, [ITEM, dataclasses.replace(ITEM, id=other)])
        with pytest.raises(InputError, match=f"line 2: item {other} is item a to a disk that knows no letter case"):
            read_items(path)
    path.write_text('{"id": "a"}\n')
    with pytest.raises(InputError, match="line 1: record a: no 'task'"):
        read_items(path)
    for name in ("id", "task", "instruction"):
        line = {"id": "a", "task": "add", "modality": "image", "instruction": "x", "source": "a.png", name: "\ud83d"}
        path.write_text(json.dumps(line) + "\n")
        with pytest.raises(InputError, match=f"line 1: record .*{name} holds half of a character"):
            read_items(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no item"):
        read_items(path)
    packed = EditRecord("c", "add", "image", "add", Locator("x.tar", member="c.png"))
    with pytest.raises(InputError, match=r"inside of x.tar:c.png; unpack it"):
        media_path(packed, "source", tmp_path)
