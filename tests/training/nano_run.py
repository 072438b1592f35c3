"""For test_runs.py, in its own process or in those of sharded_worker.py: the nano model's stage 2, and its death."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano, nano_stage2

from instructx_core.training.runs.run import build_job
from instructx_core.training.trainer import Trainer


def trainer(folder: Path, steps: int, micro: int) -> Trainer:
    recipe = nano_stage2(num_steps=steps, micro_image_batch=micro, micro_video_batch=micro)
    return Trainer(recipe, build_job(recipe, nano(), folder), folder / recipe.name)


def die_in(victim: Trainer, step: int, share: float) -> None:
    """Counted in calls, of which the step before took as many: the place does not depend on how busy the machine is."""
    calls, last, original = 0, None, victim.train_step

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def train_step() -> dict[str, float | str]:
        nonlocal calls, last
        if victim.step == step - 1:
            sys.setprofile(count)
        elif victim.step == step:
            calls, last = 0, 1 + int(share * calls)
        return original()

    victim.train_step = train_step
