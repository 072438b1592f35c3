"""InstructX as grounder, tracker and eraser: clips of its world become pairs, and the pairs teach a model."""

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.config import tiny
from instructx_core.data.record import from_json
from instructx_core.media.files import read_media, write_video
from instructx_core.sampling.guidance import velocity
from instructx_core.shapes.palette import PLACES
from instructx_core.shapes.render import render_layers
from instructx_core.shapes.scene import frame_times
from instructx_core.synthesis.cast import make_casting
from instructx_core.synthesis.export import export
from instructx_core.synthesis.films import find_films
from instructx_core.synthesis.grounded import GroundedFinder
from instructx_core.synthesis.measure_own import CLEAN_CRF, FPS, shapes_clip, shapes_setup
from instructx_core.synthesis.ours import OwnEditor, OwnGrounder, OwnTracker
from instructx_core.synthesis.run import WORK, candidates_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.terms.masks import overlap
from instructx_core.training.jobs.flow import validation_loss
from instructx_core.training.recipes.base import FROM_SHIPPED
from instructx_core.training.runs.run import build_job
from instructx_core.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano_stage2

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shipped")]
CLIPS = (302, 303)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, request):
    request.getfixturevalue("shipped")
    folder = tmp_path_factory.mktemp("ours")
    for index in CLIPS:
        write_video(folder / f"clip{index}.mp4", shapes_clip(index)[0], FPS, crf=CLEAN_CRF)
    setup = shapes_setup("self")
    setup = Setup(dataclasses.replace(setup.limits, shortest=1.0), setup.casting)
    found = list(candidates_of(find_films(folder, folder / "set"), folder / "set", setup, 1))
    export(found, folder / "set" / WORK, folder / "set", setup)
    return folder / "set", found


def test_what_is_there_is_found_where_the_words_say():
    """Of the place that is empty the model shows a thing that is elsewhere; nothing comes of that."""
    frames_FHWC, scene = shapes_clip(302)
    phrases = [f"shape at the {place}" for place in PLACES]
    finder = GroundedFinder(OwnGrounder(OwnEditor()), OwnTracker(OwnEditor()), lambda frames: phrases)
    found = finder.find(frames_FHWC, None)
    assert {phrases.index(subject.phrase) for subject in found} == {thing.place for thing in scene.things}
    layers = render_layers(scene, frame_times("video"))
    for subject in found:
        truth_FHW = layers.cover_PFHW[phrases.index(subject.phrase)]
        assert overlap(subject.mask_FHW, truth_FHW) > 0.7
        assert (truth_FHW & ~subject.changed_FHW).mean() < 0.001


def test_clips_of_things_that_stand_become_pairs(pairs):
    """What the classic back end cannot do: it needs to see what lies behind."""
    output, found = pairs
    assert any(candidate.reject is None for candidate in found), [candidate.reject for candidate in found]
    records = [from_json(json.loads(line)) for line in (output / "records.jsonl").read_text().splitlines()]
    assert {record.task for record in records} >= {"remove", "add"}
    for record in records:
        assert record.meta["facts"]["erase"]["by"].startswith("instructx ")
        if record.task == "remove":
            source, target = (read_media(output / each.path).frames_FHWC for each in (record.source, record.target))
            changed = np.abs(source.astype(int) - target).mean(axis=-1) > 24
            assert 0.005 < changed.mean() < 0.2


def test_a_model_learns_from_the_pairs(pairs, tmp_path):
    """Film -> pairs -> training -> a better model: one whose weights were disturbed removes true things better."""
    output, _ = pairs
    recipe = nano_stage2(
        requires=(FROM_SHIPPED,),
        data=f"records:{output / 'records.jsonl'}",
        tasks=("remove", "add"),
        num_steps=30,
        video_probability=1.0,
        reference_probability=0.0,
        instruction_dropout=0.0,
        learning_rate=5e-4,
        save_every=1000,
    )
    job = build_job(recipe, tiny(), tmp_path / "pairs")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in job.denoiser.parameters():
            if weight.ndim > 1:
                weight += 0.15 * weight.std() * torch.randn(weight.shape, generator=generator)
    truth = build_job(dataclasses.replace(recipe, data="shapes", video_validation=21), tiny(), tmp_path / "truth")
    (bucket,) = [each for each in truth.validation if each.modality == "video" and not each.reference]
    pool = truth.validation[bucket]
    rows = [row for row, number in enumerate(pool.numbers) if truth.source.task("val", int(number), bucket) == "remove"]

    @torch.no_grad()
    def error():
        batch = truth.batch(pool, bucket, np.array(rows), [pool.text(row)[0] for row in rows])
        return validation_loss(batch.target, partial(velocity, job.denoiser, truth.conditions(batch)))

    before = error()
    Trainer(recipe, job, tmp_path / "run").run()
    after = error()
    assert after < 0.9 * before, (before, after)


def test_words_are_needed_for_what_is_looked_for_by_name():
    with pytest.raises(Exception, match="--things"):
        make_casting("self", (), {})
