"""Fixtures of the host lane: one ComfyUI for the session, and a factory for hosts of one's own.

Run with `pytest -m comfyui` after `pip install -r tests/comfyui/requirements.txt`. Nothing is skipped: where the host
cannot be had, the fixture fails and names the remedy. COMFYUI_PATH runs the same lane on another host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def hosting(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    """The module tests/comfyui/host.py."""
    return load_helper("instructx_test_host", "comfyui/host.py")


@pytest.fixture(scope="session")
def boot(hosting: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """boot(packs=(...), extra=(...)) -> a started Host in a folder of its own; stopped at the end of the session."""
    hosts = []

    def start(**options: Any) -> Any:
        base: Path = tmp_path_factory.mktemp("host")
        host = hosting.Host(hosting.host_tree(), base, **options)
        hosts.append(host)
        return host.start()

    yield start
    for host in hosts:
        host.stop()


@pytest.fixture(scope="module")
def graphs(load_helper: Any) -> Any:
    """The module test_interplay.py, for its graphs."""
    return load_helper("instructx_interplay_graphs", "comfyui/test_interplay.py")


@pytest.fixture(scope="session")
def host(boot: Callable[..., Any]) -> Any:
    """The session's host, with the pack under its usual name."""
    return boot()
