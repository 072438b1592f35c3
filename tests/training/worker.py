"""Run as a process by test_runs.py: trains the nano model's stage 2 under FOLDER to STEPS and exports it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano, nano_stage2

from instructx_core.training.run import build_job
from instructx_core.training.trainer import Trainer

if __name__ == "__main__":
    folder, steps, micro = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    recipe = nano_stage2(num_steps=steps, micro_image_batch=micro, micro_video_batch=micro)
    Trainer(recipe, build_job(recipe, nano(), folder), folder / recipe.name).run()
