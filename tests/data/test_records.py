"""Records from files: sorted into buckets, decoded at the same moments, and what is bad is told with its reason."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx_core.data.bucket import Bucket
from instructx_core.data.opening import find_mixture, open_mixture, open_path
from instructx_core.data.probing import probe
from instructx_core.data.readers.jsonl import read_records, write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.data.record.rejects import RejectedRecord
from instructx_core.data.records import SPLITS, split_records
from instructx_core.data.sizing import Sizing, cut_share, frame_indices
from instructx_core.data.source import StoredSource
from instructx_core.data.sources import open_data
from instructx_core.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from edit_sets import clip, mixture, pairs, picture, records

IMAGES, CLIPS = Bucket("image", 1, 64, 64), Bucket("video", 5, 64, 64)


def opened(path: Path, **rules: object):
    """A single set with clips of 5 frames."""
    return open_path("mixture", str(mixture(path.parent / "m.toml", f'[[set]]\npath = "{path.name}"\n', **rules)))


def test_records_come_back_from_their_file(tmp_path: Path) -> None:
    path = records(tmp_path / "set", images=2, clips=1, references=1)
    read = list(read_records(path))
    assert [each.id for each in read] == ["image0", "image1", "video0"]
    assert all(Path(each.source.path).is_file() and Path(each.target.path).is_file() for each in read)
    assert '"media/image0_source.png"' in path.read_text(), "paths are relative to the file"
    write_records(tmp_path / "again.jsonl", read)
    assert list(read_records(tmp_path / "again.jsonl")) == read


def test_samples_are_the_pixels_of_the_files(tmp_path: Path) -> None:
    source = opened(records(tmp_path / "set", references=1).parent, validation=0)
    assert isinstance(source, StoredSource)
    found = {bucket: source.size("train", bucket) for bucket in source.buckets("train")}
    reference = {"reference": True, "reference_size": (80, 64)}
    assert found == {
        Bucket("image", 1, 64, 64, **reference): 1,
        IMAGES: 3,
        Bucket("video", 5, 64, 64, **reference): 1,
        CLIPS: 1,
    }
    sample = source.edit("train", 0, IMAGES)
    assert sample.target_FHWC.shape == (1, 64, 64, 3) and (sample.target_FHWC[..., 1] == 201).all()
    assert (sample.instruction, sample.task, sample.wordings) == ("make it green, 1", "tone", ("turn it green",))
    assert source.task("train", 0, IMAGES) == "tone"
    moving = source.edit("train", 0, CLIPS)
    assert abs(moving.source_FHWC[:, 0, 0, 0].astype(int) - [0, 5, 10, 15, 20]).max() <= 2
    with_reference = source.edit("train", 0, Bucket("image", 1, 64, 64, **reference))
    assert with_reference.reference_HWC.shape == (80, 64, 3) and (with_reference.reference_HWC[..., 1] == 90).all()


def test_source_and_target_are_shown_at_the_same_moments(tmp_path: Path) -> None:
    """24 frames a second, the target tagged with another rate: frame numbers of the source's rate for both."""
    places = {
        "source": Locator(str(clip(tmp_path / "a.mkv", 24, fps=24))),
        "target": Locator(str(clip(tmp_path / "b.mkv", 24, fps=30, shade=9))),
    }
    path = tmp_path / "records.jsonl"
    write_records(path, [EditRecord("a", "add", "video", "add", **places)])
    source = opened(path, frames=[5, 13], validation=0)
    (bucket,) = source.buckets("train")
    sample = source.edit("train", 0, bucket)
    wanted = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
    assert bucket.frames == 13 and frame_indices(24, Fraction(24), 16)[:13] == wanted
    for frames_FHWC in (sample.source_FHWC, sample.target_FHWC):
        assert abs(frames_FHWC[:, 0, 0, 0].astype(int) - 5 * np.array(wanted)).max() <= 2
    assert frame_indices(5, Fraction(12), 16) == [0, 1, 2, 3, 4], "a slow clip's frames are not repeated"


