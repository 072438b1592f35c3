"""A start for the study that is there today: the shipped VAE and MLLM, and a DiT that has learnt captions alone.

Before queue.py, for the scales whose start is START. The shipped DiT has learnt edits from InstructX's own context,
which would favour that design; so one is trained from nothing on captions, with the text encoder that design (a) needs,
on the first world. The shipped model's VAE, its MLLM without LoRA and its tokenizer are taken as they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save_file

from ..errors import InputError
from ..formats.layouts.files import find_files
from ..formats.layouts.folders import SHIPPED
from ..training.machine import Machine
from ..training.recipes.registry import command_of
from ..training.recipes.text_to_video import TextToVideoRecipe
from ..training.runs.chain import is_done
from ..training.runs.run import train
from ..training.start import shipped_weights
from ..training.trainer import FINAL
from .scales import SMALL
from .schedule import Scale

PARTS_OF_SHIPPED = {"study_vae": "vae.", "study_mllm": "encoder.mllm."}


def caption_recipe(scale: Scale) -> TextToVideoRecipe:
    """Few steps where the scale's own are few."""
    few = scale.edit["num_steps"] < 100
    names = set(TextToVideoRecipe.__dataclass_fields__)
    settings = {name: value for name, value in SMALL.items() if name in names}
    settings |= {"image_batch": 32, "micro_image_batch": 32, "save_every": 500}
    if few:
        settings |= {"image_batch": 4, "micro_image_batch": 4, "video_batch": 2, "micro_video_batch": 2}
    return TextToVideoRecipe(
        **settings
        | {
            "name": "study_dit",
            "description": "the DiT draws scenes from captions",
            "preset": scale.preset,
            "data": "shapes",
            "requires": ("study_vae",),
            "num_steps": 4 if few else 4_000,
            "shift": 3.0,
            "video_probability": 0.25,
            "image_pool": 4 if few else 8_000,
            "video_pool": 2 if few else 800,
        }
    )


def check_start(scale: Scale, output: Path) -> None:
    """Raises InputError where a part is missing that all variants begin with."""
    for part in scale.start:
        path = output / part / FINAL
        if not path.is_file():
            raise InputError(f"{path} is missing; run `{command_of(part)} --output {output}` first")


def make_start(scale: Scale, output: Path, machine: Machine) -> bool:
    """Writes or resumes what is missing; False when a signal stopped it."""
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "tokenizer.json").is_file():
        shutil.copyfile(find_files(SHIPPED).tokenizer, output / ".tokenizer.json")
        (output / ".tokenizer.json").replace(output / "tokenizer.json")
    missing = [name for name in PARTS_OF_SHIPPED if not (output / name / FINAL).is_file()]
    weights = {name.replace(".base_layer.", "."): value for name, value in shipped_weights().items()} if missing else {}
    for name in missing:
        prefix = PARTS_OF_SHIPPED[name]
        part = {k: v.contiguous() for k, v in weights.items() if k.startswith(prefix) and ".lora_" not in k}
        (output / name).mkdir(exist_ok=True)
        save_file(part, output / name / f".{FINAL}")
        (output / name / f".{FINAL}").replace(output / name / FINAL)
    recipe = caption_recipe(scale)
    return is_done(output, recipe) or train(recipe, output, None, machine) is not None
