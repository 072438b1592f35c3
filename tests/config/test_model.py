"""The config: JSON there and back, what a file may say, and files from before a field was there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from instructx_core.config import PRESETS, InstructXConfig, SamplingConfig, preset

SIZES = {
    "paper_14b": (832, 480, 81, 16.0),
    "kiwi_5b": (1280, 704, 121, 24.0),
    "tiny": (64, 64, 17, 16.0),
    "tiny2": (64, 64, 17, 16.0),
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_there_and_back(name: str) -> None:
    config = preset(name)
    assert InstructXConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_usual_size(name: str) -> None:
    usual = preset(name).sampling
    assert (usual.width, usual.height, usual.frames, usual.fps) == SIZES[name]
    assert usual.area == usual.width * usual.height


@pytest.mark.parametrize("name", ["kiwi_5b", "paper_14b", "tiny"])  # tiny2 is younger
def test_file_saved_before_the_usual_size_was_a_field(name: str) -> None:
    """What the model is tells its size, under any name."""
    data = json.loads(preset(name).to_json()) | {"name": "renamed"}
    del data["trained_on"]
    for field in ("width", "height", "frames"):
        del data["sampling"][field]
    config = InstructXConfig.from_json(json.dumps(data))
    assert config.sampling == preset(name).sampling and config.trained_on == preset(name).trained_on


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"width": 0}, "usual size of 0x480"),
        ({"width": 1 << 20, "height": 1 << 20}, "usual size"),
        ({"height": "480"}, r"sampling\.height is '480'; expected int"),
        ({"frames": 0}, "0 frames"),
        ({"frames": 1.5}, r"sampling\.frames"),
        ({"fps": -1.0}, "-1 fps"),
        ({"fps": 10**400}, r"sampling\.fps"),
        ({"size": 1}, "unknown field"),
        ([], "sampling: expected a JSON object"),
    ],
)
def test_damaged_size_is_refused(sampling: Any, message: str) -> None:
    data = {"name": "x", "profile": "instructx", "sampling": sampling}
    with pytest.raises(ValueError, match=message):
        InstructXConfig.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "long" * 100])
def test_what_it_was_trained_on_is_one_short_line(text: str) -> None:
    with pytest.raises(ValueError, match="one line of at most 200 characters"):
        InstructXConfig(name="x", profile="instructx", trained_on=text)


@pytest.mark.parametrize("text", ["3", "[]", "null", '"x"'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a JSON object"):
        InstructXConfig.from_json(text)


def test_default_size_is_that_of_wan() -> None:
    assert InstructXConfig(name="x", profile="kiwi").sampling == SamplingConfig() == preset("paper_14b").sampling
