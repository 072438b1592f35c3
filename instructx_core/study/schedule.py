"""Experiments at a scale -> runs: recipes of both stages for every variant and seed, shared where they are the same.

Between experiments.py and queue.py. A run is named for what it trains, by a digest of its recipe, so that two
experiments with a variant in common train it once. All runs of a scale draw the same samples, noise and order for the
same seed; what differs is what the variant says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..config import EMBEDDERS, InstructXConfig, preset
from ..errors import InputError
from ..training.recipes.edit import ALIGNMENT, EVERYTHING
from ..training.recipes.variant import VariantRecipe
from .experiments import EXPERIMENTS, Experiment, Stage, Variant


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scale:
    """Where the variants run. start: runs (or FROM_BASE) whose weights all variants begin with. align, edit: settings
    of the two stages, beside what a variant says. images, clips: test samples that are measured. seeds: at most.
    groups: how many of the measured samples each group of measures.py has; empty: not counted. extra: how many more are
    measured of a group, for the experiments that compare it."""

    name: str
    preset: str
    start: tuple[str, ...]
    align: dict[str, Any]
    edit: dict[str, Any]
    images: int
    clips: int
    seeds: int = 3
    groups: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)

    def seeds_of(self, experiment: Experiment) -> int:
        return min(self.seeds, experiment.seeds)

    def samples_in(self, group: str, stage: Stage) -> int:
        """Of a group of samples; after a first stage images alone are measured."""
        if group == "all" and stage == "align":
            return self.images
        whole = {"image": self.images, "video": self.clips, "all": self.images + self.clips}
        return self.groups.get(group, whole.get(group, 0)) + self.extra.get(group, 0)


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe. before: the run it goes on from, None for a first stage. measured: whether an experiment asks."""

    recipe: VariantRecipe
    before: str | None
    scale: Scale = field(compare=False)
    measured: bool = False

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def stage(self) -> Stage:
        return "align" if self.recipe.name.startswith("align-") else "edit"


def find_experiments(names: Iterable[str]) -> list[Experiment]:
    """All for none or "all". Raises InputError for an unknown one."""
    wanted = list(names)
    if not wanted or wanted == ["all"]:
        return list(EXPERIMENTS.values())
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        raise InputError(f"no experiment {unknown[0]!r}; known: {', '.join(EXPERIMENTS)}, or all")
    return [EXPERIMENTS[name] for name in wanted]


def chain(scale: Scale, experiment: Experiment, variant: Variant, seed: int) -> list[Run]:
    """The runs of one variant and seed in their order; the last is the one that is measured."""
    model, embedder = resolved(variant, preset(scale.preset)), variant.edit.get("source_embedder", "preset")
    common: dict[str, Any] = {"preset": scale.preset, "seed": seed, "design": variant.design, "model": model}
    runs: list[Run] = []
    if variant.design != "t5":  # what T5 says, the DiT understands already (3.2)
        groups = tuple(name for name in ALIGNMENT if name in groups_of(variant, model))
        recipe = VariantRecipe(
            **common | {"name": "", "description": "", "requires": scale.start, "train": groups} | scale.align
        )
        runs.append(_named("align", recipe, None, scale))
    if experiment.last == "edit":
        before = runs[-1].name if runs else None
        changes = scale.edit | dict(variant.edit)
        changes["num_steps"] = max(1, round(scale.edit["num_steps"] * variant.length))
        groups = tuple(name for name in EVERYTHING if name in groups_of(variant, model, embedder, scale.preset))
        requires = scale.start if before is None else (*scale.start, before)
        recipe = VariantRecipe(
            **common | {"name": "", "description": "", "requires": requires, "train": groups} | changes
        )
        runs.append(_named("edit", recipe, before, scale))
    return runs


def _named(stage: Stage, recipe: VariantRecipe, before: str | None, scale: Scale) -> Run:
    text = json.dumps(recipe.as_json() | {"name": "", "description": ""}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = f"{stage}-{recipe.design}-s{recipe.seed}-{digest}"
    description = f"{stage}, {recipe.design}, seed {recipe.seed}"
    return Run(dataclasses.replace(recipe, name=name, description=description), before, scale)


def groups_of(
    variant: Variant, model: dict[str, Any], embedder: str = "preset", preset_name: str = "tiny"
) -> tuple[str, ...]:
    """The groups of tensors that a variant has (training/trainable.py)."""
    dit = preset(preset_name).denoiser
    own = {"source_embedder": dit.source_embedder if embedder == "preset" else embedder}
    own["reference_embedder"] = dit.reference_embedder
    found = ["denoiser", *(name for name in EMBEDDERS if own[name] == "own")]
    if variant.design != "t5":
        found.append("connector")
    if variant.design in ("queries", "metaquery"):
        found += ["queries.image"] + ([] if model.get("design.shared_queries") else ["queries.video"])
    if variant.design == "queries" and model.get("lora.rank") != 0:
        found.append("lora")
    return tuple(found)


def resolved(variant: Variant, config: InstructXConfig) -> dict[str, Any]:
    """The variant's changes as fields of a config: words and shares become numbers of this model."""
    rule = config.instruction
    counts = {"images": rule.num_image_queries, "clips": rule.num_video_queries}
    counts |= {"both": counts["images"] + counts["clips"], "clips x2": 2 * counts["clips"]}
    changes: dict[str, Any] = {}
    for name, value in variant.model.items():
        if name == "queries":
            image, video = (counts.get(each, each) for each in value)
            changes |= {"instruction.num_image_queries": image, "instruction.num_video_queries": video}
        elif name == "rank":
            rank = round(config.lora.rank * value)
            changes |= {"lora.rank": rank, "lora.alpha": rank}
        else:
            changes[name] = value
    return changes


def all_runs(scale: Scale, experiments: Sequence[Experiment]) -> list[Run]:
    """Each once, first stages before those that go on from them."""
    found: dict[str, Run] = {}
    for experiment in experiments:
        for variant in experiment.variants:
            for seed in range(scale.seeds_of(experiment)):
                *first, last = chain(scale, experiment, variant, seed)
                for run in (*first, dataclasses.replace(last, measured=True)):
                    if run.measured or run.name not in found:
                        found[run.name] = run
    return sorted(found.values(), key=lambda run: run.before is not None)


@lru_cache(maxsize=8)
def asked_groups(scale: Scale) -> Mapping[str, Mapping[str, int]]:
    """By name of a run, how many more samples of which groups are measured of it: for all experiments, so that a run
    that several have is measured once."""
    found: dict[str, dict[str, int]] = {}
    for experiment in EXPERIMENTS.values():
        groups = {each.group for each in experiment.comparisons} & scale.extra.keys()
        for variant in experiment.variants if groups else ():
            for seed in range(scale.seeds_of(experiment)):
                run = measured_run(scale, experiment, variant, seed)
                found.setdefault(run.name, {}).update({name: scale.extra[name] for name in sorted(groups)})
    return found


def measured_run(scale: Scale, experiment: Experiment, variant: Variant, seed: int) -> Run:
    return chain(scale, experiment, variant, seed)[-1]