def test_a_plain_folder_of_pairs(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "sepia", images=3, clips=1)
    (folder / "image1.txt").write_text("\ufeffmake this one green \u2028 now", encoding="utf-8")
    (folder / "image2_target.png").unlink()
    (folder / "notes.txt").write_text("mine")
    source = opened(folder, validation=0, max_rejects=0.5)
    assert [each.id for each in source.rejects["sepia"]] == ["image2"]
    assert "no target; add image2_target" in source.rejects["sepia"][0].reason
    said = [source.edit("train", number, IMAGES).instruction for number in range(2)]
    assert said == ["make it green", "make this one green \u2028 now"]
    assert source.task("train", 0, CLIPS) == "sepia"

    for word in ("before", "after"):
        picture(tmp_path / "two" / word / "a.png", 3)
    (tmp_path / "two" / "before" / "a.txt").write_text("in the folder")
    assert open_data(str(tmp_path / "two")).edit("train", 0, IMAGES).instruction == "in the folder"


def test_what_is_wrong_with_a_record_is_said(tmp_path: Path) -> None:
    path = records(tmp_path / "set", images=7, clips=4)
    media = path.parent / "media"
    picture(media / "image1_target.png", 1, (64, 80))
    (media / "image2_source.png").write_bytes(b"no picture at all")
    (media / "image3_source.png").unlink()
    picture(media / "image4_source.png", 1, (8, 64)), picture(media / "image4_target.png", 1, (8, 64))
    clip(media / "video1_target.mkv", 9)
    clip(media / "video2_source.mkv", 3), clip(media / "video2_target.mkv", 3)
    lines = path.read_text().splitlines()
    more = ['{"id": "video9"', json.dumps(json.loads(lines[0]) | {"id": "empty", "instruction": " "}), lines[0]]
    more += [json.dumps(json.loads(lines[0]) | {"id": "film", "modality": "video"}), '{"id": NaN}']
    path.write_text("\n".join(lines + more) + "\n")
    source = open_mixture(find_mixture("mixture", str(mixture(tmp_path / "m.toml", '[[set]]\npath = "set"\n'))), False)
    reasons = {each.id: each.reason for each in source.rejects["set"]}
    wanted = {
        "image1": "the source is 64x64 and the target 80x64; both must have one size",
        "image2": "is text",
        "image3": "no such file",
        "image4": "64x8 pixels",
        "video1": "5 frames and the target 64x64, 9 frames",
        "video2": "3 frames at 16 fps; the shortest bucket has 5",
        "line 12": "is not JSON",
        "empty": "instruction is empty",
        "image0": "another record has this id",
        "film": "is a picture, and the record says video",
        "line 16": "holds NaN",
    }
    assert reasons.keys() == wanted.keys()
    assert not [name for name, words in wanted.items() if words not in reasons[name]]
    with pytest.raises(InputError, match=r"set: 11 of 16 records cannot be used, more than 0%; the first is line 12"):
        open_path("mixture", str(tmp_path / "m.toml"))


def test_the_head_of_a_file_is_held_to_its_word(tmp_path: Path) -> None:
    """Records may say size and length, so that a set opens without its files; what is not so shows at decoding."""
    path = records(tmp_path / "set", images=2, clips=1)
    values = [json.loads(line) for line in path.read_text().splitlines()]
    for each in values:
        each["meta"] |= {"size": [64, 64]} | ({"frames": 9, "fps": 16} if each["modality"] == "video" else {})
    path.write_text("\n".join(map(json.dumps, values)))
    picture(path.parent / "media" / "image1_target.png", 1, (64, 80))
    source = opened(path.parent, frames=[9], validation=0)
    with pytest.raises(InputError, match=r"record video0: .*takes 9 at 16 fps"):
        source.edit("train", 0, Bucket("video", 9, 64, 64))
    with pytest.raises(InputError, match="record image1: the source is 64x64 and the target 80x64"):
        source.edit("train", 1, IMAGES)


