"""What is shown of a run: losses by kind, speed, share of the peak, time left; the same in TensorBoard's files."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.data.bucket import Bucket
from instructx_core.errors import InputError
from instructx_core.training.job import GlobalBatch
from instructx_core.training.machine import Watch
from instructx_core.training.metrics import Metrics
from instructx_core.training.progress import RunProgress
from instructx_core.training.runs.run import build_job
from instructx_core.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano, nano_stage1

IMAGES, CLIPS = Bucket("image", 1, 64, 64), Bucket("video", 5, 64, 64, reference=True)


def batch(bucket: Bucket, tokens: int = 1000) -> GlobalBatch:
    return GlobalBatch(bucket, 4, 4, tokens)


def test_time_left_counts_each_kind_as_often_as_it_came() -> None:
    """The first step of a kind is slow and says nothing."""
    progress = RunProgress(100, Watch())
    assert "seconds_left" not in progress.note(1, batch(IMAGES), 0.5, 60.0)
    for step, (bucket, seconds) in enumerate([(IMAGES, 1.0), (CLIPS, 90.0), (CLIPS, 3.0), (IMAGES, 1.0)], 2):
        row = progress.note(step, batch(bucket), 0.25, seconds)
    assert row == {"seconds": 1.0, "tokens_a_second": 1000.0, "seconds_left": round(95 * (3 * 1.0 + 2 * 3.0) / 5)}
    said = progress.line(row | {"seconds_left": 7_320})
    assert said == "image 0.3333, video+reference 0.2500, 1,000 tokens/s, 2 h 2 min left"


def test_no_share_is_guessed_and_no_tokens_where_there_are_none() -> None:
    row = RunProgress(10, Watch()).note(1, batch(IMAGES, tokens=0), 0.5, 1.0)
    assert row == {"seconds": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain and watched: the same run of the nano model, the second with a peak and event files where it can."""
    folder = tmp_path_factory.mktemp("progress")
    recipe = nano_stage1(num_steps=4, sample_every=4, validate_every=4)
    for name, watch in (("plain", Watch()), ("watched", Watch(peak=1e9))):
        Trainer(recipe, build_job(recipe, nano(), folder), folder / name, watch=watch).run()
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if "loss" in row]


def test_counting_changes_no_bit_and_counts_what_is_computed(folder: Path) -> None:
    plain, watched = rows(folder / "plain"), rows(folder / "watched")
    assert [row["loss"] for row in plain] == [row["loss"] for row in watched]
    assert (folder / "plain/final.safetensors").read_bytes() == (folder / "watched/final.safetensors").read_bytes()
    assert not any("share_of_peak" in row for row in plain)
    flops = [row["share_of_peak"] * row["seconds"] * 1e9 for row in watched[1:]]
    assert all(np.isclose(each, flops[0], rtol=0.05) for each in flops), "a step of a bucket costs the same"
    assert 1e7 < flops[0] < 1e12 and all(row["tokens_a_second"] > 0 for row in plain)


def records(path: Path) -> list[bytes]:
    """Of an event file: length (8 bytes), its checksum (4), the record, its checksum."""
    data, found, at = path.read_bytes(), list[bytes](), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 12 : at + 12 + size])
        at += 12 + size + 4
    return found


def test_event_files_hold_what_metrics_hold(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra train")
    from tensorboardX.proto.event_pb2 import Event

    metrics = Metrics(tmp_path / "metrics.jsonl", enabled=True, tensorboard=True)
    metrics.write({"step": 7, "loss": 0.5, "bucket": "image", "lr": 0.25, "tokens_a_second": 90.0})
    metrics.write({"step": 7, "validation": {"image loss": 0.125}})
    Image.fromarray(np.full((8, 9, 3), 40, np.uint8)).save(tmp_path / "sheet.png")
    metrics.show(7, tmp_path / "sheet.png")
    metrics.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = [Event.FromString(record) for record in records(file)]
    values = {value.tag: value for event in events for value in event.summary.value if event.step == 7}
    numbers = {name: value.simple_value for name, value in values.items() if name != "samples"}
    assert numbers == {"loss/image": 0.5, "lr": 0.25, "tokens_a_second": 90.0, "validation/image_loss": 0.125}
    assert (values["samples"].image.height, values["samples"].image.width) == (8, 9)


def test_tensorboard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match="--tensorboard needs tensorboardX; install it with: pip install"):
        Metrics(tmp_path / "metrics.jsonl", enabled=True, tensorboard=True)
