"""InstructX as an editor: outputs of other weights, another sampler or a cache are never taken for these."""

from __future__ import annotations

import json
from typing import Any

import torch

from instructx_core.evaluation.editors.ours import Ours
from instructx_core.sampling.schedule import build_scheduler


def test_settings_say_all_that_decides_the_outputs(random_pipe: Any) -> None:
    scheduler, found = random_pipe.scheduler, list[str]()

    def note() -> None:
        found.append(json.dumps(Ours(random_pipe).settings, sort_keys=True))

    try:
        note()
        note()
        assert found[0] == found[1]
        other = "unipc" if "Euler" in type(scheduler).__name__ else "euler"
        random_pipe.scheduler = build_scheduler(random_pipe.instructx_config, other)
        note()
        random_pipe.scheduler = scheduler
        random_pipe.enable_cache("first-block:0.1")
        note()
        random_pipe.enable_cache("first-block:0.2")
        note()
        random_pipe.disable_cache()
        weight = next(random_pipe.transformer.parameters())
        with torch.no_grad():
            weight.view(-1)[0] += 1.0
            note()
            weight.view(-1)[0] -= 1.0
    finally:
        random_pipe.scheduler = scheduler
        random_pipe.disable_cache()
    assert len(set(found)) == 5
