"""From source text to a launch: NVRTC compiles once, the cache keeps it, the driver loads it, torch's stream runs it.

Place in the data flow: an op calls `runtime().launch(...)`; nothing happens before the first call. A `Runtime` is
one driver + one compiler + one cache. Its device type is "cuda"; the tests install one whose driver runs the kernels
on the CPU, so that everything from the torch op to the launch is exercised without a GPU (docs/kernels.md).
"""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch

from . import abi
from .cache import KernelCache, digest
from .driver import Driver
from .errors import KernelError, Refusal
from .nvrtc import Nvrtc, find_nvrtc

logger = logging.getLogger("instructx")

SOURCE_FOLDER = Path(__file__).parent / "csrc"
FORMAT = "1"  # part of every key: raise it when the meaning of an entry changes
MINIMUM_CAPABILITY = (8, 0)


@functools.cache
def source_text(name: str) -> str:
    """Text of one file in csrc/. Raises KernelError when the installation lacks it."""
    try:
        return (SOURCE_FOLDER / name).read_text(encoding="utf-8")
    except OSError as error:
        raise KernelError(f"kernel source {name} is missing ({error}); reinstall instructx") from None


def headers() -> dict[str, str]:
    """What `#include "..."` finds: every header of csrc/ that the GPU code needs, by name."""
    return {name: source_text(name) for name in abi.HEADERS}


@functools.cache
def sources_digest() -> str:
    """Names all sources and options: a measurement or a compiled file is valid for these alone."""
    texts = [part for name in (*abi.HEADERS, *abi.SOURCES) for part in (name, source_text(name))]
    return digest(FORMAT, *texts, *abi.COMPILE_OPTIONS)


