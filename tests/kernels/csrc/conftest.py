"""Lets the tests of this folder import its helper modules under --import-mode=importlib; builds the emulator once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import emulator


@pytest.fixture(scope="session")
def emu() -> emulator.Emulator:
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    return emulator.Emulator(emulator.library())
