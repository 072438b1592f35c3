"""Several processes: sharing a list is a pure function; a split clip equals the whole one on two gloo processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.parallel import Place, place_of, share


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_item_goes_to_one_process(world: int) -> None:
    items = list(range(5))
    parts = [share(items, Place(rank, world, rank)) for rank in range(world)]
    assert sorted(item for part in parts for item in part) == items and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_place_comes_from_torchrun() -> None:
    assert place_of({}) == Place(0, 1, 0)
    assert place_of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Place(5, 8, 1)
    for wrong in ({"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}):
        with pytest.raises(InputError, match="torchrun"):
            place_of(wrong)


@pytest.mark.slow
def test_a_split_clip_equals_the_whole_one() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0",
               "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0",
               str(Path(__file__).with_name("parallel_worker.py"))]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "EQUAL" in done.stdout, done.stderr[-3000:]


def test_a_list_of_jobs_is_shared_under_torchrun(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """No line can be run here, so no model is loaded; what counts is who takes which."""
    from instructx_core.cli import main

    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(f'{{"input": "no{i}.png", "instruction": "x", "output": "o{i}.png"}}\n' for i in range(3)))
    for rank, lines in ((0, [1, 3]), (1, [2])):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        assert main(["edit", "--jobs", str(jobs)]) == 1
        out = capsys.readouterr().out
        assert f"{len(lines)} jobs: 0 done, 0 skipped, {len(lines)} failed" in out
        assert all((f"o{i - 1}.png" in out or f"no{i - 1}.png" in out) == (i in lines) for i in (1, 2, 3))
