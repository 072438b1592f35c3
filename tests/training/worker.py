"""For test_runs.py, and run by it as a process: trains the nano model's stage 2 under FOLDER to STEPS and exports it.

python worker.py FOLDER STEPS MICRO [STEP SHARE]       killed in that step, after that share of its calls
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = trainer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    if len(sys.argv) > 4:
        die_in(made, int(sys.argv[4]), float(sys.argv[5]))
    made.run()
