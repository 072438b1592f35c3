"""Several edits in one call: what is equal bit for bit to one at a time, what up to rounding, and what is refused.

Equal to the bit: the noise of each edit and how its inputs are read. Equal to rounding: whatever goes through matrix
products, whose order of sums depends on the size of the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from PIL import Image
from tiny import clip, pipeline
from torch import Tensor

from instructx_core.errors import InputError
from instructx_core.sampling.batch import edit_batch
from instructx_core.sampling.noise import initial_noise
from instructx_core.sampling.schedule import start

INSTRUCTIONS = ["make it blue", "remove the large square behind the other one", "x"]
CLIPS = [clip(seed=seed) for seed in range(3)]
PICTURES = [clip(1, 40, 20 + 8 * seed, seed=seed)[0] for seed in range(3)]


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def generators(count: int = 3) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def edit(pipe: Any, source: Any, instruction: Any, **options: Any) -> Any:
    options = {"output_type": "latent", "num_inference_steps": 2, **options}
    return pipe(source, instruction, **options).frames


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_scale": 3.0}, {"reference": PICTURES}, {"pinned": 1}],
    ids=["plain", "guidance", "references", "pinned"],
)
def test_a_batch_is_the_edits_one_by_one(pipe, options) -> None:
    """Instructions of unequal length and references of one grid; each with the noise that it has alone."""
    together = edit(pipe, CLIPS, INSTRUCTIONS, generator=generators(), **options)
    assert together.shape == (3, 16, 2, 4, 6)
    for i, generator in enumerate(generators()):
        alone_options = {name: value[i] if name == "reference" else value for name, value in options.items()}
        alone = edit(pipe, CLIPS[i], INSTRUCTIONS[i], generator=generator, **alone_options)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_every_output_type_has_one_result_an_edit(pipe) -> None:
    for kind, shape in (("np", (3, 5, 32, 48, 3)), ("pt", (3, 5, 3, 32, 48))):
        assert edit(pipe, CLIPS, INSTRUCTIONS, generator=generators(), output_type=kind).shape == shape
    pictures = edit(pipe, CLIPS, INSTRUCTIONS, generator=generators(), output_type="pil")
    assert [len(frames) for frames in pictures] == [5, 5, 5] and pictures[2][4].size == (48, 32)


def test_a_batch_of_one_is_the_edit_itself(pipe) -> None:
    alone = edit(pipe, CLIPS[0], INSTRUCTIONS[0], generator=generators()[0], reference=PICTURES[0])
    listed = edit(pipe, CLIPS[:1], INSTRUCTIONS[:1], generator=generators(1), reference=[PICTURES[:1]])
    assert torch.equal(alone, listed)


def test_a_batch_is_given_in_many_ways(pipe) -> None:
    expected = edit(pipe, CLIPS, INSTRUCTIONS, generator=generators())
    stacked = torch.stack(CLIPS)
    as_pil = [[Image.fromarray(frame.numpy()) for frame in frames] for frames in CLIPS]
    for source in (stacked, stacked.numpy(), tuple(CLIPS), as_pil):
        assert torch.equal(edit(pipe, source, tuple(INSTRUCTIONS), generator=tuple(generators())), expected)
    contexts = pipe.encode_instruction(edit_batch(CLIPS, INSTRUCTIONS), pipe.instructx_config.sampling.fps)
    for source in (CLIPS, stacked):
        assert torch.equal(edit(pipe, source, None, context=contexts.positive, generator=generators()), expected)
    noise = torch.cat([torch.randn(1, 16, 2, 4, 6, generator=generator) for generator in generators()])
    assert torch.equal(edit(pipe, CLIPS, INSTRUCTIONS, latents=noise), expected)


def test_noise_is_that_of_each_edit_alone() -> None:
    like = torch.empty(3, 16, 2, 4, 6)
    together = initial_noise(like, generators())
    for row, generator in zip(together, generators(), strict=True):
        assert torch.equal(row, initial_noise(like[:1], generator)[0])
        assert torch.equal(row, initial_noise(like[:1], [generator.manual_seed(generator.initial_seed())])[0])
    shared = initial_noise(like, torch.Generator().manual_seed(0))
    assert torch.equal(shared[:1], together[:1]), "one generator: as diffusers draws a batch"
    for wrong, message in ((generators(2), "2 generators for 3 edits"), (7, "generator is a int"), (["a"] * 3, "one")):
        with pytest.raises(InputError, match=message):
            initial_noise(like, wrong)  # type: ignore[arg-type]


def test_how_a_batch_is_read() -> None:
    one = edit_batch(CLIPS[0], "x", [PICTURES[0], PICTURES[1]])
    assert one.clips_BFHWC.shape == (1, 5, 32, 48, 3) and one.instructions == ("x",) and one.num_references == 2
    frames = edit_batch([CLIPS[0][0], CLIPS[0][1]], "x")
    assert frames.clips_BFHWC.shape == (1, 2, 32, 48, 3), "with one instruction a list is one clip"
    three = edit_batch(CLIPS, INSTRUCTIONS, [PICTURES[0], [PICTURES[1]], PICTURES[2].numpy()])
    assert len(three) == 3 and three.size == (32, 48) and three.num_references == 1
    assert edit_batch(CLIPS, INSTRUCTIONS, [None] * 3).num_references == edit_batch(CLIPS, INSTRUCTIONS).num_references


@pytest.mark.parametrize(
    ("source", "instruction", "options", "message"),
    [
        (CLIPS[0], 5, {}, "the instruction is 5, of type int; it must be one str"),
        (CLIPS[0], b"make it blue", {}, "of type bytes; it must be one str"),
        (CLIPS[0], {"make": "blue"}, {}, "of type dict"),
        (CLIPS[0], "make it \udc80 blue", {}, r"lone surrogate U\+DC80\) at position 8"),
        (CLIPS, ["a", 5, "b"], {}, "the instruction is 5, of type int"),
        (CLIPS, ["a", " ", "b"], {}, "instruction is empty"),
        (CLIPS[0], ["make it blue"], {}, "source has one Tensor for 1 edits; give a list"),
        (CLIPS[:2], INSTRUCTIONS, {}, "source has 2 entries for 3 edits"),
        ([], [], {}, "source has 0 entries for 0 edits"),
        (torch.stack(CLIPS), "make it blue", {}, "a batch of 3 sources needs a list of 3 instructions"),
        ([CLIPS[0], clip(1)], ["a", "b"], {}, "sources of one batch differ"),
        ([CLIPS[0], CLIPS[1].float() / 255], ["a", "b"], {}, "sources of one batch differ"),
        (CLIPS, INSTRUCTIONS, {"reference": PICTURES[0]}, "reference has one Tensor for 3 edits"),
        (CLIPS, INSTRUCTIONS, {"reference": [PICTURES[0], None, None]}, r"have \[0, 1\] references"),
        (CLIPS, INSTRUCTIONS, {"generator": generators(2)}, "2 generators for 3 edits"),
        (CLIPS[0], None, {"context": torch.zeros(2, 8, 256)}, "source has one Tensor for 2 edits"),
        (CLIPS, INSTRUCTIONS, {"latents": torch.zeros(1, 16, 2, 4, 6)}, r"must have the source's shape \(3, 16"),
    ],
)
def test_what_is_refused(pipe, source, instruction, options, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        edit(pipe, source, instruction, **options)
    assert "\n" not in str(caught.value)


def test_a_callback_sees_the_batch_and_may_stop_it(pipe) -> None:
    shapes: list[tuple[int, ...]] = []

    def callback(caller: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes.append((*tensors["latents"].shape[:1], *tensors["context"].shape[:1]))
        assert caller.current_timestep is timestep and caller.guidance_scale == 2.0
        caller._interrupt = step == 1
        return {}

    names = ("latents", "context")
    options = {"num_inference_steps": 4, "guidance_scale": 2.0, "generator": generators()}
    edit(pipe, CLIPS, INSTRUCTIONS, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names, **options)
    assert shapes == [(3, 3), (3, 3)] and pipe.current_timestep is None


def test_levels_of_a_second_order_scheduler() -> None:
    levels = start(FlowMatchHeunDiscreteScheduler(shift=3.0), 3, "cpu")  # type: ignore[arg-type]
    assert [level.ends_step for level in levels] == [False, True, False, True, True], "three steps for the progress bar"
    assert [level.step for level in levels] == list(range(5)) and {level.count for level in levels} == {5}


def test_reuse_keeps_a_batch(pipe) -> None:
    pipe.enable_reuse()
    try:
        first = edit(pipe, CLIPS, INSTRUCTIONS, generator=generators())
        assert torch.equal(edit(pipe, CLIPS, INSTRUCTIONS, generator=generators()), first)
        assert (pipe.reuse.hits, pipe.reuse.misses) == (2, 2)
        edit(pipe, CLIPS[::-1], INSTRUCTIONS, generator=generators())
        assert pipe.reuse.misses == 4
    finally:
        pipe.disable_reuse()


def test_a_batch_of_pictures_is_read_as_pictures(pipe) -> None:
    sources = [Image.fromarray(frames[0].numpy()) for frames in CLIPS]
    made = edit(pipe, sources, INSTRUCTIONS, generator=generators(), output_type="np")
    assert made.shape == (3, 1, 32, 48, 3) and len({np.asarray(row).tobytes() for row in made}) == 3
