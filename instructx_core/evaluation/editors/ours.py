"""InstructX as an editor of benchmarks: an item becomes an EditRequest, edited as `instructx edit` does it.

Place: items -> ours (editing/edit.py) -> outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...editing.edit import edit
from ...editing.look import look_at
from ...editing.request import EditRequest
from ..partial import fingerprint
from .run import EditTask

if TYPE_CHECKING:
    from ...pipeline import InstructXPipeline


class Ours:
    """steps, guidance, max_pixels: None is the model's own."""

    def __init__(
        self,
        pipe: InstructXPipeline,
        name: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.pipe = pipe
        self.name = name or f"instructx-{pipe.instructx_config.name}"
        self.options: dict[str, Any] = {"steps": steps, "guidance": guidance, "max_pixels": max_pixels}

    @property
    def settings(self) -> Mapping[str, Any]:
        scheduler, cache = self.pipe.scheduler, self.pipe.step_cache
        numbers = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
        running = {
            "scheduler": {"kind": type(scheduler).__name__, **json.loads(json.dumps(numbers, default=str))},
            "cache": None if cache is None else f"{cache.kind}:{cache.threshold:g}",
        }
        return {"kind": "instructx", "model": fingerprint(self.pipe), **self.options, **running}

    def edit(self, task: EditTask) -> None:
        request = EditRequest(
            source=task.source,
            instruction=task.item.instruction,
            output=task.output,
            references=() if task.reference is None else (task.reference,),
            seed=task.seed,
            **self.options,
        )
        edit(self.pipe, look_at(request))
