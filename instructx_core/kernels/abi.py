"""Launch contract of the CUDA kernels: names, source files, argument structs, grid, block and shared memory.

Place in the data flow: `exact.py` and `int8.py` fill one struct per launch, `loader.py` passes it by value as the
kernel's only parameter; `csrc/args.cuh` declares the same structs (a test compares size and offsets). Imports neither
torch nor CUDA.
Legend: B batch, S tokens, H heads, D head dim (64 or 128). All strides are in BYTES, 64 bit; lengths are in tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

HEAD_DIMS = (64, 128)
TILE_Q = 128  # query rows of one block: 8 warps of 16 rows (4 warps of 32 spill, 8 do not)
TILE_K = 64  # keys of one step
THREADS = 256
MAX_SHARED = 99 * 1024  # sm_86, sm_89 and sm_120 give a block 99 KB
MAX_GRID = 65535  # blocks along a grid's second and third axis
NORM_SHARED = 64  # bytes: two float32 sums per warp
ROW_ALIGNMENT = 16  # bytes: rows and base addresses of q, k, v (cp.async copies 16 at a time)
STATS_SAMPLES = 1024  # the K shift is the mean of at most this many strided tokens
STATS_CHUNKS = 128  # blocks of the statistics pass per sample
# What a group of heads may take beside q, k, v and the output: int8 q and k, fp16 v. All heads of Wan 14B at once would
# take 1.5 GB at 720p. A group still fills a card with thousands of blocks.
SCRATCH_BYTES = 512 * 2**20

# Every kernel compiles with these; the architecture is added by the loader. No fast-math: ex2.approx is written out.
COMPILE_OPTIONS = ("--std=c++17",)
HEADERS = ("ptx.cuh", "args.cuh", "attention.cuh")

Dim3 = tuple[int, int, int]
_POINTER, _STRIDE, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


def _views(*names: str) -> list[tuple[str, type]]:
    """Batch, token and head stride of each [B, S, H, D] view."""
    return [(f"{name}_{axis}", _STRIDE) for name in names for axis in ("sb", "ss", "sh")]


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class AttentionArgs(ctypes.Structure):
    """`attention_<dtype>_d<D>`: exact attention of q over the keys (k, v) followed by (k2, v2).

    q o [B,Sq,H,D]; k v [B,Skv,H,D]; k2 v2 [B,Skv2,H,D] (null and skv2 = 0 without a second segment), last dim
    contiguous. lse float32 [B,H,Sq] contiguous or null: natural log of the sum of exp. bias float32 or null, added to
    scale * q.k: [B, 1 or H, Skv + Skv2], last dim contiguous, `bias_sh` 0 to share it between heads; -inf masks a key.
    A row whose keys are all masked gives o = 0 and lse = -inf.
    """

    _fields_ = (
        _fields(_POINTER, "q k v k2 v2 o lse bias")
        + _views("q", "k", "v", "k2", "v2", "o")
        + _fields(_STRIDE, "bias_sb bias_sh")
        + _fields(_FLOAT, "scale")
        + _fields(_INT, "heads sq skv skv2")
    )


class AttentionInt8Args(ctypes.Structure):
    """`attention_int8_d<D>`: int8 q, k (per token and head scales), fp16 v scaled by 2^-e.

    q k k2 int8, v v2 float16, o bfloat16 (`out_bf16` = 1) or float16. q_scale [B,H,Sq], k_scale [B,H,Skv], k_scale2
    [B,H,Skv2] float32 contiguous. v_max uint32 [B,H]: bits of max |v| over both segments (see `KvStatsArgs`); e is its
    binary exponent and o is multiplied by 2^e. lse, lse_shift, lse_shift2 float32 [B,H,Sq] or null; lse_shift is added
    to lse. lse_shift2 - lse_shift is added to the logits of the second segment, whose keys have a shift of their own.
    """

    _fields_ = (
        _fields(_POINTER, "q k v k2 v2 o lse q_scale k_scale k_scale2 v_max lse_shift lse_shift2")
        + _views("q", "k", "v", "k2", "v2", "o")
        + _fields(_FLOAT, "scale")
        + _fields(_INT, "heads sq skv skv2 out_bf16")
    )


class PrologueArgs(ctypes.Structure):
    """`qkv_prologue_d<D>`: RMSNorm across heads, RoPE, signed Hadamard, K shift, quantise, V scale. One block a token.

    q [B,Sq,H,D], k v [B,Skv,H,D]: bfloat16 (`is_bf16` = 1) or float16 views; each may be null and is then skipped
    together with its outputs. wq wk [H*D] of the same dtype, or null: no norm. cos sin float32 [S, D/2] or null: no
    RoPE; row r belongs to token r, pairs are interleaved (2i, 2i+1); `rope_se` is the byte stride between pairs (4, or
    8 for a table with repeated pairs), `rope_sb` 0 to share it in the batch. kshift float32 [B,H,D] contiguous or null.
    Out, contiguous: q8 k8 int8 [B,S,H,D], v16 float16 [B,Skv,H,D], q_scale k_scale float32 [B,H,S],
    lse_shift float32 [B,H,Sq] or null: scale * (q . kshift), needs kshift; lse_shift2 the same of kshift2, the shift of
    a second segment's keys.
    `heads` are written, from `first_head` on, of `all_heads` that q, k, v, wq, wk, kshift and v_max have: a launch for
    some of the heads, whose norm is still over all.
    """

    _fields_ = (
        _fields(_POINTER, "q k v wq wk cos sin kshift kshift2 v_max q8 k8 v16 q_scale k_scale lse_shift lse_shift2")
        + _views("q", "k", "v")
        + _fields(_STRIDE, "rope_sb rope_ss rope_se")
        + _fields(_FLOAT, "eps scale")
        + _fields(_INT, "heads sq skv is_bf16 all_heads first_head")
    )


class KvStatsArgs(ctypes.Structure):
    """`kv_stats_d<D>`: max |v| per head, and partial sums of every `sample_stride`-th key after norm and RoPE.

    v_max uint32 [B,H]: the caller zeroes it; a second segment accumulates into the same buffer (integer atomic max,
    so the order does not matter). partial float32 [B, chunks, H*D] contiguous, written in full. k or v may be null.
    """

    _fields_ = (
        _fields(_POINTER, "k v wk cos sin v_max partial")
        + _views("k", "v")
        + _fields(_STRIDE, "rope_sb rope_ss rope_se")
        + _fields(_FLOAT, "eps")
        + _fields(_INT, "heads skv sample_stride chunks is_bf16")
    )


class KvShiftArgs(ctypes.Structure):
    """`kv_shift`: sums the partial sums in a fixed order: kshift float32 [B, H*D] = sum / samples."""

    _fields_ = _fields(_POINTER, "partial kshift") + _fields(_INT, "width chunks samples")


@dataclass(frozen=True)
class Kernel:
    """One entry point: its `extern "C"` name, the file that defines it, its struct and its dynamic shared memory."""

    name: str
    source: str
    args: type[ctypes.Structure]
    shared: Callable[[int], int]  # heads -> bytes
    head_dim: int = 0
    block: Dim3 = (THREADS, 1, 1)


def attention_shared(head_dim: int) -> int:
    """Bytes for one Q tile, one K tile and one V tile of 2-byte values."""
    return (TILE_Q + 2 * TILE_K) * head_dim * 2


def attention_int8_shared(head_dim: int) -> int:
    """Bytes for int8 Q and K tiles, an fp16 V tile and the K scales of one tile."""
    return (TILE_Q + TILE_K) * head_dim + TILE_K * head_dim * 2 + TILE_K * 4


def _kernels() -> dict[str, Kernel]:
    found = [Kernel("kv_shift", "prologue.cu", KvShiftArgs, lambda heads: 0)]
    for d in HEAD_DIMS:
        for dtype in ("bf16", "f16"):
            found.append(
                Kernel(
                    f"attention_{dtype}_d{d}", "attention.cu", AttentionArgs, lambda heads, d=d: attention_shared(d), d
                )
            )
        found += [
            Kernel(
                f"attention_int8_d{d}",
                "attention_int8.cu",
                AttentionInt8Args,
                lambda heads, d=d: attention_int8_shared(d),
                d,
            ),
            Kernel(f"qkv_prologue_d{d}", "prologue.cu", PrologueArgs, lambda heads: 2 * NORM_SHARED, d),
            Kernel(f"kv_stats_d{d}", "prologue.cu", KvStatsArgs, lambda heads, d=d: heads * d * 4 + NORM_SHARED, d),
        ]
    return {kernel.name: kernel for kernel in found}


KERNELS: dict[str, Kernel] = _kernels()
SOURCES = ("attention.cu", "attention_int8.cu", "prologue.cu")


def attention_grid(batch: int, heads: int, sq: int) -> Dim3:
    """Grid of `attention_*` and `attention_int8_*`: query tiles, heads, batch. Block `THREADS`."""
    return (-(-sq // TILE_Q), heads, batch)


def prologue_grid(batch: int, sq: int, skv: int) -> Dim3:
    """Grid of `qkv_prologue_*`: one block per token of the longer side (0 for a side that is not given)."""
    return (max(sq, skv), batch, 1)


def stats_plan(skv: int) -> tuple[int, int, int]:
    """(sample_stride, samples, chunks) of `kv_stats_*` for `skv` >= 1 keys."""
    stride = -(-skv // STATS_SAMPLES)
    return stride, -(-skv // stride), min(STATS_CHUNKS, skv)


def stats_grid(batch: int, chunks: int) -> Dim3:
    """Grid of `kv_stats_*`: `chunks` from `stats_plan`, batch."""
    return (chunks, batch, 1)


def shift_grid(batch: int, heads: int, head_dim: int) -> Dim3:
    """Grid of `kv_shift`: one thread per channel."""
    return (-(-heads * head_dim // THREADS), batch, 1)


def head_groups(tokens: int, keys: int, heads: int, head_dim: int) -> list[tuple[int, int]]:
    """(first head, heads) of each pass: as few passes as SCRATCH_BYTES allows, of about equal size.

    tokens, keys: of all samples together, keys of both segments.
    """
    one_head = (tokens + 3 * keys) * head_dim
    most = max(1, min(heads, SCRATCH_BYTES // max(one_head, 1)))
    passes = -(-heads // most)
    edges = [heads * i // passes for i in range(passes + 1)]
    return [(first, last - first) for first, last in pairwise(edges)]
