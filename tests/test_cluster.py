"""How work is placed on the machines of a cluster, and what a worker says that cannot do it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from instructx_core.cluster import RowWorker, place_workers
from instructx_core.errors import InputError


def test_how_many_workers() -> None:
    gpus, cpus = [{"CPU": 64, "GPU": 8}, {"CPU": 64, "GPU": 8}, {"CPU": 8}], [{"CPU": 2}, {"CPU": 16}]
    assert place_workers(gpus, None, 100) == (16, {"num_gpus": 1})
    assert place_workers(gpus, None, 3) == (3, {"num_gpus": 1})
    assert place_workers(gpus, 4, 100) == (4, {"num_gpus": 1})
    assert place_workers(cpus, None, 100) == (2, {"num_cpus": 8}), "one a machine, where they fit"
    assert place_workers(cpus, 9, 100) == (9, {"num_cpus": 2})
    assert place_workers([{"CPU": 2}], 2, 100) == (2, {"num_cpus": 1})
    for asked, machines, words in [(17, gpus, "16 GPUs"), (19, cpus, "18 CPU cores"), (0, cpus, "between 1 and 18")]:
        with pytest.raises(InputError, match=words):
            place_workers(machines, asked, 100)


def test_a_worker_prepares_once_and_tells_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []

    def make() -> Any:
        made.append(os.getcwd())
        return lambda value: [value, value + 1]

    worker = RowWorker(make, str(tmp_path))
    assert [json.loads(worker({"row": str(n)})["result"]) for n in (1, 5)] == [{"value": [1, 2]}, {"value": [5, 6]}]
    assert made == [str(tmp_path)]

    def refuse() -> Any:
        raise InputError("no such checkpoint")

    for folder, words in ((str(tmp_path), "no such checkpoint"), (str(tmp_path / "none"), "has no such folder")):
        assert words in json.loads(RowWorker(refuse, folder)({"row": "1"})["result"])["error"]
