"""Whether all samples of a stage are encoded already: then neither the VAE nor a frozen vision tower is loaded.

Between edit_pools.py, whose shards are named by what encoded them, and jobs/edit.py. `pools/encoders.json` remembers
that name for the files and settings that it was made of, so that it is known without reading them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from ..config import InstructXConfig
from ..data.cache import Cache
from ..formats.layouts.files import BaseFiles
from . import distributed
from .base import size_of_weights
from .edit_pools import PoolPlan, StageShards
from .recipes.base import Recipe

ENCODERS = "encoders.json"
ENCODING = ("vae", "text_encoder")  # the files that samples are encoded with


def _settings(recipe: Recipe, config: InstructXConfig, base: BaseFiles) -> str:
    """Of everything, beside what is in the files, that a mark depends on."""
    parts = [dataclasses.asdict(each) for each in (config.vae, config.mllm.vision, config.instruction, config.lora)]
    parts += [recipe.precision, [str(getattr(base, name).resolve()) for name in ENCODING]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def note_mark(cache: Cache, recipe: Recipe, config: InstructXConfig, base: BaseFiles, mark: str) -> None:
    """Remembers the pool_mark of the models in `base`."""
    path = cache.folder / ENCODERS
    sizes = {name: size_of_weights(getattr(base, name)) for name in ENCODING}
    noted = _noted(path) | {_settings(recipe, config, base): {"mark": mark, "sizes": sizes}}
    path.with_suffix(".partial").write_text(json.dumps(noted, indent=1) + "\n")
    path.with_suffix(".partial").replace(path)


def _noted(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text()) if path.is_file() else {}


def encoded_shards(
    plan: PoolPlan, cache: Cache, recipe: Recipe, config: InstructXConfig, base: BaseFiles
) -> StageShards | None:
    """The shards of a stage, when every one is there; None when something has to be encoded first.

    All processes find the same: none goes on before all have looked. A file of another size than the one that was
    encoded with makes nothing its own; a file that is gone is not missed.
    """
    distributed.wait()
    entry = _noted(cache.folder / ENCODERS).get(_settings(recipe, config, base))
    found = None
    if entry and all(size_of_weights(getattr(base, name)) in (0, size) for name, size in entry["sizes"].items()):
        shards = plan.shards(cache, entry["mark"])
        found = shards if all(task.path.is_file() for some in shards.values() for task in some) else None
    distributed.wait()
    return found
