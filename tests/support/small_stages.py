"""The paper's three stages at a small width, as on two cards: `torchrun` starts this file as it starts the command.

torchrun small_stages.py COMMANDS    JSON, a list of command lines; it loads the libraries once for all of them
"""

from __future__ import annotations

import csv
import dataclasses
import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edit_sets import mixture, pairs, picture, records
from small_paper import short_stages, small_paper, write_base

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.training import distributed
from instructx_core.training.recipes.registry import RECIPES

STAGES = ("stage1", "stage2", "stage3")
SETS = """
[[set]]
path = "films"
weight = 2

[[set]]
path = "photos"

[[set]]
path = "table"
format = "table"
"""


def write_mixture(folder: Path) -> Path:
    """Records with references, a folder of pairs and a table: pictures and clips."""
    records(folder / "films", images=6, clips=6, references=3)
    pairs(folder / "photos", images=4, clips=3)
    rows = [{"source": "a.png", "target": "b.png", "instruction": "paint it"}]
    for number, name in enumerate(("a.png", "b.png")):
        picture(folder / "table" / name, 100 * number)
    with (folder / "table" / "list.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return mixture(folder / "mixture.toml", SETS)


def shrink(setitem: Callable[[dict, str, Any], None] = operator.setitem) -> None:
    """The paper's names stand for the small model and for four steps with a validation and a sample sheet."""
    setitem(PRESETS, "paper_14b", small_paper)
    looks: dict[str, Any] = {"validate_every": 4, "sample_every": 4, "image_batch": 2, "video_batch": 2}
    made = short_stages(num_steps=4, micro_image_batch=1, micro_video_batch=1, data=None, **looks)
    for name, recipe in made.items():
        references = 0.5 if recipe.video_probability else 0.0
        setitem(RECIPES, name, partial(dataclasses.replace, recipe, reference_probability=references))


def launch(commands: Sequence[Sequence[str]], processes: int) -> subprocess.CompletedProcess[str]:
    """Commands one after the other, each by all of the processes that torchrun starts."""
    spread = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [sys.executable, *spread, __file__, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def train_stages(folder: Path, *options: str) -> Path:
    """From public files and a mixture to the weights of stage 3, a command a stage, sharded over two processes.

    Gives the folder of the runs.
    """
    write_base(folder / "base")
    data, output = write_mixture(folder / "sets"), folder / "runs"
    given = ["--data", str(data), "--shard", "--recompute", "--device", "cpu", "--output", str(output), *options]
    commands = [["train", name, *given] for name in STAGES]
    commands[0] += ["--base", str(folder / "base")]
    done = launch(commands, 2)
    assert done.returncode == 0, done.stderr
    return output


if __name__ == "__main__":
    shrink()
    ending, distributed.shutdown = distributed.shutdown, lambda: None  # a command's end is not that of its processes
    codes = [main(each) for each in json.loads(sys.argv[1])]
    ending()
    sys.exit(max(codes))
