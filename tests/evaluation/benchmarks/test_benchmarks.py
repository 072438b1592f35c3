"""What the authors ship, made by hand in their own field names -> items; what is wrong is named; outputs go back."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.evaluation.benchmarks.export import export_outputs
from instructx_core.evaluation.benchmarks.gedit import GROUPS
from instructx_core.evaluation.benchmarks.imgedit import COUNTS
from instructx_core.evaluation.benchmarks.known import BENCHMARKS
from instructx_core.evaluation.benchmarks.openve import OPENVE_TYPES
from instructx_core.evaluation.benchmarks.reading import Download
from instructx_core.evaluation.benchmarks.tasks import VIE_COUNTS, VIE_ROWS
from instructx_core.evaluation.editors.folder import take_folder
from instructx_core.evaluation.items import missing_media
from instructx_core.evaluation.outputs import Output, OutputFile
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.media.files import read_media, write_image

Rows = list[dict[str, Any]]


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (level, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_vie(folder: Path, rows: Rows) -> Path:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def vie_rows() -> Rows:
    rows: Rows = []
    for task, count in VIE_COUNTS.items():
        reference = {"reference": "r.png"} if task.startswith("reference") else {}
        rows += [
            {"task": task, "instruction": f"{task} {n}", "source": f"{task}{n}.mp4", **reference} for n in range(count)
        ]
    return rows


def write_gedit(folder: Path, rows: Rows) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (folder / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def gedit_rows() -> Rows:
    return [
        {
            "task_type": group,
            "key": f"key{number}",
            "instruction": f"{language} {group}",
            "instruction_language": language,
            "input_image": {"bytes": png(number), "path": None},
            "input_image_raw": {"bytes": png(0), "path": None},
            "Intersection_exist": number % 2 == 0,
        }
        for number, group in enumerate(GROUPS)
        for language in ("en", "cn")
    ]


def write_imgedit(folder: Path, rows: Rows) -> Path:
    values = {row["key"]: {name: value for name, value in row.items() if name != "key"} for row in rows}
    (folder / "basic_edit.json").write_text(json.dumps(values))
    return folder


def imgedit_rows() -> Rows:
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    return [{"key": str(n), "id": f"{k}/{n}.jpg", "prompt": f"{k} it", "edit_type": k} for n, k in enumerate(kinds)]


def write_openve(folder: Path, rows: Rows) -> Path:
    with (folder / "benchmark_videos.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["edited_type", "prompt", "original_video"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def openve_rows() -> Rows:
    kinds = [OPENVE_TYPES[n % 8] for n in range(431)]
    return [
        {"edited_type": k, "prompt": f'make it, "{n}"', "original_video": f"videos/{n}_{k}.mp4"}
        for n, k in enumerate(kinds)
    ]


def write_refvie(folder: Path, rows: Rows) -> Path:
    import yaml

    (folder / "refvie_bench.yaml").write_text(yaml.safe_dump(rows))
    return folder


def refvie_rows() -> Rows:
    return [
        {"src_video": f"videos/{n}.mp4", "ref_img": f"refs/{n}.png", "instruction": f"put it in {n}", "edit_type": kind}
        for n, kind in enumerate(["subject", "background", "subject"])
    ]


SHIPPED: dict[str, tuple[Callable[[], Rows], Callable[[Path, Rows], Path], int]] = {
    "vie": (vie_rows, write_vie, 140),
    "gedit": (gedit_rows, write_gedit, 22),
    "imgedit": (imgedit_rows, write_imgedit, 737),
    "openve": (openve_rows, write_openve, 431),
    "refvie": (refvie_rows, write_refvie, 3),
}


def read(name: str, tmp_path: Path, change: Callable[[Rows], Any] = lambda rows: None, partial: bool = False) -> list:
    rows, write, _ = SHIPPED[name]
    (tmp_path / "download").mkdir()
    changed = rows()
    change(changed)
    return BENCHMARKS[name].read(Download(write(tmp_path / "download", changed), tmp_path / "run", partial))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_read(name: str, tmp_path: Path) -> None:
    items = read(name, tmp_path)
    assert len(items) == SHIPPED[name][2] and len({item.id for item in items}) == len(items)
    assert all(item.target is None and item.meta["group"] for item in items)
    missing = missing_media(items, tmp_path / "run")
    if name == "gedit":  # its pictures were unpacked
        assert not missing and read_media(tmp_path / "run" / items[2].source.path).frames_FHWC[0, 0, 0, 0] == 1
        assert items[1].meta == {"group": GROUPS[0], "language": "cn", "intersection": True, "key": "key0"}
    else:
        assert len(missing) == len(items) + sum(item.reference is not None for item in items)
        assert str(tmp_path / "download") in str((tmp_path / "run" / items[0].source.path).resolve())
    layouts = [BENCHMARKS[name].layout(item) for item in items]
    assert len(set(layouts)) == len(layouts)


WRONG = [
    ("vie", lambda rows: rows[0].update(task="paint"), "line 1: task 'paint' is unknown; use one of swap, color"),
    ("vie", lambda rows: rows[0].update(instruction=" "), "line 1: instruction is ' '"),
    ("vie", lambda rows: rows[-1].pop("reference"), "a reference_add without a reference picture"),
    ("vie", lambda rows: rows.pop(), "VIE-Bench: reference_add: 9 instead of 10; complete the download"),
    ("vie", lambda rows: rows[1].update(task="add"), "swap: 24 instead of 25; add: 31 instead of 30"),
    ("vie", lambda rows: [row.update(id="same") for row in rows], "item same is there already"),
    ("vie", lambda rows: [row.update(id="Aa"[n % 2]) for n, row in enumerate(rows)], "item a is item A to a disk"),
    ("vie", lambda rows: rows[0].update(task=["swap"]), "line 1: task ['swap'] is unknown"),
    ("vie", lambda rows: rows[0].update(id=1.5), "line 1: id is 1.5; it must be a text or a whole number"),
    ("vie", lambda rows: rows[1].update(source="a.PNG"), "a.PNG is a picture; VIE-Bench is of clips"),
    ("vie", lambda rows: rows[1].update(source="a.png"), "manifest.jsonl: line 2: source"),
    ("gedit", lambda rows: rows[0].update(task_type="paint"), "row 1: task 'paint' is unknown"),
    (
        "gedit",
        lambda rows: rows[1].update(instruction_language="zh"),
        "instruction_language is 'zh'; use one of en, cn",
    ),
    ("gedit", lambda rows: rows[0].update(key="../../x"), "must be the name of a file"),
    ("gedit", lambda rows: rows[0].update(input_image={"bytes": b"", "path": "x"}), "input_image holds no picture"),
    ("gedit", lambda rows: rows.__delitem__(slice(0, 4)), "no item of background_change, color_alter"),
    ("imgedit", lambda rows: rows[0].update(edit_type="paint"), "task 'paint' is unknown; use one of adjust"),
    ("imgedit", lambda rows: rows.pop(), "ImgEdit-Bench: extract: 116 instead of 117"),
    ("openve", lambda rows: rows[5].update(edited_type="paint"), "row 7: task 'paint' is unknown"),
    ("openve", lambda rows: rows.pop(), "430 items instead of 431"),
    ("openve", lambda rows: rows[5].update(prompt=""), "row 7: prompt is ''"),
    ("openve", lambda rows: rows[5].update(original_video="a.png"), "row 7: original_video a.png is a picture"),
    ("refvie", lambda rows: rows[2].update(src_video="a.jpg"), "row 3: src_video a.jpg is a picture; RefVIE-Bench is"),
    ("refvie", lambda rows: rows[2].pop("ref_img"), "row 3: ref_img is None"),
    (
        "refvie",
        lambda rows: rows[2].update(edit_type="style"),
        "task 'style' is unknown; use one of subject, background",
    ),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG, ids=[f"{w[0]}-{n}" for n, w in enumerate(WRONG)])
def test_what_is_wrong_is_named(name: str, change: Callable[[Rows], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(name, tmp_path, change)
    assert said in str(caught.value)


def test_a_part_is_a_part(tmp_path: Path) -> None:
    assert len(read("imgedit", tmp_path, lambda rows: rows.__delitem__(slice(3, None)), partial=True)) == 3


@pytest.mark.parametrize("name", SHIPPED)
def test_another_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        BENCHMARKS[name].read(Download(tmp_path, tmp_path / "run"))
    with pytest.raises(InputError):
        BENCHMARKS[name].read(Download(tmp_path / "none", tmp_path / "run"))


def test_vie_as_folders(tmp_path: Path) -> None:
    place, run = tmp_path / "download", tmp_path / "run"
    for task in ("Object Swap", "Tone & Weather Change", "reference_add"):
        (place / task).mkdir(parents=True)
        (place / task / "a.mp4").write_bytes(b"x")
        (place / task / "a.txt").write_text("do it\n")
    (place / "reference_add" / "a.jpg").write_bytes(b"x")
    run.mkdir()
    items = BENCHMARKS["vie"].read(Download(place, run, partial=True))
    assert {item.task: item.meta["group"] for item in items} == {
        task: VIE_ROWS[task] for task in ("swap", "tone", "reference_add")
    }
    assert items[0].instruction == "do it" and not missing_media(items, run)
    (place / "Object Swap" / "a.txt").unlink()
    with pytest.raises(InputError, match=r"its instruction a\.txt cannot be read"):
        BENCHMARKS["vie"].read(Download(place, run, partial=True))


def run_of(name: str, tmp_path: Path, count: int = 2) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.prepare({"name": name})
    run.write(read(name, tmp_path)[:count])
    return run


@pytest.mark.parametrize("name", SHIPPED)
def test_outputs_go_where_the_authors_look_and_come_back(name: str, tmp_path: Path) -> None:
    """Exported, and taken again as a folder that another program made: the same files of the same items."""
    run = run_of(name, tmp_path)
    items = run.items()
    (run.path / "ours").mkdir()
    file = OutputFile(run.path / "ours")
    file.start()
    suffix = ".jpg" if items[0].modality == "image" else ".mp4"
    for number, item in enumerate(items):
        place = run.path / "ours" / f"{number}{suffix}"
        if suffix == ".jpg":
            write_image(place, np.full((8, 8, 3), 100 * number, np.uint8))
        else:
            place.write_bytes(bytes([number]))
        file.add([Output(item.id, "ours", place.name)])
    done = export_outputs(run, "ours", tmp_path / "out")
    assert not done.missing
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    expected = {
        "vie": ["ours/swap/swap-000.mp4", "ours/swap/swap-001.mp4"],
        "gedit": [
            f"ours/fullset/background_change/{language}/key0{end}.png"
            for language in ("cn", "en")
            for end in ("", "_SRCIMG")
        ],
        "imgedit": ["ours/0.png", "ours/1.png"],
        "openve": ["ours/0_global_style_edited.mp4", "ours/1_background_change_edited.mp4", "ours/new_result.csv"],
        "refvie": ["ours/0_put it in _0.mp4", "ours/1_put it in _1.mp4"],
    }
    assert files == expected[name]
    taken = take_folder(run, "again", tmp_path / "out" / "ours", items)
    assert [output.error for output in taken] == [None, None]
    if name == "openve":
        with (tmp_path / "out" / "ours" / "new_result.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        assert list(rows[0]) == ["edited_type", "prompt", "original_video", "edited_result_path"]
        assert rows[1]["prompt"] == 'make it, "1"' and Path(rows[1]["edited_result_path"]).read_bytes() == b"\1"
    if suffix == ".jpg":
        path = taken[1].path(run.path / "again")
        assert path is not None and path.suffix == ".png" and abs(int(read_media(path).frames_FHWC.mean()) - 100) < 3


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    run, made = run_of("imgedit", tmp_path, 3), tmp_path / "made"
    made.mkdir()
    with pytest.raises(InputError, match=r"no file of any item, like no 0\.png in"):
        take_folder(run, "theirs", made, run.items())
    (made / "0.png").write_bytes(png(1))
    (made / "2.webp").write_bytes(png(1))
    outputs = take_folder(run, "theirs", made, run.items())
    assert [output.error is None for output in outputs] == [True, False, True]
    assert export_outputs(run, "theirs", tmp_path / "out").missing == ("1",)
    (made / "0.jpg").write_bytes(png(1))
    with pytest.raises(InputError, match=r"item 0: .*0\.jpg, .*0\.png all fit; keep one"):
        take_folder(run, "theirs", made, run.items())


def test_a_layout_cannot_lead_out(tmp_path: Path) -> None:
    run = run_of("imgedit", tmp_path, 1)
    (item,) = run.items()
    run.write([dataclasses.replace(item, id="../../evil")])
    (run.path / "ours").mkdir()
    file = OutputFile(run.path / "ours")
    file.start()
    (run.path / "ours" / "a.png").write_bytes(png(1))
    file.add([Output("../../evil", "ours", "a.png")])
    with pytest.raises(InputError, match="cannot lie outside"):
        export_outputs(run, "ours", tmp_path / "out")


def test_one_file_is_not_two_items(tmp_path: Path) -> None:
    """Ids that end alike: neither exported over each other, nor taken twice."""
    run, made = run_of("vie", tmp_path, 1), tmp_path / "made"
    (item,) = run.items()
    ids = (f"{item.task}/a", "other/a")
    run.write([dataclasses.replace(item, id=id) for id in ids])
    (made / item.task).mkdir(parents=True)
    (made / item.task / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"a\.mp4: fits item {ids[0]} and item {ids[1]}"):
        take_folder(run, "theirs", made, run.items())
    (run.path / "ours").mkdir()
    (run.path / "ours" / "a.mp4").write_bytes(b"x")
    file = OutputFile(run.path / "ours")
    file.start()
    file.add(Output(id, "ours", "a.mp4") for id in ids)
    with pytest.raises(InputError, match=f"would be the output of {ids[0]} and of {ids[1]}"):
        export_outputs(run, "ours", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("vie", "manifest.jsonl", '{"id": "a", "task": "add", "instruction": "x", "sour', "line 1 is no JSON"),
        ("vie", "manifest.json", "[" * 100_000, "cannot be read as JSON"),
        ("vie", "manifest.csv", "id,task,source,instruction\na,add,s.mp4,put it here, please", "row 2 has more cells"),
        ("imgedit", "basic_edit.json", '{"0": {"edit_type": "add"}, "0": {}}', "'0' is there twice in one object"),
    ],
)
def test_files_that_say_less_than_they_seem_to(name: str, file: str, text: str, said: str, tmp_path: Path) -> None:
    """A line that was cut, a comma that ends a text, a key that hides another: none is passed over."""
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError) as caught:
        BENCHMARKS[name].read(Download(tmp_path, tmp_path / "run", partial=True))
    assert said in str(caught.value)


def test_names_of_vie_items(tmp_path: Path) -> None:
    def named(rows: Rows) -> None:
        for row, name in zip(rows, (0, "a", "", None), strict=False):
            row["id"] = name

    assert [item.id for item in read("vie", tmp_path, named)[:4]] == ["0", "a", "swap-002", "swap-003"]


def test_masks_of_vie_items(tmp_path: Path) -> None:
    def masked(rows: Rows) -> None:
        rows[0]["mask"] = "masks/0.png"

    first, second, *_ = read("vie", tmp_path, masked)
    assert first.mask is not None and first.mask.path.endswith("masks/0.png") and second.mask is None
    assert any("mask" in line for line in missing_media([first], tmp_path))


def test_a_benchmark_without_items_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from instructx_core.cli import main

    (tmp_path / "manifest.jsonl").write_text("\n")
    assert main(["eval", "items", "vie", str(tmp_path), "--out", str(tmp_path / "run"), "--partial"]) == 2
    assert "holds no item of VIE-Bench" in capsys.readouterr().err
