"""Whole runs: killed and resumed equals uninterrupted; two processes equal one; a full disk loses nothing.

What needs processes is done by one that forks them (sharded_worker.py); the rest is trained here.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.data.sources import SOURCES
from instructx_core.errors import InputError
from instructx_core.training import checkpoint
from instructx_core.training.distributed import shard
from instructx_core.training.recipes.registry import RECIPES
from instructx_core.training.recipes.vae import VaeRecipe
from instructx_core.training.rng import draw_indices, draw_modality, draw_noise
from instructx_core.training.trainer import repeated_from
from instructx_core.vae import build_vae

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import FAST, small_vae
from small_source import SmallSource

WORKER = Path(__file__).parent / "sharded_worker.py"
STEPS = 6


Train = Callable[..., None]


def final(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "stage2" / "final.safetensors")


@pytest.fixture(scope="module")
def train(load_helper: Callable[[str, str], ModuleType]) -> Train:
    """train(folder): what the processes do, in this one, on one thread as there."""
    nano_run = load_helper("instructx_test_nano_run", "training/nano_run.py")

    def run(folder: Path, micro: int = 4) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            nano_run.trainer(folder, STEPS, micro).run()
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture(scope="module")
def uninterrupted(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


@dataclass(frozen=True)
class Forked:
    """killed: the folder of a run that was killed in `place`. two: of one by two processes."""

    killed: Path
    place: tuple[int, float]
    two: Path


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Forked:
    folder, chance = tmp_path_factory.mktemp("forked"), random.Random(os.getpid())
    made = Forked(folder / "killed", (chance.randint(1, STEPS - 2), chance.random()), folder / "two")
    launches = [
        {"world": 1, "tasks": [["train_nano", str(made.killed), STEPS, 4, *made.place]]},
        {"world": 2, "tasks": [["train_nano", str(made.two), STEPS, 4]]},
    ]
    done = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(launches)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == [[-signal.SIGKILL], [0, 0]], f"was not killed in {made.place}: {done.stderr}"
    return made


def test_killed_and_resumed_equals_uninterrupted(uninterrupted: Path, forked: Forked, train: Train) -> None:
    assert not (forked.killed / "stage2" / "final.safetensors").exists()
    train(forked.killed)
    whole, resumed = final(uninterrupted), final(forked.killed)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), f"killed in {forked.place}"


def test_two_processes_train_like_one(uninterrupted: Path, forked: Forked) -> None:
    whole, shared = final(uninterrupted), final(forked.two)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, shared[name], atol=2e-5), name


def test_accumulation_equals_one_large_batch(uninterrupted: Path, train: Train, tmp_path: Path) -> None:
    train(tmp_path, micro=1)
    whole, small = final(uninterrupted), final(tmp_path)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, small[name], atol=2e-5), name


def test_shards_cover_the_batch_once() -> None:
    for world in (1, 2, 3):
        seen = [i for rank in range(world) for part in shard(7, rank, world, 2) for i in part]
        assert seen == list(range(7))


def test_a_checkpoint_lies_before_the_end_of_any_run() -> None:
    assert [repeated_from(steps) for steps in (1, 2, 3, 150, 400, 401, 5_000)] == [0, 1, 1, 75, 200, 201, 4_800]


def test_draws_do_not_depend_on_the_process() -> None:
    assert draw_modality(1, 5, 0.6) == draw_modality(1, 5, 0.6)
    share = sum(draw_modality(0, step, 0.6) == "video" for step in range(2000)) / 2000
    assert share == pytest.approx(0.6, abs=0.04)
    assert (draw_indices(0, 3, 8, 100) == draw_indices(0, 3, 8, 100)).all()
    both = draw_noise(0, 3, range(4), (2, 2))
    assert torch.equal(both[2:], draw_noise(0, 3, range(2, 4), (2, 2)))


# --- checkpoints ---


def state(step: int) -> checkpoint.Checkpoint:
    return checkpoint.Checkpoint(step, {"w": torch.full((3,), float(step))}, {}, {"w|exp_avg": torch.zeros(3)})


def test_only_the_newest_are_kept_and_read(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save_state(tmp_path, state(step), {"name": "x"})
    assert [p.name for p in checkpoint.step_folders(tmp_path)] == ["step-0000002", "step-0000003"]
    loaded = checkpoint.load_latest(tmp_path, {"name": "x"})
    assert loaded is not None and loaded.step == 3 and loaded.model["w"].tolist() == [3, 3, 3]


def test_a_full_disk_keeps_the_last_good_one(tmp_path: Path) -> None:
    """A real full file system: /dev/full stands where the optimiser's file would go."""
    checkpoint.save_state(tmp_path, state(1), {"name": "x"})
    partial = tmp_path / f".partial-0000002-{os.getpid()}"
    original = Path.mkdir

    def mkdir_with_full_file(self: Path, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        if self == partial:
            (self / "state.json").symlink_to("/dev/full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir_with_full_file)
        with pytest.raises(InputError, match="last good checkpoint is kept"):
            checkpoint.save_state(tmp_path, state(2), {"name": "x"})
    assert not partial.exists()
    loaded = checkpoint.load_latest(tmp_path, {"name": "x"})
    assert loaded is not None and loaded.step == 1


def test_a_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path, state(1), {"name": "x"})
    (tmp_path / ".partial-0000002-1").mkdir()
    (tmp_path / "step-0000009").mkdir()  # no state.json: never finished
    loaded = checkpoint.load_latest(tmp_path, {"name": "x"})
    assert loaded is not None and loaded.step == 1


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path, state(1), {"name": "x", "learning_rate": 1.0, "num_steps": 5})
    with pytest.raises(InputError, match="learning_rate"):
        checkpoint.load_latest(tmp_path, {"name": "x", "learning_rate": 2.0, "num_steps": 5})
    longer = checkpoint.load_latest(tmp_path, {"name": "x", "learning_rate": 1.0, "num_steps": 9})
    assert longer is not None  # a run may be made longer


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = checkpoint.save_state(tmp_path, state(1), {"name": "x"})
    (path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load_latest(tmp_path, {"name": "x"})


def test_a_run_that_is_not_finite_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started from weights with a NaN in them."""
    values = {"description": "", "data": "small", "num_steps": 1, "image_pool": 4, "image_validation": 1}
    monkeypatch.setitem(SOURCES, "small", lambda rest: SmallSource(count=8))
    monkeypatch.setitem(PRESETS, "tiny", small_vae)
    monkeypatch.setitem(RECIPES, "next", lambda: VaeRecipe(**FAST | values | {"name": "next", "requires": ("first",)}))
    start = tmp_path / "first"
    start.mkdir()
    tensors = {f"vae.{name}": p.detach().clone() for name, p in build_vae(small_vae().vae).named_parameters()}
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, start / "final.safetensors")
    assert main(["train", "next", "--output", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"error: step 0: loss nan.*not finite; check the weights.*", said)
    assert not (tmp_path / "next" / "final.safetensors").exists()
