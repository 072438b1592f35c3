"""`instructx data`: what is counted, drawn and written, and that too many bad records are an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx_core.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from edit_sets import mixture, records


@pytest.fixture
def set_of(tmp_path: Path) -> Path:
    records(tmp_path / "set", images=5, clips=3, references=1)
    return mixture(tmp_path / "m.toml", '[[set]]\npath = "set"\ntasks = ["color"]\n', max_rejects=0.2)


def test_check_counts_and_lists(set_of: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(set_of.parent)
    assert main(["data", "check", str(set_of), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"] == {"set": {"read": 8, "kept": 5, "used": 5, "rejects": 0}}
    assert found["tasks"] == {"color": 5} and found["splits"] == {"train": 4, "val": 1}
    assert found["modalities"] == {"image+reference": 1, "image": 2, "video+reference": 1, "video": 1}
    assert found["shares"]["set"] == pytest.approx({"image": 1.0, "video": 1.0})
    assert found["buckets"]["video-5x64x64-plain"] == 1 and not Path("rejects.jsonl").exists()
    for number in (2, 4):
        (set_of.parent / "set" / "media" / f"image{number}_target.png").write_bytes(b"")
    assert main(["data", "check", str(set_of)]) == 1
    assert "modalities" in capsys.readouterr().out
    listed = [json.loads(line) for line in Path("rejects.jsonl").read_text().splitlines()]
    assert [each["id"] for each in listed] == ["image2", "image4"] and "empty (0 bytes)" in listed[0]["reason"]
    assert main(["data", "export", str(set_of), "--to", "x.jsonl"]) == 2
    assert not Path("x.jsonl").exists() and "2 of 5 records cannot be used" in capsys.readouterr().err


def test_decoding_finds_what_heads_do_not_tell(set_of: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    broken = set_of.parent / "set" / "media" / "image2_source.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(broken, "JPEG")
    broken.write_bytes(broken.read_bytes()[:2000])
    rejects = ["--rejects", str(tmp_path / "bad.jsonl")]
    assert main(["data", "check", str(set_of), *rejects]) == 0 and not (tmp_path / "bad.jsonl").exists()
    assert main(["data", "check", str(set_of), "--decode", *rejects]) == 0
    assert "image is damaged" in (tmp_path / "bad.jsonl").read_text()


def test_the_sheet_shows_what_training_sees(set_of: Path, tmp_path: Path) -> None:
    assert main(["data", "sheet", str(set_of), "--to", str(tmp_path / "sheet.png"), "--rows", "8"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 7 * 166 + 6, "three frames of a clip before and after, and its reference"
    green = sheet[..., 1].astype(int) - sheet[..., 0]
    assert (green > 100).any()
    assert main(["data", "sheet", str(set_of)]) == 2


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ([], "cache needs --recipe NAME, the stage"),
        (["--recipe", "tiny_vae"], "--recipe is for recipes of edits; tiny_vae trains"),
        (["--recipe", "stage2"], "no base weights; give --base"),
    ],
)
def test_a_cache_needs_a_stage_and_its_models(
    recipe: list[str], words: str, set_of: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", "cache", str(set_of), "--output", str(tmp_path / "runs"), *recipe]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "runs").exists()
