"""`instructx synthesize`: films in, records out, the film itself as target, and again without work."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from instructx_core.cli import main
from instructx_core.data.record import from_json
from instructx_core.media.files import read_media, write_video
from instructx_core.synthesis.drawn_films import FPS, draw_film

REAL = ("add", "change_color", "reference_add")  # pairs whose target must be what the camera saw


def command(*arguments):
    return ["synthesize", *map(str, arguments)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By a process of its own, as a user runs it; what follows in this one."""
    folder = tmp_path_factory.mktemp("synthesize")
    films = folder / "films"
    films.mkdir()
    frames_FHWC = np.concatenate([draw_film(seed).frames_FHWC for seed in (2, 5)])
    write_video(films / "two scenes.mp4", frames_FHWC, FPS, crf=16)
    shutil.copy(films / "two scenes.mp4", films / "the same again.mp4")
    write_video(films / "still.mp4", np.repeat(frames_FHWC[:1], 48, axis=0), FPS)
    (films / "broken.mp4").write_bytes((films / "still.mp4").read_bytes()[:900])
    line = command(films, "--output", folder / "set", "--workers", 2, "--json", folder / "made.json")
    done = subprocess.run([sys.executable, "-m", "instructx_core", *line], capture_output=True, text=True, check=False)
    return films, folder / "set", done, json.loads((folder / "made.json").read_text())


def records_of(output):
    return [from_json(json.loads(line)) for line in (output / "records.jsonl").read_text().splitlines()]


def test_every_clip_is_accounted_for(made):
    _, _, done, counts = made
    assert done.returncode == 0, done.stderr
    assert counts["films"] == 4
    assert list(counts["bad films"]) == ["broken.mp4"]
    assert counts["funnel"]["gates"] == {"in": 5, "out": 4, "reasons": {"nothing changes": 1}}
    assert len(counts["copies"]) == 2, "the same film under another name gives no second record"
    assert "broken.mp4" in done.stdout


def test_records_can_be_read_and_the_film_is_the_target(made):
    _, output, _, counts = made
    records = records_of(output)
    assert len(records) == sum(counts["records"].values()) >= 6
    for record in records:
        source_FHWC = read_media(output / record.source.path).frames_FHWC
        target_FHWC = read_media(output / record.target.path).frames_FHWC
        mask_FHW = read_media(output / record.mask.path).frames_FHWC[..., 1] > 127
        assert source_FHWC.shape == target_FHWC.shape
        difference_FHW = np.abs(source_FHWC.astype(int) - target_FHWC).mean(axis=-1)
        assert difference_FHW[mask_FHW].mean() > 8 * difference_FHW[~mask_FHW].mean(), "the edit is where the mask is"
        film = record.target if record.task in REAL else record.source
        assert film.path.endswith(".clip.mp4"), record.task
        assert not (record.source if record.task in REAL else record.target).path.endswith(".clip.mp4")
        assert record.meta["film"]
        assert (record.reference is not None) == (record.task == "reference_add")


def test_training_can_read_every_record(made, capsys):
    """What `instructx data check` says of the set, every frame decoded."""
    _, output, _, counts = made
    assert main(["data", "check", str(output), "--decode", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rejects"] == []
    assert found["tasks"] == {task: count for task, count in counts["records"].items() if count}
    assert found["modalities"] == {"video": 6, "video+reference": 2}


def test_the_same_command_again_does_no_work(made):
    films, output, _, counts = made
    before = {path: path.stat().st_mtime_ns for path in (output / "work").rglob("*") if path.is_file()}
    lines = (output / "records.jsonl").read_bytes()
    assert main(command(films, "--output", output)) == 0
    assert (output / "records.jsonl").read_bytes() == lines
    assert {path: path.stat().st_mtime_ns for path in (output / "work").rglob("*") if path.is_file()} == before
    assert sum(counts["records"].values()) == len(lines.splitlines())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ('{"longst": 3}', "no limit 'longst'"),
        ('{"longest": "a"}', "longest = 'a'"),
        ("[1]", "holds list"),
        ("{", "JSON"),
    ],
)
def test_bad_limits_are_said_before_any_work(tmp_path, capsys, limits, words):
    (tmp_path / "limits.json").write_text(limits)
    (tmp_path / "film.mp4").write_bytes(b"x")
    assert main(command(tmp_path, "--output", tmp_path / "set", "--limits", tmp_path / "limits.json")) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
