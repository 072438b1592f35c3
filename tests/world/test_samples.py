"""Samples are what training and the benchmark rely on: repeatable, disjoint, exactly scored."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.world import (
    HELD_OUT,
    MODALITIES,
    TASKS,
    Sample,
    benchmark_samples,
    image_tasks,
    sample,
    score,
    summarise,
    video_tasks,
)
from instructx_core.world.success import CLEAR_CHANGE, masked_error, pixel_error

COUNT = 12
CASES = [(modality, task) for modality in MODALITIES for task in TASKS]
GOLDEN_PICTURES, GOLDEN_WORDS = "c61bfc6beedba2d0", "b767f6a76972c4b0"


@cache
def drawn(modality: str, task: str) -> tuple[Sample, ...]:
    return tuple(sample("test", index, modality, task) for index in range(COUNT))


def pixels_of(shown: Sample) -> bytes:
    reference = b"" if shown.reference_HWC is None else shown.reference_HWC.tobytes()
    masks = b"".join(mask.tobytes() for _, mask in shown.regions) + shown.outside_FHW.tobytes()
    masks += b"".join(each.source_FHW.tobytes() + each.target_FHW.tobytes() for each in shown.objects)
    return shown.source_FHWC.tobytes() + shown.target_FHWC.tobytes() + reference + masks


def digest(shown: Sample) -> bytes:
    words = "|".join((shown.instruction, shown.task, shown.caption, shown.source_caption)).encode()
    return hashlib.sha256(pixels_of(shown) + words).digest()


def test_golden_hashes() -> None:
    """Change whenever the world does: then every trained checkpoint and published score is of another world."""
    pictures, words = hashlib.sha256(), hashlib.sha256()
    for modality, task in CASES:
        shown = sample("test", 1, modality, task)
        pictures.update(pixels_of(shown))
        words.update("|".join((shown.instruction, shown.task, shown.caption, shown.source_caption)).encode())
    assert pictures.hexdigest()[:16] == GOLDEN_PICTURES
    assert words.hexdigest()[:16] == GOLDEN_WORDS


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_arguments_same_sample(modality: str) -> None:
    for index in range(5):
        assert digest(sample("train", index, modality)) == digest(sample("train", index, modality))
    shown = sample("train", 3, modality)
    assert digest(shown) == digest(sample("train", 3, modality, shown.task))


@pytest.mark.parametrize(("modality", "task"), CASES)
def test_nothing_fails_and_truth_passes(modality: str, task: str) -> None:
    for shown in drawn(modality, task) if task != "noop" else ():
        idle, truth = score(shown, shown.source_FHWC), score(shown, shown.target_FHWC)
        assert not idle.success and truth.success
        assert truth.outside_error == 0.0 and truth.pixel_error == 0.0
        idle_FHW = pixel_error(shown.source_FHWC, shown.target_FHWC)
        assert max(masked_error(idle_FHW, mask)[0] for _, mask in shown.regions) >= CLEAR_CHANGE
        assert idle.reasons and not truth.reasons and truth.share == truth.softness == 0.0


@pytest.mark.parametrize(("modality", "task"), CASES)
def test_shapes_masks_and_words(modality: str, task: str) -> None:
    frames = 1 if modality == "image" else 17
    for shown in drawn(modality, task):
        assert shown.source_FHWC.shape == shown.target_FHWC.shape == (frames, 64, 64, 3)
        assert shown.source_FHWC.dtype == shown.target_FHWC.dtype == np.uint8
        assert (shown.reference_HWC is not None) == task.startswith("reference")
        assert shown.instruction.isascii() == (shown.language == "en")
        assert shown.instruction.strip() == shown.instruction != ""
        assert shown.caption.isascii() and shown.source_caption.isascii()
        taken = np.zeros((frames, 64, 64), dtype=bool)
        for name, mask in (*shown.regions, ("outside", shown.outside_FHW)):
            assert mask.dtype == bool and mask.shape == taken.shape and not (taken & mask).any(), name
            taken |= mask
        assert all(mask.any() for _, mask in shown.regions) and bool(shown.regions) == (task != "noop")
        assert (shown.source_FHWC == shown.target_FHWC).all(-1)[shown.outside_FHW].all()
        combinations = [(thing.color, thing.shape) for thing in shown.target_scene.things]
        assert len(set(combinations)) == len(combinations)


@pytest.mark.parametrize("modality", MODALITIES)
def test_half_of_a_hybrid_fails(modality: str) -> None:
    for shown in drawn(modality, "hybrid"):
        assert len(shown.regions) == 2
        for _, mask in shown.regions:
            assert masked_error(pixel_error(shown.source_FHWC, shown.target_FHWC), mask)[0] >= CLEAR_CHANGE
            half = shown.target_FHWC.copy()
            half[mask] = shown.source_FHWC[mask]
            assert not score(shown, half).success


def test_damage_outside_and_a_single_bad_frame_fail() -> None:
    shown = drawn("video", "color")[0]
    damaged = shown.target_FHWC.copy()
    damaged[shown.outside_FHW] = 255 - damaged[shown.outside_FHW]
    assert not score(shown, damaged).outside_ok
    flicker = shown.target_FHWC.copy()
    flicker[8] = shown.source_FHWC[8]
    verdict = score(shown, flicker)
    assert not verdict.success and "in frame 8" in " ".join(verdict.reasons)


def test_train_and_val_never_show_a_held_out_pair() -> None:
    for split in ("train", "val"):
        for modality, count in (("image", 200), ("video", 30)):
            for index in range(count):
                shown = sample(split, index, modality)
                pairs = shown.source_scene.combinations | shown.target_scene.combinations
                assert not pairs & HELD_OUT and not shown.held_out
                text = f"{shown.instruction} {shown.caption} {shown.source_caption}".lower()
                assert not any(f"{color} {shape}" in text for color, shape in HELD_OUT)


def test_test_split_shows_held_out_pairs_where_flagged() -> None:
    flags = []
    for index in range(400):
        shown = sample("test", index)
        pairs = shown.source_scene.combinations | shown.target_scene.combinations
        assert bool(pairs & HELD_OUT) == shown.held_out
        flags.append(shown.held_out)
    assert 0.23 < np.mean(flags) < 0.37


def test_splits_and_indices_are_disjoint() -> None:
    seen = set()
    for split in ("train", "val", "test"):
        for index in range(150):
            seen.add(sample(split, index).source_FHWC.tobytes())
    assert len(seen) >= 449  # whole pictures hardly ever repeat, least of all across splits


def test_source_and_instruction_determine_the_target() -> None:
    targets: dict[tuple[bytes, bytes, str], bytes] = {}
    for index in range(400):
        shown = sample("train", index)
        reference = b"" if shown.reference_HWC is None else shown.reference_HWC.tobytes()
        key = (shown.source_FHWC.tobytes(), reference, shown.instruction.lower().rstrip("."))
        assert targets.setdefault(key, shown.target_FHWC.tobytes()) == shown.target_FHWC.tobytes()


def test_tasks_of_splits() -> None:
    assert image_tasks("train") == image_tasks("test") == video_tasks("test") == TASKS and len(TASKS) == 12
    assert set(TASKS) - set(video_tasks("train")) == {"style", "segment"}
    drawn_tasks = {sample("train", index, "video").task for index in range(80)}
    assert drawn_tasks == set(video_tasks("train"))
    with pytest.raises(InputError, match="segment"):
        sample("train", 0, "video", "segment")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("dev", 0), "split"),
        (("train", -1), "index"),
        (("train", 0.5), "index"),
        (("train", 0, "audio"), "modality"),
        (("train", 0, "image", "rotate"), "task"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, word: str) -> None:
    with pytest.raises(InputError, match=word):
        sample(*arguments)


def test_wrong_predictions_are_refused() -> None:
    shown = drawn("image", "add")[0]
    with pytest.raises(InputError, match="uint8"):
        score(shown, shown.target_FHWC.astype(np.float32))
    with pytest.raises(InputError, match="shape"):
        score(shown, shown.target_FHWC[0])


def test_benchmark_is_balanced_and_summarised() -> None:
    samples = benchmark_samples("image", 48)
    assert len(samples) == 48 and [shown.task for shown in samples] == [*TASKS] * 4
    assert samples[-1].index == 47 and len(samples[:3]) == 3
    right = ("remove", "tone")
    scores = [score(shown, shown.target_FHWC if shown.task in right else shown.source_FHWC) for shown in samples]
    summary = summarise(scores)
    assert summary == summarise(scores)
    assert summary.overall.success == pytest.approx(3 / 12)  # these and the no-ops, which doing nothing gets right
    assert summary.tasks["remove"].success == 1.0 and summary.tasks["add"].success == 0.0
    assert summary.held_out is not None and summary.seen is not None
    assert summary.held_out.count + summary.seen.count == 48
    assert "mean over tasks" in summary.table() and summary.as_dict()["add"]["count"] == 4
    mixed = summarise([score(s, s.target_FHWC if s.index % 24 else s.source_FHWC) for s in samples[::12]])
    assert mixed.tasks["add"].low < 0.5 < mixed.tasks["add"].high
    with pytest.raises(InputError):
        summarise([])
    with pytest.raises(InputError):
        benchmark_samples("image", 0)
