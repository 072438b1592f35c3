"""Builds the kernel sources for the CPU (csrc/emu.h) and launches them on torch tensors that live in CPU memory.

Place in the data flow: every test of csrc/ starts here; tests/kernels/stand_in.cpp can load the same library. A build
is kept in the temporary folder under a hash of the sources, so only the first run after a change compiles.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from instructx_core.kernels import abi

HERE = Path(__file__).parent
CSRC = Path(abi.__file__).parent / "csrc"
PROBES = HERE / "probes.cu"


class Finding(RuntimeError):
    """The emulator stopped the kernel: race, unwaited copy, bank conflict, deadlock, ..."""


def compiler() -> str | None:
    return shutil.which("g++") or shutil.which("c++")


def available() -> bool:
    return compiler() is not None


def _digest(files: list[Path], flags: tuple[str, ...]) -> str:
    hashed = hashlib.sha256(" ".join(flags).encode())
    for file in files:
        hashed.update(file.name.encode() + file.read_bytes())
    return hashed.hexdigest()[:24]


def build(sources: list[Path], flags: tuple[str, ...], include: Path, suffix: str) -> Path:
    """Compiles each source on its own and links them; returns the kept result. Raises CalledProcessError."""
    headers = sorted(path for path in include.iterdir() if path.suffix in (".cuh", ".h"))
    folder = Path(tempfile.gettempdir()) / f"instructx-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    common = ("-std=c++17", "-w", "-fPIC", *flags)
    target = folder / (_digest([*sources, *headers], common) + suffix)
    if target.exists():
        return target
    objects = []
    for source in sources:
        made = folder / (_digest([source, *headers], common) + ".o")
        if not made.exists():
            part = made.with_suffix(f".{os.getpid()}.part")
            command = [compiler(), *common, f"-I{include}", "-x", "c++", "-c", str(source), "-o", str(part)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(part, made)
        objects.append(str(made))
    part = target.with_suffix(f".{os.getpid()}.part")
    shared = ("-shared",) if suffix == ".so" else ()
    subprocess.run([compiler(), *common, *shared, *objects, "-o", str(part)], check=True, capture_output=True, text=True)
    os.replace(part, target)
    return target


def library(flags: tuple[str, ...] = ("-O2",), csrc: Path = CSRC, sources: tuple[str, ...] = abi.SOURCES) -> Path:
    """The shared library with `launch_<kernel>` of every kernel and of the probes."""
    return build([*(csrc / name for name in sources), PROBES], flags, csrc, ".so")


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def strides(tensor: Tensor | None) -> tuple[int, int, int]:
    """Byte strides of batch, token and head of a [B,S,H,D] view."""
    if tensor is None:
        return (0, 0, 0)
    assert tensor.stride(-1) == 1
    return tuple(tensor.stride(i) * tensor.element_size() for i in range(3))  # type: ignore[return-value]


def fill(args: ctypes.Structure, tensors: dict[str, Tensor | None], views: tuple[str, ...], **numbers: float) -> None:
    """Sets pointers, the strides of `views`, and plain fields of an argument struct."""
    for name, tensor in tensors.items():
        setattr(args, name, address(tensor))
    for name in views:
        for axis, value in zip(("sb", "ss", "sh"), strides(tensors.get(name)), strict=True):
            setattr(args, f"{name}_{axis}", value)
    for name, value in numbers.items():
        setattr(args, name, value)


class Emulator:
    """Launches kernels of one built library."""

    def __init__(self, path: Path) -> None:
        self.lib = ctypes.CDLL(str(path))
        self.seed = 1

    def launch(self, name: str, args: ctypes.Structure, grid: abi.Dim3, shared: int) -> None:
        """Raises Finding with the emulator's message."""
        function = getattr(self.lib, f"launch_{name}")
        function.argtypes = abi.EMULATOR_SIGNATURE
        message = ctypes.create_string_buffer(512)
        code = function(
            ctypes.byref(args), (ctypes.c_uint32 * 3)(*grid), abi.THREADS, shared, self.seed, message, len(message)
        )
        if code:
            raise Finding(f"{name}: {message.value.decode()}")

    def kernel(self, name: str, args: ctypes.Structure, grid: abi.Dim3, heads: int) -> None:
        self.launch(name, args, grid, abi.KERNELS[name].shared(heads))

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        bias: Tensor | None = None,
        k2: Tensor | None = None,
        v2: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`attention_<dtype>_d<D>`: o like q, lse float32 [B,H,Sq]."""
        batch, sq, heads, dim = q.shape
        o, lse = torch.full_like(q, float("nan"), memory_format=torch.contiguous_format), nans(batch, heads, sq)
        args = abi.AttentionArgs()
        tensors = dict(q=q, k=k, v=v, k2=k2, v2=v2, o=o, lse=lse, bias=bias)
        skv2 = 0 if k2 is None else k2.shape[1]
        fill(args, tensors, ("q", "k", "v", "k2", "v2", "o"), scale=scale, heads=heads, sq=sq, skv=k.shape[1], skv2=skv2)
        if bias is not None:
            args.bias_sb, args.bias_sh = bias.stride(0) * 4, (bias.stride(1) if bias.shape[1] > 1 else 0) * 4
        dtype = "bf16" if q.dtype == torch.bfloat16 else "f16"
        self.kernel(f"attention_{dtype}_d{dim}", args, abi.attention_grid(batch, heads, sq), heads)
        return o, lse


def nans(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"))
