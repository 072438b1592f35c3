"""Sharded runs of the paper's model at a small width: they learn what one process learns, and go on after any kill.

One worker process does all launches (sharded_worker.py); the tests below read what it left.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from instructx_core.errors import InputError
from instructx_core.formats.layouts.files import find_base
from instructx_core.training import sharded_checkpoint
from instructx_core.training.base import remember_base
from instructx_core.training.engine import check_batches

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_paper import short_stages, small_paper, write_base

WORKER = Path(__file__).parent / "sharded_worker.py"


@pytest.fixture(scope="module")
def worker(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    return load_helper("instructx_test_sharded_worker", "training/sharded_worker.py")


@pytest.fixture(scope="module")
def output(worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one: this process alone. two, whole: two processes, sharded and not. killed: two that died saving and went on."""
    folder = tmp_path_factory.mktemp("sharded")
    write_base(folder / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(worker.PRESETS, "paper_14b", small_paper)
        patch.setitem(worker.SOURCES, "small", worker.SOURCES.get("small"))
        worker.shrink()
        remember_base(folder, find_base(folder / "base", {}), small_paper())
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        worker.train(str(folder), "one", True)
        torch.set_num_threads(threads)
    place = str(folder)
    launches = [
        {"world": 2, "tasks": [["die_saving", place, "killed"]]},
        {
            "world": 2,
            "tasks": [
                ["train", place, "two", True],
                ["train", place, "whole", False],
                ["train", place, "offloaded", True, True, 6],
                ["dump", place, "killed", True, str(folder / "killed.safetensors")],
                ["train", place, "killed", True],
                ["dump", place, "one", True, str(folder / "one-on-two.safetensors")],
            ],
        },
        {"world": 4, "tasks": [["dump", place, "two", True, str(folder / "two-on-four.safetensors")]]},
        {"world": 1, "tasks": [["dump", place, "two", True, str(folder / "two-on-one.safetensors")]]},
        {"world": 1, "tasks": [["dump", place, "one", True, str(folder / "one-on-one.safetensors")]]},
    ]
    done = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(launches)], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert -signal.SIGKILL in codes[0] and 0 not in codes[0], done.stderr
    assert codes[1:] == [[0, 0], [0] * 4, [0], [0]], done.stderr
    return folder


def losses(folder: Path) -> list[tuple[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["bucket"], row["loss"]) for row in rows]


def same(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize("other", ["two", "whole", "offloaded"])
def test_two_processes_learn_what_one_learns(other: str, output: Path) -> None:
    """Over 20 steps of images and clips; sharded, replicated, and with the shards in the host's memory."""
    alone, shared = losses(output / "one"), losses(output / other)
    assert len(alone) == 20 and {bucket for bucket, _ in alone} == {"image", "video", "video+reference"}
    if other == "offloaded":
        alone = alone[:6]
    assert [bucket for bucket, _ in alone] == [bucket for bucket, _ in shared], "the same draw on all processes"
    assert [loss for _, loss in shared] == pytest.approx([loss for _, loss in alone], abs=1e-5)
    if other == "offloaded":
        return
    first, second = (load_file(output / run / "final.safetensors") for run in ("one", other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.allclose(tensor, second[name], atol=1e-5, rtol=0), name


def test_killed_while_saving_goes_on_to_the_bit(output: Path) -> None:
    assert same(output / "two" / "final.safetensors", output / "killed" / "final.safetensors")
    assert losses(output / "two") == losses(output / "killed")
    assert not list((output / "killed").glob(".partial-*")), "what the kill left is gone"
    resumed = load_file(output / "killed.safetensors")
    assert any(name.endswith("|exp_avg_sq") for name in resumed), "the optimiser is there too"


@pytest.mark.parametrize("moved", [("one-on-two", "one-on-one"), ("two-on-four", "two-on-one")])
def test_any_number_of_processes_reads_the_same_bits(moved: tuple[str, str], output: Path) -> None:
    """1 to 2, 2 to 4, 2 to 1."""
    first, second = (output / f"{name}.safetensors" for name in moved)
    assert same(first, second)
    assert {name.split("|")[0] for name in load_file(first)} > {"model", "ema"}


def test_a_checkpoint_without_one_of_its_files_is_refused(output: Path, tmp_path: Path) -> None:
    """Rows that are missing would be left as they were drawn."""
    newest = sorted((output / "two").glob("step-*"))[-1]
    copy = shutil.copytree(newest, tmp_path / newest.name)
    sorted((copy / "model").glob("*.safetensors"))[0].unlink()
    with pytest.raises(InputError, match=r"model has 1 of 2 files; delete .* to resume from the one before"):
        sharded_checkpoint.load_part(copy, "model", {})
    copy = shutil.copytree(newest, tmp_path / "damaged")
    damaged = sorted((copy / "model").glob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        sharded_checkpoint.load_part(copy, "model", {})
    with pytest.raises(InputError, match=r"has no \S+image of shape \(3, 7\); it is a checkpoint of another model"):
        sharded_checkpoint.load_part(newest, "model", {"encoder.queries.image": torch.zeros(3, 7)})


def test_processes_that_do_not_divide_a_batch_are_refused() -> None:
    recipe = short_stages()["stage2"]
    check_batches(recipe, 4)
    with pytest.raises(InputError, match=r"image_batch is 4 over 3 processes; .* start 2 processes"):
        check_batches(recipe, 3)
