"""Experiments as runs: one start, data and noise for all variants; runs that two experiments have in common are one."""

from __future__ import annotations

import pytest

from instructx_core.config import InstructXConfig, preset
from instructx_core.errors import InputError
from instructx_core.study.experiments import EXPERIMENTS, OURS, Experiment
from instructx_core.study.measures import BETTER, GROUPS
from instructx_core.study.scales import PAPER, TINY
from instructx_core.study.schedule import Run, all_runs, chain, find_experiments, measured_run

EVERY = find_experiments(["all"])
DIFFERENT = {"name", "description", "requires", "train", "design", "model", "seed"}


def config_of(run: Run) -> InstructXConfig:
    return run.recipe.model_config(preset(run.recipe.preset))


def test_names_in_comparisons_are_there() -> None:
    for experiment in EVERY:
        names = [variant.name for variant in experiment.variants]
        assert len(set(names)) == len(names)
        for each in experiment.comparisons:
            assert {each.first, each.second} <= set(names), experiment.name
            assert each.measure in BETTER and each.group in GROUPS
        assert (experiment.sentence == "") == all(each.expects == "open" for each in experiment.comparisons)


def test_seeds_are_those_of_the_issue() -> None:
    """Three for Fig. 4 and 9 and what stands on them, two for the rest; flicker varies more, so it has three too."""
    three = {name for name, each in EXPERIMENTS.items() if each.seeds == 3}
    assert three == {"fig4_left", "fig4_right", "a8", "fig9a", "fig9b", "fig15"}
    assert all(each.seeds >= 2 for each in EVERY)


@pytest.mark.parametrize("experiment", EVERY, ids=lambda each: each.name)
def test_variants_differ_in_what_they_say_alone(experiment: Experiment) -> None:
    first = [run.recipe.as_json() for run in chain(TINY, experiment, experiment.variants[0], 0)]
    for variant in experiment.variants:
        for run in chain(TINY, experiment, variant, 0):
            same_stage = next(each for each in first if each["source_latents"] == run.recipe.source_latents)
            found = run.recipe.as_json()
            other = {name for name in found if found[name] != same_stage[name]} - DIFFERENT
            stated = set(experiment.variants[0].edit) | set(variant.edit)
            lengths = {variant.length, experiment.variants[0].length}
            assert other <= stated | ({"num_steps"} if lengths != {1.0} else set())
            assert found["requires"][: len(TINY.start)] == list(TINY.start)


def test_a_run_in_two_experiments_is_one() -> None:
    ours = {measured_run(TINY, EXPERIMENTS[name], OURS, 0).name for name in ("fig4_right", "a8", "fig9a", "tab6")}
    assert len(ours) == 1
    runs = all_runs(TINY, EVERY)
    assert len({run.name for run in runs}) == len(runs)
    stages = [run.before is not None for run in runs]
    assert stages == sorted(stages)
    assert {run.before for run in runs} - {None} <= {run.name for run in runs}


def test_the_papers_size() -> None:
    """Wan2.1-14B, Qwen2.5-VL-3B, the paper's rate, batches and queries."""
    runs = all_runs(PAPER, [EXPERIMENTS["tab6"]])
    assert {run.recipe.learning_rate for run in runs} == {1e-5}
    assert {(run.recipe.image_batch, run.recipe.video_batch) for run in runs} == {(128, 32)}
    assert {config_of(run).instruction.num_video_queries for run in runs} == {512, 1024}
    assert {config_of(run).denoiser.num_layers for run in runs} == {40}


def test_unknown_experiment() -> None:
    with pytest.raises(InputError, match="no experiment 'fig5'; known: fig4_left"):
        find_experiments(["fig5"])
