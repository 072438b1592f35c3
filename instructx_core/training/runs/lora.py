"""`instructx train lora`: a folder of pairs and a model -> a LoRA file. What is wrong is said before it computes.

Folder layout: <output>/<name>/{step-*/, metrics.jsonl, loss.png, sample-*.png, best.safetensors, final.safetensors};
the cache of latents and contexts in <output>/pools; the files for others where `to` says.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ...config import InstructXConfig
from ...data.records import Records
from ...errors import InputError
from ..jobs.lora import LoraJob
from ..lora.base import TaughtModel, open_taught
from ..lora.files import LoraFacts, write_lora, write_taught_adapter
from ..lora.pairs import VALIDATION, open_pairs, pair_counts
from ..machine import Machine
from ..recipes.lora import LoraRecipe
from ..trainer import Trainer

logger = logging.getLogger("instructx")

STEPS, RATE, PATIENCE = 2_000, 1e-4, 6
SMALL_RATE = 3e-3  # of a model of a small world


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What is asked for. changes: fields of the recipe. model: None is the shipped one."""

    pairs: Path
    model: Path | None = None
    parts: dict[str, Path] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    validation: float = VALIDATION
    mirror: bool = False
    name: str = "lora"
    to: Path | None = None  # None: NAME.safetensors in the run's folder
    changes: dict[str, Any] = field(default_factory=dict)

    def target(self, output: Path) -> Path:
        return self.to or output / self.name / f"{self.name}.safetensors"


@dataclass(frozen=True, slots=True)
class LoraSetup:
    """Everything that can be known without a tensor."""

    model: TaughtModel
    source: Records
    recipe: LoraRecipe


def prepare(lesson: Lesson) -> LoraSetup:
    """Raises InputError for a model or pairs that cannot be used, and for fewer pairs than a batch."""
    model = open_taught(lesson.model, lesson.parts)
    source = open_pairs(lesson.pairs, model.config, lesson.instructions, lesson.validation, lesson.mirror)
    recipe = lora_recipe(model, source, lesson)
    return LoraSetup(model, source, recipe)


def lora_recipe(model: TaughtModel, source: Records, lesson: Lesson) -> LoraRecipe:
    """Steps on clips and with references as often as there are such pairs."""
    buckets = source.buckets("train")
    counts = {bucket: source.size("train", bucket) for bucket in buckets}
    total = sum(counts.values())
    clips = sum(count for bucket, count in counts.items() if bucket.modality == "video")
    referenced = sum(count for bucket, count in counts.items() if bucket.reference)
    values: dict[str, Any] = {
        "name": lesson.name,
        "description": "LoRA of an edit taught by pairs",
        "preset": model.config.name,
        "data": lesson.pairs.name,
        "base": model.digest,
        "pairs": source.version,
        "num_steps": STEPS,
        "learning_rate_decay": "linear",
        "learning_rate": SMALL_RATE if is_small(model.config) else RATE,
        "warmup_steps": 50,
        "weight_decay": 0.0,
        "weighting": "none",
        "shift": model.config.sampling.shift,
        "ema_decay": 0.98,
        "image_batch": 4,
        "video_batch": 1,
        "micro_image_batch": 4,
        "micro_video_batch": 1,
        "video_probability": clips / total,
        "reference_probability": referenced / total,
        "save_every": 100,
        "validate_every": 100,
        "sample_every": 100,
        "patience": PATIENCE,
    }
    return LoraRecipe(**values | lesson.changes)


def is_small(config: InstructXConfig) -> bool:
    """Whether it is a model of a drawn world."""
    return bool(config.trained_on)


def train_lora(prepared: LoraSetup, lesson: Lesson, output: Path, machine: Machine, stop_at: int | None) -> Path | None:
    """Starts or resumes; the LoRA file, None when stopped before the end."""
    recipe, folder = prepared.recipe, output / lesson.name
    job = LoraJob(recipe, prepared.model, prepared.source, output, machine)
    count = sum(each.numel() for each in job.trainable.values())
    logger.info("%s pairs; %s trained numbers", pair_counts(prepared.source), f"{count:,}")
    trainer = Trainer(recipe, job, folder, machine.engine, machine.watch)
    final = trainer.run(stop_at)
    if final is None or trainer.rank:
        return None
    with safe_open(final, "pt") as file:
        about = file.metadata()
    facts = LoraFacts(
        recipe,
        prepared.model.config.name,
        pair_counts(prepared.source),
        int(about["step"]),
        float(about.get("loss", "nan")),
    )
    target = lesson.target(output)
    layers = write_lora(target, final, facts)
    logger.info("%s: LoRA of rank %d on %d layers, of step %d", target, recipe.rank, layers, facts.step)
    if recipe.mllm_rank:
        beside = target.with_name(f"{target.stem}_adapter.safetensors")
        layers = write_taught_adapter(beside, final, prepared.model, facts)
        logger.info("%s: the adapter with LoRA of rank %d more on %d layers", beside, recipe.mllm_rank, layers)
    return target


def read_kept(path: Path) -> tuple[str, ...]:
    """Instructions, one a line. Raises InputError for a file without any."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); give a file of instructions") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise InputError(f"{path}: holds no instruction; write one a line, or leave --keep out")
    return found
