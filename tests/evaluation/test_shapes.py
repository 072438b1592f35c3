"""The benchmark run: batches do not change results, a crash loses nothing, models cannot be mixed, sheets are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation import running as evaluation
from instructx_core.evaluation.batch import edit_samples, group_samples, noise_generator
from instructx_core.evaluation.partial import fingerprint
from instructx_core.evaluation.shapes import EvalSettings, run_benchmark, worst_failures
from instructx_core.evaluation.sheet import SheetRow, draw_sheet, side_by_side
from instructx_core.shapes import TASKS, sample

SMALL = EvalSettings(images=11, clips=2, steps=1, batch_size=4)


def test_batch_equals_single(random_pipe: Any) -> None:
    """Same noise, different batch: equal up to rounding to 256 levels."""
    samples = [sample("test", index, "image", "color") for index in range(3)]
    together = edit_samples(random_pipe, samples, steps=2)
    for one, frames in zip(samples, together, strict=True):
        (alone,) = edit_samples(random_pipe, [one], steps=2)
        assert np.abs(alone.astype(int) - frames).max() <= 1


def test_equals_the_pipeline(random_pipe: Any) -> None:
    """The batched path is the same computation as one call of the pipeline, for a clip with a reference."""
    shown = sample("test", 0, "video", "reference_add")
    (batched,) = edit_samples(random_pipe, [shown], steps=2)
    fps = random_pipe.instructx_config.sampling.fps
    result = random_pipe(
        shown.source_FHWC,
        shown.instruction,
        reference=torch.from_numpy(shown.reference_HWC.copy()),
        fps=fps,
        num_inference_steps=2,
        generator=noise_generator(shown, 0),
        output_type="pt",
    )
    single = (result.frames[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.abs(single.astype(int) - batched).max() <= 1


def test_groups_share_modality_and_reference() -> None:
    samples = [sample("test", 0, modality, task) for modality in ("image", "video") for task in TASKS]
    groups = list(group_samples(samples, 4))
    assert sorted(i for group in groups for i in group) == list(range(len(samples)))
    for group in groups:
        assert len(group) <= 4
        assert len({(samples[i].modality, samples[i].reference_HWC is None) for i in group}) == 1


def test_mixed_batch_is_refused(random_pipe: Any) -> None:
    with pytest.raises(InputError, match="share modality"):
        edit_samples(random_pipe, [sample("test", 0, "image", "color"), sample("test", 0, "video", "color")])


def test_resume_equals_an_uninterrupted_run(random_pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_benchmark(random_pipe, SMALL)
    partial = tmp_path / "run.partial.jsonl"
    calls = 0
    real = evaluation.edit_samples

    def crash_at_third(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(evaluation, "edit_samples", crash_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(random_pipe, SMALL, partial)
    finished = len(partial.read_text().splitlines()) - 1
    assert 0 < finished < 13
    with partial.open("a") as file:
        file.write('{"modality": "image", "ind')  # what a killed process leaves
    seen: list[int] = []

    def count(pipe: Any, samples: Any, *rest: Any) -> Any:
        seen.append(len(samples))
        return real(pipe, samples, *rest)

    monkeypatch.setattr(evaluation, "edit_samples", count)
    resumed = run_benchmark(random_pipe, SMALL, partial, resume=True)
    assert sum(seen) == 13 - finished, "finished samples are not edited again"
    assert list(resumed.scores) == list(whole.scores)
    for key, value in whole.scores.items():
        assert resumed.scores[key].task == value.task and resumed.scores[key].success == value.success
        assert resumed.scores[key].pixel_error == pytest.approx(value.pixel_error, abs=1e-3)


def test_resume_refuses_another_model_or_other_settings(random_pipe: Any, tmp_path: Path) -> None:
    partial = tmp_path / "run.partial.jsonl"
    few = EvalSettings(images=1, clips=0, steps=1)
    run_benchmark(random_pipe, few, partial)
    with pytest.raises(InputError, match="other settings"):
        run_benchmark(random_pipe, EvalSettings(images=1, clips=0, steps=2), partial, resume=True)
    before = fingerprint(random_pipe)
    weight = random_pipe.transformer.patch_embedding.weight
    saved = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.01)
    try:
        assert fingerprint(random_pipe) != before
        with pytest.raises(InputError, match="another model"):
            run_benchmark(random_pipe, few, partial, resume=True)
    finally:
        with torch.no_grad():
            weight.copy_(saved)


def test_numbers_and_sheet(random_pipe: Any) -> None:
    result = run_benchmark(random_pipe, SMALL)
    numbers = json.loads(json.dumps(result.as_dict()))
    assert numbers["image"]["mean over tasks"]["success"] == 0.0, "random weights edit nothing right"
    assert len(numbers["samples"]) == 13 and numbers["settings"]["images"] == 11
    assert "reference" in numbers["groups"]
    assert "images\n" in result.table() and "clips\n" in result.table()
    sheet = worst_failures(random_pipe, result, count=5)
    assert sheet is not None and sheet.width > 400 and np.asarray(sheet).std() > 10


@pytest.mark.parametrize("change", [{"images": 0, "clips": 0}, {"images": -1}, {"steps": 0}, {"batch_size": 0}])
def test_bad_settings(change: dict[str, int]) -> None:
    with pytest.raises(InputError):
        EvalSettings(**change)


def test_sheet_rows_of_all_kinds() -> None:
    rows = []
    for modality in ("image", "video"):
        for task in ("color", "reference_add"):
            s = sample("test", 0, modality, task)
            rows.append(
                SheetRow(s.instruction * 3, s.source_FHWC, s.target_FHWC, s.target_FHWC, True, s.reference_HWC, "(d)")
            )
    sheet = draw_sheet(rows, columns=2, title="title")
    assert sheet.mode == "RGB"
    clip = side_by_side(rows[2])
    assert clip.shape[0] == 17 and clip.shape[1] % 2 == 0 and clip.shape[2] % 2 == 0
    with pytest.raises(InputError):
        draw_sheet([])
