"""Public sets as they ship, made by hand with the columns that they are published with, and what is wrong in one."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from instructx_core.data.bucket import Bucket
from instructx_core.data.export import export_records, export_shards
from instructx_core.data.mixture import MixtureSet
from instructx_core.data.opening import open_path, unfiltered
from instructx_core.data.readers.published import SETS
from instructx_core.data.record import EditRecord, Locator
from instructx_core.data.record.locating import read_bytes
from instructx_core.data.record.rejects import RejectedRecord
from instructx_core.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from edit_sets import clip, mixture, picture, records


def png(shade: int, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (0, shade, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def lines(path: Path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))


def table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def nhr_edit(folder: Path) -> Path:
    for name in ("a_original", "a_edited_1"):
        picture(folder / "train" / "images" / "00" / f"{name}.png", 1)
    row = {"source_file_name": "images/00/a_original.png", "edited_file_name": "images/00/a_edited_1.png"}
    row |= {"edit_instruction": "Add a hat", "augmented_instructions": ["Put a hat on", "A hat, please"]}
    lines(folder / "train" / "metadata.jsonl", row | {"category": "Add", "sample_id": "a", "style": "photo"})
    return folder


def x2edit(folder: Path) -> Path:
    """Two tars, joined end to end, with the same names."""
    parts = []
    for number in range(2):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            add(tar, "000000000.1.0.jpg", png(10 + number))
            add(tar, "000000000.2.jpg", png(20 + number))
            said = {"instruction": f"Add hat {number}", "task": "subject addition", "aesthetic_score": 5.5 + number}
            add(tar, "000000000.json", json.dumps(said).encode())
            add(tar, "000000000.txt", b"a person")
        parts.append(buffer.getvalue())
    (folder / "flux").mkdir(parents=True)
    (folder / "flux" / "0.tar").write_bytes(b"".join(parts))
    return folder


def gpt_image_edit(folder: Path) -> Path:
    for name in ("s", "t"):
        picture(folder / "hq" / "edit" / f"{name}.png", 3)
    talk = [{"from": "human", "value": "<image>\nAdd a hat"}, {"from": "gpt", "value": "<image>"}]
    table(folder / "training_json" / "hq.json", [{"image": ["edit/s.png", "edit/t.png"], "conversations": talk}])
    (folder / "data.txt").write_text("hq,training_json/hq.json,true\n")
    return folder / "data.txt"


def clips_table(folder: Path, name: str, source: str, target: str, between: str = ",", **others: str) -> Path:
    clip(folder / "a.mp4", 5), clip(folder / "b.mp4", 5)
    row = {source: "a.mp4", target: "b.mp4", **others}
    if name.endswith(".csv"):
        (folder / name).write_text(between.join(row) + "\n" + between.join(row.values()) + "\n")
    else:
        table(folder / name, [row])
    return folder


def openve(folder: Path) -> Path:
    """Semicolons, as those who train on it read it."""
    others = {"prompt": "Add a hat", "edited_type": "local_add"}
    return clips_table(folder, "add.csv", "original_video", "video", ";", **others)


def senorita(folder: Path) -> Path:
    hat = {"enhanced_instruction": "Add a hat", "instruction": "hat"}
    return clips_table(folder, "obj_addition.json", "source_video_path", "target_video_path", **hat)


def ditto(folder: Path) -> Path:
    clips_table(folder, "x.csv", "source_path", "edited_path")
    table(
        folder / "training_metadata" / "g.json",
        [{"source_path": "../a.mp4", "edited_path": "../b.mp4", "instruction": "Add a hat"}],
    )
    return folder


def reco(folder: Path) -> Path:
    """A folder a kind of edit; paths in its JSON start at the folder of the whole set."""
    clips_table(folder, "x.csv", "src_video", "tar_video")
    row = {"src_video": "a.mp4", "tar_video": "b.mp4", "instruction_final_refine": "Add a hat", "instruction": "hat"}
    table(folder / "add" / "add_data_configs.json", [row])
    return folder


def kiwi_csv(folder: Path) -> Path:
    picture(folder / "r.png", 9)
    return clips_table(folder, "m.csv", "src_video", "tgt_video", prompt="Add a hat", ref_image="r.png")


def kiwi_parquet(folder: Path) -> Path:
    clip(folder / "a.mp4", 5), clip(folder / "b.mp4", 5)
    row = {"iid": "7", "prompt": "Add a hat", "src_video": "a.mp4", "tgt_video": "b.mp4", "ref_image_bytes": png(4)}
    pq.write_table(pa.Table.from_pylist([row]), folder / "m.parquet")
    return folder


def omniedit(folder: Path) -> Path:
    """Three rows in groups of two; pictures as Hugging Face keeps them."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "omni_edit_id": f"task_add_{number}",
            "task": "addition",
            "src_img": {"bytes": png(number), "path": None},
            "edited_img": {"bytes": png(100 + number), "path": None},
            "edited_prompt_list": ["Add a hat", "Put a hat on"],
            "sc_score_1": 8.0 + number,
        }
        for number in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-0.parquet", row_group_size=2)
    return folder


