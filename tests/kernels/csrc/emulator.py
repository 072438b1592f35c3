"""Builds the kernel sources for the CPU (emu.h) and launches them on torch tensors that live in CPU memory.

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
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from instructx_core.kernels import abi

HERE = Path(__file__).parent
CSRC = Path(abi.__file__).parent / "csrc"
PROBES = HERE / "probes.cu"

# int launch_<kernel>(const void* args, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes, uint32_t seed,
#                     char* message, int message_bytes): 0, or 1 with the first finding (race, bank conflict, ...).
SIGNATURE = (
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.c_char_p,
    ctypes.c_int32,
)


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


def build(sources: list[Path], flags: tuple[str, ...], csrc: Path, suffix: str) -> Path:
    """Compiles each source on its own and links them; returns the kept result. Raises CalledProcessError.

    csrc: the folder of the kernels' headers; the emulator's lie here.
    """
    headers = sorted(path for folder in (csrc, HERE) for path in folder.iterdir() if path.suffix in (".cuh", ".h"))
    folder = Path(tempfile.gettempdir()) / f"instructx-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    common = ("-std=c++17", "-w", "-fPIC", *flags)
    target = folder / (_digest([*sources, *headers], common) + suffix)
    if target.exists():
        return target
    objects = []
    for source in sources:
        made = folder / (_digest([source, *headers], common) + ".o")
        with FileLock(made.with_suffix(".lock")):  # another process of the run may be at it
            if not made.exists():
                part = made.with_suffix(f".{os.getpid()}.part")
                command = [compiler(), *common, f"-I{csrc}", f"-I{HERE}", "-x", "c++", "-c", str(source)]
                subprocess.run([*command, "-o", str(part)], check=True, capture_output=True, text=True)
                os.replace(part, made)
        objects.append(str(made))
    part = target.with_suffix(f".{os.getpid()}.part")
    shared = ("-shared",) if suffix == ".so" else ()
    subprocess.run(
        [compiler(), *common, *shared, *objects, "-o", str(part)], check=True, capture_output=True, text=True
    )
    os.replace(part, target)
    return target


def library(flags: tuple[str, ...] = ("-O1",), csrc: Path = CSRC, sources: tuple[str, ...] = abi.SOURCES) -> Path:
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

    def launch(
        self, name: str, args: ctypes.Structure, grid: abi.Dim3, shared: int, threads: int = abi.THREADS
    ) -> None:
        """Raises Finding with the emulator's message."""
        function = getattr(self.lib, f"launch_{name}")
        function.argtypes = SIGNATURE
        message = ctypes.create_string_buffer(512)
        code = function(
            ctypes.byref(args), (ctypes.c_uint32 * 3)(*grid), threads, shared, self.seed, message, len(message)
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
        tensors = {"q": q, "k": k, "v": v, "k2": k2, "v2": v2, "o": o, "lse": lse, "bias": bias}
        skv2 = 0 if k2 is None else k2.shape[1]
        fill(
            args, tensors, ("q", "k", "v", "k2", "v2", "o"), scale=scale, heads=heads, sq=sq, skv=k.shape[1], skv2=skv2
        )
        if bias is not None:
            args.bias_sb, args.bias_sh = bias.stride(0) * 4, (bias.stride(1) if bias.shape[1] > 1 else 0) * 4
        dtype = "bf16" if q.dtype == torch.bfloat16 else "f16"
        self.kernel(f"attention_{dtype}_d{dim}", args, abi.attention_grid(batch, heads, sq), heads)
        return o, lse

    def attention_int8(
        self,
        p: Quantized,
        scale: float,
        second: Quantized | None = None,
        out_dtype: torch.dtype = torch.bfloat16,
    ) -> tuple[Tensor, Tensor]:
        """`attention_int8_d<D>` on the prologue's output, and on a second segment's keys and values."""
        batch, sq, heads, dim = p.q8.shape
        o, lse = torch.full(p.q8.shape, float("nan"), dtype=out_dtype), nans(batch, heads, sq)
        args = abi.AttentionInt8Args()
        tensors = {
            "q": p.q8,
            "k": p.k8,
            "v": p.v16,
            "o": o,
            "lse": lse,
            "q_scale": p.q_scale,
            "k_scale": p.k_scale,
            "v_max": p.v_max,
        }
        tensors["lse_shift"] = p.lse_shift
        skv2 = 0
        if second is not None:
            tensors.update(k2=second.k8, v2=second.v16, k_scale2=second.k_scale, lse_shift2=p.lse_shift2)
            skv2 = second.k8.shape[1]
        numbers = {"scale": scale, "heads": heads, "sq": sq, "skv": p.k8.shape[1], "skv2": skv2}
        numbers["out_bf16"] = int(out_dtype == torch.bfloat16)
        fill(args, tensors, ("q", "k", "v", "k2", "v2", "o"), **numbers)
        self.kernel(f"attention_int8_d{dim}", args, abi.attention_grid(batch, heads, sq), heads)
        return o, lse

    def statistics(
        self, k: Tensor | None, v: Tensor | None, norm: Norm | None = None, v_max: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`kv_stats` and `kv_shift`: (kshift [B,H,D], v_max int32 bits [B,H], accumulated into a given one)."""
        given = k if k is not None else v
        assert given is not None
        norm = norm or Norm()
        batch, skv, heads, dim = given.shape
        stride, samples, chunks = abi.stats_plan(skv)
        v_max = torch.zeros(batch, heads, dtype=torch.int32) if v_max is None else v_max
        partial, kshift = nans(batch, chunks, heads * dim), nans(batch, heads, dim)
        args = abi.KvStatsArgs()
        tensors = {"k": k, "v": v, "wk": norm.wk, "cos": norm.cos, "sin": norm.sin, "v_max": v_max, "partial": partial}
        numbers = {"eps": norm.eps, "heads": heads, "skv": skv, "sample_stride": stride, "chunks": chunks}
        fill(args, tensors, ("k", "v"), is_bf16=int(given.dtype == torch.bfloat16), **numbers, **norm.strides())
        self.kernel(f"kv_stats_d{dim}", args, abi.stats_grid(batch, chunks), heads)
        if k is not None:
            last = abi.KvShiftArgs()
            fill(last, {"partial": partial, "kshift": kshift}, (), width=heads * dim, chunks=chunks, samples=samples)
            self.kernel("kv_shift", last, abi.shift_grid(batch, heads, dim), heads)
        return kshift, v_max

    def prologue(
        self,
        q: Tensor | None,
        k: Tensor | None,
        v: Tensor | None,
        kshift: Tensor | None,
        v_max: Tensor,
        scale: float,
        norm: Norm | None = None,
        kshift2: Tensor | None = None,
        group: tuple[int, int] | None = None,
    ) -> Quantized:
        """`qkv_prologue_d<D>`; outputs of a tensor that is not given stay poisoned. group: (first head, heads)."""
        norm = norm or Norm()
        given = next(x for x in (q, k, v) if x is not None)
        batch, _, all_heads, dim = given.shape
        first_head, heads = group or (0, all_heads)
        sq = 0 if q is None else q.shape[1]
        skv = k.shape[1] if k is not None else v.shape[1] if v is not None else 0
        out = Quantized(
            torch.full((batch, sq, heads, dim), 99, dtype=torch.int8),
            torch.full((batch, skv, heads, dim), 99, dtype=torch.int8),
            torch.full((batch, skv, heads, dim), float("nan"), dtype=torch.float16),
            nans(batch, heads, sq),
            nans(batch, heads, skv),
            nans(batch, heads, sq) if kshift is not None else None,
            v_max,
            nans(batch, heads, sq) if kshift2 is not None else None,
        )
        args = abi.PrologueArgs()
        tensors = {
            "q": q,
            "k": k,
            "v": v,
            "wq": norm.wq,
            "wk": norm.wk,
            "cos": norm.cos,
            "sin": norm.sin,
            "kshift": kshift,
            "kshift2": kshift2,
            "v_max": v_max,
        }
        tensors.update(q8=out.q8, k8=out.k8, v16=out.v16, q_scale=out.q_scale, k_scale=out.k_scale)
        tensors.update(lse_shift=out.lse_shift, lse_shift2=out.lse_shift2)
        numbers = {
            "eps": norm.eps,
            "scale": scale,
            "heads": heads,
            "sq": sq,
            "skv": skv,
            "all_heads": all_heads,
            "first_head": first_head,
            "is_bf16": int(given.dtype == torch.bfloat16),
        }
        fill(args, tensors, ("q", "k", "v"), **numbers, **norm.strides())
        self.kernel(f"qkv_prologue_d{dim}", args, abi.prologue_grid(batch, sq, skv), all_heads)
        return out

    def int8(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        norm: Norm | None = None,
        second: tuple[Tensor, Tensor, Norm | None] | None = None,
        shift: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """The whole int8 path: statistics, prologue, attention, as int8.py launches them."""
        kshift, v_max = self.statistics(k, v, norm)
        kshift2 = None
        if second is not None:
            kshift2, _ = self.statistics(*second, v_max)
        given, given2 = (kshift, kshift2) if shift else (None, None)
        prepared = self.prologue(q, k, v, given, v_max, scale, norm, given2)
        more = None
        if second is not None:
            more = self.prologue(None, second[0], second[1], given2, v_max, scale, second[2])
        return self.attention_int8(prepared, scale, more, q.dtype)


@dataclass
class Norm:
    """RMSNorm weights [H*D] and RoPE tables [S or B,S, D/2] (or a strided view of one with repeated pairs)."""

    wq: Tensor | None = None
    wk: Tensor | None = None
    cos: Tensor | None = None
    sin: Tensor | None = None
    eps: float = 1e-6

    def strides(self) -> dict[str, int]:
        if self.cos is None:
            return {}
        assert self.sin is not None and self.cos.stride() == self.sin.stride()
        batch = self.cos.stride(0) * 4 if self.cos.ndim == 3 else 0
        return {"rope_sb": batch, "rope_ss": self.cos.stride(-2) * 4, "rope_se": self.cos.stride(-1) * 4}


@dataclass
class Quantized:
    """What the prologue writes; v_max int32 bits [B,H] comes from the statistics."""

    q8: Tensor
    k8: Tensor
    v16: Tensor
    q_scale: Tensor
    k_scale: Tensor
    lse_shift: Tensor | None
    v_max: Tensor
    lse_shift2: Tensor | None = None  # of a second segment's shift


def nans(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"))
