"""M-RoPE positions: the numbers of Kiwi-Edit, the rule of seconds, and transformers' own where it is right."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from torch import Tensor

from instructx_core.config import InstructXConfig, kiwi_5b, paper_14b, tiny
from instructx_core.encoder.positions import Segment, sequence_positions, temporal_step, vision_positions
from instructx_core.errors import InputError

IMAGE, VIDEO, START = 1, 2, 3  # token ids of the toy sequence


def test_kiwi_steps_by_two_whatever_the_fps() -> None:
    for fps in (1.0, 16.0, 60.0):
        step = temporal_step(kiwi_5b(), 81, fps)
        assert vision_positions((3, 1, 1), 35, step)[0].tolist() == [35, 37, 39]


@pytest.mark.parametrize(
    ("frames", "grid", "count", "first", "last"),
    [
        (21, (8, 12, 24), 512, 64, 575),  # Kiwi-Edit: 1280x704, 21 frames
        (1, (1, 18, 18), 256, 63, 318),
    ],
)
def test_query_positions_of_kiwi(frames: int, grid: tuple[int, int, int], count: int, first: int, last: int) -> None:
    """35 header tokens, the vision block, <|vision_end|> and an instruction of the length that example had."""
    step = temporal_step(kiwi_5b(), frames, 16.0)
    after_vision = 35 + max(1 + int((grid[0] - 1) * step), grid[1], grid[2])
    instruction = first - after_vision
    position_3L = sequence_positions(((35, None), (0, grid), (instruction, None), (count + 2, None)), step)
    query_3Q = position_3L[:, 35 + grid[0] * grid[1] * grid[2] + instruction :][:, :count]
    assert query_3Q[:, 0].tolist() == [first] * 3 and query_3Q[:, -1].tolist() == [last] * 3


def test_rule_of_seconds() -> None:
    config = paper_14b()
    # 81 frames at 16 fps, 13 shown: 2.568 shown frames a second, 0.779 s a cell, 2 positions a second
    assert temporal_step(config, 81, 16.0) == pytest.approx(2 / (13 / 81 * 16) * 2)
    assert vision_positions((7, 1, 1), 0, temporal_step(config, 81, 16.0))[0].tolist() == [0, 1, 3, 4, 6, 7, 9]
    # 13 frames at 2 fps: one second a cell, exactly two positions
    assert vision_positions((7, 1, 1), 0, temporal_step(config, 13, 2.0))[0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    slow = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, fps=2.0))
    assert temporal_step(slow, 13) == temporal_step(config, 13, 2.0) != temporal_step(config, 13), "the model's rate"
    # i * step lands just under a whole number in floating point
    assert vision_positions((31, 1, 1), 0, 0.1)[0].tolist()[10::10] == [1, 2, 3]
    for fps in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="fps"):
            temporal_step(config, 81, fps)


def test_text_continues_after_the_largest_axis() -> None:
    segments: tuple[Segment, ...] = ((2, None), (0, (1, 2, 5)), (2, None))
    assert sequence_positions(segments, 2.0)[:, -2:].tolist() == [[7, 8]] * 3  # width wins
    segments = ((2, None), (0, (4, 2, 2)), (2, None))
    assert sequence_positions(segments, 2.0)[:, -2:].tolist() == [[9, 10]] * 3  # time wins
    assert sequence_positions(((3, None), (0, None), (2, None)), 1.0)[0].tolist() == [0, 1, 2, 3, 4]


def transformers_positions(ids_L: list[int], grids: dict[str, Tensor], config: InstructXConfig) -> Tensor:
    from instructx_core.encoder.qwen import build_mllm

    model = build_mllm(dataclasses.replace(config.mllm, num_layers=1))
    model.config.image_token_id, model.config.video_token_id, model.config.vision_start_token_id = IMAGE, VIDEO, START
    ids = torch.tensor([ids_L])
    more = {}
    if "mm_token_type_ids" in inspect.signature(model.get_rope_index).parameters:
        more["mm_token_type_ids"] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    return model.get_rope_index(ids, attention_mask=torch.ones_like(ids), **grids, **more)[0][:, 0]


@pytest.mark.compat
@pytest.mark.parametrize("grid", [(1, 4, 4), (1, 8, 14), (1, 2, 6)])
def test_images_equal_transformers(grid: tuple[int, int, int]) -> None:
    cells = (1, grid[1] // 2, grid[2] // 2)
    ids = [9, 9, START] + [IMAGE] * (cells[1] * cells[2]) + [9] * 5
    theirs = transformers_positions(ids, {"image_grid_thw": torch.tensor([grid])}, tiny())
    assert torch.equal(sequence_positions(((3, None), (0, cells), (5, None)), 2.0), theirs)


def test_cached_plans_ignore_the_callers_default_device() -> None:
    """A model built under torch.device("meta") must not leave meta tensors in a cache that real runs read."""
    from instructx_core.config import VisionConfig
    from instructx_core.encoder.positions import sequence_positions
    from instructx_core.encoder.vision import vision_plan

    with torch.device("meta"):
        plan = vision_plan(6, 10, VisionConfig(depth=1))
        positions = sequence_positions(((3, None), (0, (1, 2, 2)), (2, None)), 2.0)
    assert plan.order_N.device.type == plan.cos_NK.device.type == positions.device.type == "cpu"
