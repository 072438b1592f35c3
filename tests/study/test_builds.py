"""Every variant of every experiment at every scale: its recipe, its model without values, its context, its data.

What a run would find out after its start is found here in seconds: a group of tensors that is not there, a field that
the model refuses, a context of another shape, a pool without samples. Depth is cut to a few layers, all alike.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

from instructx_core.config import InstructXConfig, preset
from instructx_core.costs.training import with_layers
from instructx_core.data.cache import select_samples
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.errors import InputError
from instructx_core.geometry import ClipSize
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.groups import MODALITY
from instructx_core.study.paper_size import check_context
from instructx_core.study.records import samples_of
from instructx_core.study.scales import SCALES
from instructx_core.study.schedule import Run, all_runs
from instructx_core.training.edit_pools import plan_pools
from instructx_core.training.runs.run import recipe_source
from instructx_core.training.trainable import groups

EVERY = [(scale, name) for scale in SCALES for name in EXPERIMENTS]


def config_of(run: Run) -> InstructXConfig:
    return run.recipe.model_config(preset(run.recipe.preset))


def shallow(config: InstructXConfig) -> InstructXConfig:
    return with_layers(config, 1, 2, 1, 1)


@cache
def held_groups(config: str) -> frozenset[str]:
    """Groups that have any tensor, of a model of this config."""
    small = shallow(InstructXConfig.from_json(config))
    with torch.device("meta"):
        encoder, denoiser = build_encoder(small), build_denoiser(small)
        encoder.add_lora(small.lora)
    return frozenset(name for name, tensors in groups(encoder, denoiser).items() if tensors)


@cache
def contexts(config: str) -> None:
    """Images and clips through the encoder, without values."""
    whole = InstructXConfig.from_json(config)
    small, usual = shallow(whole), whole.sampling
    for modality, frames in (("image", 1), ("video", usual.frames)):
        check_context(small, ClipSize(usual.width, usual.height, frames), modality)


@pytest.mark.parametrize(("scale", "name"), EVERY)
def test_every_variant_is_a_model(scale: str, name: str) -> None:
    """Each trains groups that it has, an edit stage all but the text encoder, and gives the DiT its context."""
    for run in all_runs(SCALES[scale], [EXPERIMENTS[name]]):
        text = config_of(run).to_json()
        present, trained = held_groups(text), set(run.recipe.train)
        assert trained <= present, run.name
        if run.stage == "edit":
            assert present - trained <= {"text_encoder"}, run.name
        else:
            assert not any(group in trained for group in ("denoiser", "source_embedder", "text_encoder")), run.name
        contexts(text)


@pytest.mark.parametrize(("scale", "name"), [each for each in EVERY if each[0] != "paper"])
def test_every_run_has_its_data(scale: str, name: str) -> None:
    """Pools of both modalities with whole batches, and as many test samples as are measured."""
    for run in all_runs(SCALES[scale], [EXPERIMENTS[name]]):
        recipe, source = run.recipe, recipe_source(run.recipe)
        there = {each.bucket.modality: 0 for each in plan_pools(recipe, source).train}
        for each in plan_pools(recipe, source).train:
            there[each.bucket.modality] += each.count
        wanted = {"image": recipe.image_pool, "video": recipe.video_pool}
        assert there == {modality: count for modality, count in wanted.items() if count}, run.name
        for modality, share in (("image", recipe.video_probability < 1), ("video", recipe.video_probability > 0)):
            assert (modality in there) == share, f"{run.name} draws {modality}s"
        if run.measured:
            samples = samples_of(run)
            counts = {("image", False): samples["images"], ("video", False): samples["clips"]}
            chosen = select_samples(source, "test", {kind: count for kind, count in counts.items() if count})
            assert sum(each.count for each in chosen) == samples["images"] + samples["clips"], run.name
            assert samples.keys() - {"images", "clips"} <= MODALITY.keys()


def test_the_papers_size_names_no_data() -> None:
    run = all_runs(SCALES["paper"], [EXPERIMENTS["tab6"]])[0]
    with pytest.raises(InputError, match="has no data source; give --data"):
        recipe_source(run.recipe)