class Runtime:
    """One driver, one compiler, one cache. Thread-safe; the methods raise KernelError with the reason."""

    def __init__(
        self,
        driver: Driver,
        compiler: Callable[[], Nvrtc] = find_nvrtc,
        cache: KernelCache | None = None,
        device_type: str = "cuda",
        boot: str = "",
    ) -> None:
        """boot: Python text that installs the same runtime in another process; none for the real one."""
        self.driver = driver
        self.cache = cache or KernelCache()
        self.device_type, self.boot = device_type, boot
        self._find_compiler = compiler
        self._kernels: dict[tuple[int, str], int] = {}
        self._libraries: dict[tuple[tuple[int, int], str], int] = {}
        self._cards: dict[int, str] = {}
        self._handles: dict[int, int] = {}
        self._lock = threading.RLock()

    @cached_property
    def compiler(self) -> Nvrtc:
        return self._find_compiler()

    def index(self, device: torch.device) -> int:
        """Number of the card. Raises KernelError for a device that these kernels do not run on."""
        if device.type != self.device_type:
            raise KernelError(f"tensors are on {device.type}, the kernels run on {self.device_type}")
        if device.index is not None:
            return device.index
        return torch.cuda.current_device() if device.type == "cuda" else 0

    def handle(self, index: int) -> int:
        """The driver's handle of the card that torch numbers `index`, also where both count differently."""
        if index not in self._handles:
            self._handles[index] = self.driver.device_of(index, self.uuid(index))
        return self._handles[index]

    def uuid(self, index: int) -> str | None:
        """What torch calls the card, 32 hex digits; None where it tells nothing."""
        if self.device_type != "cuda":
            return None
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        return None if uuid is None else str(uuid).replace("-", "").lower()

    def capability(self, device: torch.device) -> tuple[int, int]:
        return self.driver.capability(self.handle(self.index(device)))

    def card(self, device: torch.device) -> str:
        """The card for a human and for keys: "NVIDIA GeForce RTX 4090, sm_89, driver 13.0"."""
        index = self.index(device)
        if index not in self._cards:
            handle = self.handle(index)
            major, minor = self.driver.capability(handle)
            driver = ".".join(map(str, self.driver.version))
            self._cards[index] = f"{self.driver.name(handle)}, sm_{major}{minor}, driver {driver}"
        return self._cards[index]

    def launch(self, name: str, arguments: ctypes.Structure, grid: abi.Dim3, device: torch.device, heads: int) -> None:
        """Enqueue a kernel on torch's current stream of `device`. Allocates nothing, waits for nothing."""
        kernel = abi.KERNELS[name]
        index = self.index(device)
        shared = kernel.shared(heads)
        if shared > abi.MAX_SHARED:
            raise Refusal(
                f"{name} needs {shared} bytes of shared memory for {heads} heads, a block has {abi.MAX_SHARED}"
            )
        if max(grid[1:]) > abi.MAX_GRID:
            raise Refusal(f"{name} needs a grid of {grid}, whose second and third axis end at {abi.MAX_GRID}")
        handle = self._kernel(index, kernel)
        with self._on(device) as stream:
            self.driver.launch(handle, grid, kernel.block, shared, stream, arguments)

    def load_all(self, device: torch.device) -> None:
        """Compiles and loads every kernel on a card, so that a CUDA graph may capture whichever comes first."""
        for kernel in abi.KERNELS.values():
            self._kernel(self.index(device), kernel)

    def code(self, source: str, target: str) -> bytes:
        """Compiled `source` for "sm_89" or "compute_120", from the cache or fresh."""
        nvrtc = self.compiler
        version = ".".join(map(str, nvrtc.version))
        key = digest(FORMAT, source, source_text(source), *_flat(headers()), target, version, *abi.COMPILE_OPTIONS)
        found = self.cache.get(key)
        if found is not None and _looks_right(found, target):
            return found
        with self.cache.lock(key):
            found = self.cache.get(key)  # another worker may have made it while this one waited
            if found is not None and _looks_right(found, target):
                return found
            logger.info("attention: compiling %s for %s (once, a few seconds)", source, target)
            began = time.perf_counter()
            made = nvrtc.compile(source, source_text(source), headers(), abi.COMPILE_OPTIONS, target)
            logger.debug("attention: %s compiled in %.1f s", source, time.perf_counter() - began)
            self.cache.put(key, made)
            return made

    def _kernel(self, index: int, kernel: abi.Kernel) -> int:
        """Handle of a loaded kernel, allowed all of a block's shared memory if its need grows with the heads."""
        slot = (index, kernel.name)
        if slot in self._kernels:
            return self._kernels[slot]
        device = torch.device(self.device_type, index)
        if self.device_type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise Refusal("the kernels were not loaded before a CUDA graph was captured; run once without")
        with self._lock, self._on(device):
            if slot not in self._kernels:
                library = self._library(index, kernel.source)
                shared = abi.MAX_SHARED if kernel.shared(1) != kernel.shared(2) else kernel.shared(1)
                self._kernels[slot] = self.driver.kernel(library, kernel.name, self.handle(index), shared)
        return self._kernels[slot]

    def _library(self, index: int, source: str) -> int:
        """Loaded once for all cards of one architecture."""
        capability = self.driver.capability(self.handle(index))
        if capability < MINIMUM_CAPABILITY:
            raise KernelError(f"sm_{capability[0]}{capability[1]} is too old, the kernels need sm_80 or newer")
        if (capability, source) not in self._libraries:
            target = self.compiler.target(capability)
            self._libraries[capability, source] = self.driver.load(self.code(source, target))
        return self._libraries[capability, source]

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[int]:
        """Context in which `device` is current, whatever ends it; gives the handle of torch's current stream on it."""
        if self.device_type != "cuda":
            yield 0
            return
        with torch.cuda.device(device):
            stream = torch.cuda.current_stream(device)
            self.driver.ensure_context(self.handle(stream.device_index))
            yield stream.cuda_stream


def _flat(texts: dict[str, str]) -> list[str]:
    return [part for pair in texts.items() for part in pair]


def _looks_right(code: bytes, target: str) -> bool:
    return code.startswith(b"\x7fELF") if target.startswith("sm_") else b".version" in code[:4096]


_installed: list[Runtime] = []  # of the tests
_found: dict[str, Runtime | KernelError] = {}


def runtime() -> Runtime:
    """The process's runtime, made on the first call. Raises KernelError, always the same, where there is none."""
    if _installed:
        return _installed[-1]
    if "cuda" not in _found:
        try:
            if torch.version.cuda is None:
                raise KernelError("this torch is built without CUDA")
            if not torch.cuda.is_available():
                raise KernelError("torch sees no CUDA device")
            _found["cuda"] = Runtime(Driver())
        except KernelError as error:
            _found["cuda"] = error
    found = _found["cuda"]
    if isinstance(found, KernelError):
        raise KernelError(str(found))
    return found


def kernels_possible(device_type: str) -> bool:
    """Whether kernels could run there, judged without touching a device."""
    if _installed:
        return _installed[-1].device_type == device_type
    return device_type == "cuda" and torch.version.cuda is not None


class installed:
    """`with installed(runtime):` makes `runtime()` return another one. For tests and tools."""

    def __init__(self, other: Runtime) -> None:
        self._other = other

    def __enter__(self) -> Runtime:
        _installed.append(self._other)
        return self._other

    def __exit__(self, *exception: object) -> None:
        _installed.remove(self._other)
