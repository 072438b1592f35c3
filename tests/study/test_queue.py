"""A run's folder belongs to one command at a time, where the system has locks; without them the study runs as well."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from instructx_core.study.queue import _lock


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock that a crash lifts")
def test_one_command_has_a_folder(tmp_path: Path) -> None:
    with _lock(tmp_path) as first, _lock(tmp_path) as second:
        assert (first, second) == (True, False)
    with _lock(tmp_path) as again:
        assert again


def test_without_locks_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fcntl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with _lock(tmp_path) as free:
        assert free