def ultraedit(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    row = {"source_image": png(1), "edited_image": png(2), "mask_image": png(3), "edit_prompt": "Add a hat"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "free.parquet")
    return folder


def webdataset(folder: Path) -> Path:
    source = open_path("records", str(records(folder / "made", images=2, clips=0, references=1)))
    export_shards(folder / "shards", source)
    return folder / "shards"


def a_table(folder: Path) -> Path:
    for name in ("s", "t"):
        picture(folder / f"{name}.png", 3)
    (folder / "pairs.csv").write_text('source,target,instruction\ns.png,t.png,"Add a hat, please"\n')
    return folder


MAKE = {
    "nhr_edit": nhr_edit,
    "x2edit": x2edit,
    "gpt_image_edit": gpt_image_edit,
    "openve": openve,
    "senorita": senorita,
    "ditto": ditto,
    "reco": reco,
    "kiwi_csv": kiwi_csv,
    "kiwi_parquet": kiwi_parquet,
    "omniedit": omniedit,
    "ultraedit": ultraedit,
    "webdataset": webdataset,
    "table": a_table,
}


def read(path: Path, form: str, **columns: str) -> list[EditRecord | RejectedRecord]:
    return list(unfiltered(MixtureSet(path, "set", form, columns=columns)))


@pytest.mark.parametrize("form", SETS)
def test_a_set_is_read_as_it_ships(form: str, tmp_path: Path) -> None:
    read_now = read(MAKE[form](tmp_path / "set"), form)
    assert read_now and not [each for each in read_now if isinstance(each, RejectedRecord)]
    for each in read_now:
        assert "hat" in each.instruction or "green" in each.instruction
        assert "<" not in each.instruction
        for place in (each.source, each.target):
            assert len(read_bytes(place)) > 60
    modality = "video" if form in ("openve", "senorita", "ditto", "reco", "kiwi_csv", "kiwi_parquet") else "image"
    assert {each.modality for each in read_now} == {modality}
    assert any(each.reference for each in read_now) == (form in ("kiwi_csv", "kiwi_parquet", "webdataset"))


def test_joined_tars_and_rows_of_groups_are_decoded(tmp_path: Path) -> None:
    path = x2edit(tmp_path / "x")
    first, second = read(path, "x2edit")
    assert (first.id, second.id) == ("0/000000000", "0/000000000#2") and second.meta["aesthetic_score"] == 6.5
    assert first.task == "subject addition" and second.source.offset > first.target.offset
    source = open_path(
        "mixture", str(mixture(tmp_path / "m.toml", '[[set]]\npath = "x"\nformat = "x2edit"\n', validation=0))
    )
    shades = [source.edit("train", number, Bucket("image", 1, 64, 64)).target_FHWC[0, 0, 0, 1] for number in (0, 1)]
    assert shades == [20, 21]
    omniedit(tmp_path / "o")
    source = open_path("omniedit", str(tmp_path / "o"))
    seen = {
        source.record(split, number, bucket).id: source.edit(split, number, bucket)
        for split in ("train", "val")
        for bucket in source.buckets(split)
        for number in range(source.size(split, bucket))
    }
    assert [seen[f"task_add_{number}"].source_FHWC[0, 0, 0, 1] for number in range(3)] == [0, 1, 2]
    assert seen["task_add_0"].wordings == ("Put a hat on",)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = records(tmp_path / "set", images=3, clips=2, references=1)
    source = open_path("mixture", str(mixture(tmp_path / "m.toml", '[[set]]\npath = "set"\n')))
    assert export_records(tmp_path / "all.jsonl", source) == export_shards(tmp_path / "s", source, 1) == 5
    assert len(list((tmp_path / "s").glob("*.tar"))) == 5, "a record is not split"
    listed, packed = read(tmp_path / "all.jsonl", "records"), read(tmp_path / "s", "webdataset")
    for one, other in zip(listed, packed, strict=True):
        assert (one.id, one.task, one.modality, one.instruction) == (
            other.id,
            other.task,
            other.modality,
            other.instruction,
        )
        assert one.meta == other.meta and one.meta["size"] == [64, 64]
        for name in ("source", "target", "reference"):
            mine, other_place = getattr(one, name), getattr(other, name)
            assert mine is None if other_place is None else read_bytes(mine) == read_bytes(other_place)
    path.with_name("media").rename(tmp_path / "gone")
    opened = open_path("mixture", str(mixture(tmp_path / "n.toml", '[[set]]\npath = "all.jsonl"\n')))
    assert opened.buckets("train") == source.buckets("train"), "sorted without opening a file"


def test_what_is_wrong_in_a_set_is_said(tmp_path: Path) -> None:
    folder = openve(tmp_path / "v")
    with pytest.raises(InputError, match=r"add.csv: no column 'edited'; it has edited_type, original_\w+, .*`columns`"):
        read(folder, "openve", target="edited")
    with pytest.raises(InputError, match="columns has an unknown 'tgt'"):
        read(folder, "openve", tgt="video")
    (folder / "add.csv").write_text("original_video,video,prompt\na.mp4,b.mp4\na.mp4,b.mp4,\na.mp4,b.mp4,x\n")
    found = read(folder, "openve")
    assert ["reason" if isinstance(each, EditRecord) else each.reason[:20] for each in found] == [
        "has more or fewer ce",
        "record add:1: the in",
        "reason",
    ]
    table(
        tmp_path / "r.json",
        [{"src_video": 3, "tar_video": "b", "instruction_final_refine": "x"}, ["x"], {"tar_video": 1}],
    )
    reasons = [each.reason for each in read(tmp_path / "r.json", "reco") if isinstance(each, RejectedRecord)]
    assert len(reasons) == 3 and "src_video is 3" in reasons[0] and "a row is an object" in reasons[1]
    assert "no 'src_video'; its columns are tar_video" in reasons[2]
    with pytest.raises(InputError, match="holds no"):
        read(tmp_path / "v", "omniedit")
    (tmp_path / "v" / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read(tmp_path / "v", "omniedit")


def test_a_tar_that_is_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = x2edit(tmp_path / "x") / "flux" / "0.tar"
    path.write_bytes(path.read_bytes()[: tarfile.RECORDSIZE + tarfile.BLOCKSIZE + 50])  # in a picture of the second tar
    good, *bad = read(tmp_path / "x", "x2edit")
    assert isinstance(good, EditRecord) and [type(each) for each in bad] == [RejectedRecord, RejectedRecord]
    assert "cannot be read as a tar" in bad[0].reason and "no '2'; its columns are 1.0" in bad[1].reason
    whole = x2edit(tmp_path / "y") / "flux" / "0.tar"
    with pytest.raises(InputError, match="no such member"):
        read_bytes(Locator(str(whole), "nothing.png"))
    with pytest.raises(InputError, match=r"2 members of that name; give `offset`"):
        read_bytes(Locator(str(whole), "000000000.json"))
    with pytest.raises(InputError, match="cannot be read as a tar"):
        read_bytes(Locator(str(path), "nothing.png"))