@pytest.mark.parametrize(
    ("size", "pixels", "chosen"),
    [
        ((480, 832), 480 * 832, (480, 832)),
        ((1080, 1920), 480 * 832, (480, 832)),
        ((1024, 1024), 1 << 20, (1024, 1024)),
        ((64, 64), 1 << 20, (64, 64)),
        ((1536, 1024), 1 << 20, (1248, 832)),
    ],
)
def test_the_ladder_of_sizes(size: tuple[int, int], pixels: int, chosen: tuple[int, int]) -> None:
    found = Sizing().size(*size, pixels)
    assert found == chosen and cut_share(*size, found) < 0.06


def test_a_strip_is_refused() -> None:
    with pytest.raises(InputError, match="4096x64 pixels: no bucket of this shape, 96% would be cut off"):
        Sizing().size(64, 4096, 1 << 20)


def test_a_turned_photo_has_the_size_that_it_is_seen_in(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(tmp_path / "a.jpg", exif=exif)
    assert probe(Locator(str(tmp_path / "a.jpg"))).size == (96, 64)


def test_edits_of_one_picture_are_not_split() -> None:
    made = [EditRecord(f"{n}", "add", "image", "x", Locator(f"d/{n // 3}.png")) for n in range(90)]
    train, val = split_records(made, 0.1)
    assert len(train) + len(val) == 90 and 9 <= len(val) <= 12
    assert {each.source for each in train}.isdisjoint(each.source for each in val)
    assert split_records(made[:2], 0.1) == ([made[1]], [made[0]]), "one picture alone"
    moved = [EditRecord(each.id, "add", "image", "x", Locator(f"/elsewhere/{each.source.path}")) for each in made]
    assert [each.id for each in split_records(moved, 0.1)[1]] == [each.id for each in val]


def test_a_source_is_opened_by_its_path(tmp_path: Path) -> None:
    path = records(tmp_path / "set", clips=0)
    for spec in (str(path), str(path.parent), f"records:{path}"):
        assert open_data(spec).name == "set"
    with pytest.raises(InputError, match="no file and no data source 'nowhere'; known: shapes, world, mixture"):
        open_data("nowhere")
    with pytest.raises(InputError, match="holds no pair"):
        open_data(f"pairs:{tmp_path / 'set' / 'media' / '..'}")
    with pytest.raises(InputError, match="cannot tell what set this is"):
        open_data(str(tmp_path))
    assert isinstance(next(read_records(mixture(tmp_path / "x.jsonl", ""))), RejectedRecord)


def test_a_set_said_in_other_words_and_mirrored(tmp_path: Path) -> None:
    """What a mixture says of a folder of pairs stands in place of its texts; mirrored pairs stay on their side."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(6):
        for word in ("before", "after"):
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                folder / f"{number}_{word}.png"
            )
    (tmp_path / "mixture.toml").write_text(
        'multiple = 16\nvalidation = 0.34\n[[set]]\npath = "pairs"\ninstructions = ["one", "another"]\nmirror = true\n'
    )
    source = open_path("mixture", str(tmp_path / "mixture.toml"))
    (bucket,) = source.buckets("train")
    ids = {split: {source.record(split, n, bucket).id for n in range(source.size(split, bucket))} for split in SPLITS}
    assert {len(some) for some in ids.values()} == {8, 4}
    assert not {each.split()[0] for each in ids["train"]} & {each.split()[0] for each in ids["val"]}
    plain, other = (source.edit("train", n, bucket) for n in (0, 4))
    assert (plain.instruction, plain.wordings) == ("one", ("another",))
    assert np.array_equal(other.target_FHWC, plain.target_FHWC[:, :, ::-1])
    (tmp_path / "mixture.toml").write_text('[[set]]\npath = "pairs"\ninstructions = ["one", " "]\n')
    with pytest.raises(InputError, match="an instruction is empty"):
        open_path("mixture", str(tmp_path / "mixture.toml"))
