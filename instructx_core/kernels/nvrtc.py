"""NVRTC, NVIDIA's run-time compiler: found in what torch brought along, called through ctypes.

Place in the data flow: `loader.py` gives sources and headers (text, no file paths), gets a cubin, or PTX where the card
is newer than this NVRTC knows. A CUDA build of torch always carries NVRTC, so the user installs nothing.
Names: Linux libnvrtc.so.13 + libnvrtc-builtins.so.13.0, Windows nvrtc64_130_0.dll + nvrtc-builtins64_130.dll. NVRTC
opens its builtins by bare name and fails when they are not loaded yet: they are loaded first (pytorch#58101).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import KernelError

_FOLDERS = ("lib", "lib64", "lib/x64", "bin", "bin/x64", "bin/x86_64", "Library/bin", "targets/x86_64-linux/lib")


def search_roots(version: str | None) -> list[Path]:
    """Folders that may hold NVRTC, best first: torch's own, NVIDIA's wheels, CUDA_PATH, conda.

    version: torch.version.cuda, e.g. "13.0"; wheels of another major version come last.
    """
    roots = [Path(path) / "lib" for path in _package_paths("torch")]
    wheels = [Path(path) for path in _package_paths("nvidia")]
    major = (version or "").split(".")[0]
    named = [f"cu{major}", "cuda_nvrtc"] if major else ["cuda_nvrtc"]
    roots += [wheel / name for wheel in wheels for name in [*named, "cu13", "cu12"] if (wheel / name).is_dir()]
    roots += [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX") if os.environ.get(name)]
    roots += [Path(sys.prefix), Path("/usr/local/cuda")]
    return list(dict.fromkeys(roots))


def _package_paths(name: str) -> list[str]:
    """Folders of a package without importing it."""
    spec = importlib.util.find_spec(name)
    return list(spec.submodule_search_locations or []) if spec is not None else []


def find_libraries(roots: Iterable[Path], windows: bool, version: str | None = None) -> list[tuple[Path | None, Path]]:
    """(builtins or None, nvrtc) pairs below the roots, in order; those of torch's CUDA major version come first."""
    pattern = re.compile(r"nvrtc64_(\d+)_\d+\.dll" if windows else r"libnvrtc(?:-[0-9a-f]+)?\.so(?:\.(\d+).*)?", re.I)
    found: list[tuple[bool, Path | None, Path]] = []
    major = (version or "").split(".")[0]
    for root in roots:
        for folder in [root, *(root / name for name in _FOLDERS)]:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            for name in names:
                match = pattern.fullmatch(name)
                if match is None:
                    continue
                number = (match[1] or "")[:-1] if windows else (match[1] or "")
                found.append((number != major, _builtins_beside(folder, names, windows), folder / name))
    return [(builtins, path) for _, builtins, path in sorted(found, key=lambda item: item[0])]


def _builtins_beside(folder: Path, names: Sequence[str], windows: bool) -> Path | None:
    start = "nvrtc-builtins64" if windows else "libnvrtc-builtins"
    fitting = [name for name in names if name.lower().startswith(start) and ".alt." not in name]
    return folder / max(fitting) if fitting else None


class Nvrtc:
    """A loaded NVRTC. Raises KernelError with the reason when it cannot be loaded or a program does not compile."""

    def __init__(self, library: Path | str, builtins: Path | str | None = None) -> None:
        try:
            if builtins is not None:
                self._builtins = _load(builtins)
            self._lib = _load(library)
        except OSError as error:
            raise KernelError(f"NVRTC at {library} does not load: {error}") from None
        self.path = str(library)
        self._lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        self.version = (major.value, minor.value)
        self.architectures = self._architectures()

    def target(self, capability: tuple[int, int]) -> str:
        """What to compile for: "sm_89" (a cubin), or "compute_<newest>" (PTX) for a card this NVRTC does not know.

        A cubin also runs on later minor versions of its major version.
        """
        wanted = capability[0] * 10 + capability[1]
        same_major = [arch for arch in self.architectures if arch // 10 == capability[0] and arch <= wanted]
        if same_major:
            return f"sm_{max(same_major)}"
        older = [arch for arch in self.architectures if arch <= wanted]
        if not older:
            raise KernelError(f"NVRTC {self.version[0]}.{self.version[1]} compiles nothing for sm_{wanted}")
        return f"compute_{max(older)}"

    def compile(self, name: str, source: str, headers: Mapping[str, str], options: Sequence[str], target: str) -> bytes:
        """Source text -> cubin ("sm_..") or PTX ("compute_.."). headers: what `#include "name"` finds."""
        program = ctypes.c_void_p()
        count = len(headers)
        texts = (ctypes.c_char_p * count)(*(text.encode() for text in headers.values()))
        names = (ctypes.c_char_p * count)(*(key.encode() for key in headers))
        created = self._lib.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), ctypes.c_int(count), texts, names
        )
        self._check(created, "nvrtcCreateProgram")
        try:
            all_options = [*options, f"--gpu-architecture={target}"]
            array = (ctypes.c_char_p * len(all_options))(*(option.encode() for option in all_options))
            result = self._lib.nvrtcCompileProgram(program, ctypes.c_int(len(all_options)), array)
            if result != 0:
                log = self._read(program, "nvrtcGetProgramLog").rstrip(b"\0").decode(errors="replace").strip()
                raise KernelError(f"{name} does not compile for {target}: {log or self._error(result)}")
            return self._read(program, "nvrtcGetCUBIN" if target.startswith("sm_") else "nvrtcGetPTX")
        finally:
            self._lib.nvrtcDestroyProgram(ctypes.byref(program))

    def _architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._check(self._lib.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
        numbers = (ctypes.c_int * count.value)()
        self._check(self._lib.nvrtcGetSupportedArchs(numbers), "nvrtcGetSupportedArchs")
        return sorted(numbers)

    def _read(self, program: ctypes.c_void_p, function: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._lib, f"{function}Size")(program, ctypes.byref(size)), f"{function}Size")
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._lib, function)(program, buffer), function)
        return buffer.raw

    def _error(self, result: int) -> str:
        return (self._lib.nvrtcGetErrorString(ctypes.c_int(result)) or b"?").decode(errors="replace")

    def _check(self, result: int, function: str) -> None:
        if result != 0:
            raise KernelError(f"{function} failed: {self._error(result)}")


def _load(path: Path | str) -> ctypes.CDLL:
    if sys.platform == "win32":
        folder = Path(path).parent
        if folder.is_absolute():
            os.add_dll_directory(str(folder))  # so that what the DLL needs is found beside it
        return ctypes.WinDLL(str(path))
    return ctypes.CDLL(str(path))


def find_nvrtc() -> Nvrtc:
    """The first NVRTC that loads. Raises KernelError naming what was tried."""
    import torch

    version = torch.version.cuda
    pairs: list[tuple[Path | str | None, Path | str]] = []
    pairs += find_libraries(search_roots(version), sys.platform == "win32", version)
    major = (version or "13").split(".")[0]
    pairs.append((None, f"nvrtc64_{major}0_0.dll" if sys.platform == "win32" else f"libnvrtc.so.{major}"))
    problems = []
    for builtins, library in pairs:
        try:
            return Nvrtc(library, builtins)
        except KernelError as error:
            problems.append(str(error))
    raise KernelError(f"no usable NVRTC, a part of every CUDA build of torch; {problems[0]}")
