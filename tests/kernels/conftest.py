"""Fixtures of the kernel tests: a stand-in for driver and compiler, and a Runtime on it whose cards are the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from instructx_core.kernels import abi, loader, select
from instructx_core.kernels.cache import KernelCache
from instructx_core.kernels.driver import Driver
from instructx_core.kernels.nvrtc import Nvrtc
from instructx_core.kernels.select import Verdict

HERE = Path(__file__).parent
NAMES = ("\n" + "\n".join(abi.KERNELS) + "\n").encode()
# What makes another process's `runtime()` this one.
BOOT = """
import ctypes
from pathlib import Path
from instructx_core.kernels import loader
from instructx_core.kernels.cache import KernelCache
from instructx_core.kernels.driver import Driver
from instructx_core.kernels.nvrtc import Nvrtc
lib = ctypes.CDLL({path!r})
lib.stand_in_kernels({kernels!r})
{more}
found = Driver({path!r}), lambda: Nvrtc({path!r}), KernelCache(Path({folder!r}))
loader.installed(loader.Runtime(*found, device_type="cpu")).__enter__()
"""
GOOD = Verdict("card", (8, 9), {"exact": 0.002, "int8": 0.009}, {}, {})


class StandIn:
    """The library behind both: `.lib` has the controls (stand_in_card, stand_in_break, stand_in_log, ...)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.more = ""  # controls that a child process sets as well
        self.lib = ctypes.CDLL(str(path))
        self.lib.stand_in_log.restype = ctypes.c_char_p
        self.lib.stand_in_headers.restype = ctypes.c_char_p

    def reset(self) -> None:
        self.lib.stand_in_reset()
        self.lib.stand_in_kernels(NAMES)

    def launches(self) -> list[str]:
        return self.lib.stand_in_log().decode().splitlines()

    def break_(self, function: str) -> None:
        self.lib.stand_in_break(function.encode())

    def runtime(self, folder: Path | None) -> loader.Runtime:
        boot = BOOT.format(path=str(self.path), folder=str(folder), kernels=NAMES, more=self.more)
        found = Driver(self.path), lambda: Nvrtc(self.path), KernelCache(folder)
        return loader.Runtime(*found, device_type="cpu", boot=boot)


@pytest.fixture(scope="session")
def _stand_in_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the stand-in driver with")
    out = tmp_path_factory.mktemp("stand_in") / "stand_in.so"
    source = HERE / "stand_in.cpp"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-std=c++17", "-o", out, source, "-ldl"], check=True)
    return out


@pytest.fixture
def stand_in(_stand_in_library: Path) -> StandIn:
    made = StandIn(_stand_in_library)
    made.reset()
    return made


@pytest.fixture(scope="session")
def _emulator_library(load_helper: Callable[[str, str], ModuleType]) -> Path:
    emulator = load_helper("instructx_test_emulator", "kernels/csrc/emulator.py")
    if not emulator.available():
        pytest.skip("no C++ compiler to build the kernels for the CPU with")
    return emulator.library()


@pytest.fixture
def emulated(stand_in: StandIn, on_stand_in: loader.Runtime, _emulator_library: Path) -> loader.Runtime:
    """As `on_stand_in`, and launches run the kernels, in the emulator."""
    assert stand_in.lib.stand_in_emulator(str(_emulator_library).encode()) == 0
    on_stand_in.boot += f"lib.stand_in_emulator({str(_emulator_library).encode()!r})"
    return on_stand_in


@pytest.fixture
def on_stand_in(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[loader.Runtime]:
    """`loader.runtime()` is a card that launches nothing but the stand-in's log; judgements of cards start empty."""
    monkeypatch.setattr(select, "_verdicts", {})
    monkeypatch.setattr(select, "_loaded", set())
    with loader.installed(stand_in.runtime(tmp_path / "cache")) as runtime:
        yield runtime


@pytest.fixture
def good() -> Verdict:
    """The judgement of a card on which both kernels passed."""
    return GOOD


@pytest.fixture
def good_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device is such a card, and no call is too short for our kernels."""
    monkeypatch.setattr(select, "verdict", lambda device, again=False: GOOD)
    monkeypatch.setattr(select, "MIN_TOKENS", 1)
