"""Times, errors and memory of every attention that is present on a card: the selector's quick one, the user's table.

Place in the data flow: `select.py` ranks paths with `quick`; `instructx kernels bench` prints `table`. CUDA events,
warm-up, median; the inputs are random, because zeros run at another clock. What is not measured is not shown.
Legend: B batch, S tokens, H heads, D head dim (128). One multiply-accumulate counts as two operations.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import exact, int8, sdpa
from .errors import KernelError
from .selftest import relative_error

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B, S, H, D) each

QUICK = (1, 8192, 12, 128)
SIZES = ((1, 8190, 12, 128), (1, 32760, 12, 128), (1, 32760, 40, 128), (1, 75600, 40, 128))
SCALE = 128**-0.5
# Dense peaks, TOPS: (bf16 with fp32 sums, int8/fp16-sum mix of our int8 kernel). From NVIDIA's published figures.
PEAKS = {
    "RTX 3090": (71.0, 189.0),
    "RTX 4090": (165.2, 440.4),
    "RTX 5090": (209.5, 558.7),
    "H100": (989.0, 1319.0),
}


@dataclass(frozen=True)
class Row:
    """One attention at one size. A missing number is why it is missing, in `note`."""

    name: str
    shape: tuple[int, int, int, int]
    milliseconds: float | None = None
    tops: float | None = None
    share: float | None = None
    error: float | None = None
    megabytes: float | None = None
    note: str = ""


def random_qkv(shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator(device).manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in range(3))


def attentions(names: Sequence[str] | None = None) -> dict[str, Attend]:
    """Attentions by name: ours, torch's by backend, comfy-kitchen's and SageAttention's where they are installed.

    names: only these. Ours are "exact" and "int8"; "host" is torch's own choice.
    """
    found: dict[str, Attend] = {
        "int8": lambda q, k, v: int8.attention_quantizing(q, k, v, SCALE)[0],
        "exact": lambda q, k, v: exact.attention(q, k, v, SCALE)[0],
        "host": lambda q, k, v: sdpa.attention(q, k, v, SCALE),
    }
    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"):
        backend = getattr(SDPBackend, name, None)
        if backend is not None:
            found[f"sdpa {name.removesuffix('_ATTENTION').lower()}"] = _only(backend)
    for name, attend in (("comfy-kitchen", kitchen(load=names is None)), ("sageattention", _sage(names is None))):
        if attend is not None:
            found[name] = attend
    return found if names is None else {name: found[name] for name in names if name in found}


def _only(backend: Any) -> Attend:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return sdpa.attention(q, k, v, SCALE)

    return attend


def kitchen(load: bool = False) -> Attend | None:
    """comfy-kitchen's int8 attention, where the host has loaded it (load: or where it can be) and says it can run."""
    module = _module("comfy_kitchen", load)
    if module is None or not hasattr(module, "int8_attention"):
        return None
    try:
        if not module.int8_attention_is_available():
            return None
    except (AttributeError, RuntimeError, ImportError):
        return None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return module.int8_attention(q, k, v, scale=q.shape[-1] ** -0.5, attn_mask=None).transpose(1, 2)

    return attend


def _sage(load: bool) -> Attend | None:
    module = _module("sageattention", load)
    function = getattr(module, "sageattn", None)
    return None if function is None else lambda q, k, v: function(q, k, v, tensor_layout="NHD")


def _module(name: str, load: bool) -> Any:
    """A package of others: what is loaded already, or (load) what can be; broken installations count as absent."""
    if name in sys.modules or not load:
        return sys.modules.get(name)
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None


def time_cuda(attend: Attend, qkv: Sequence[Tensor], rounds: int, warmup: int = 3) -> float:
    """Median milliseconds on the current stream of qkv's device."""
    q, k, v = qkv
    with torch.no_grad(), torch.cuda.device(q.device):
        for _ in range(warmup):
            attend(q, k, v)
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(rounds)]
        for begin, end in marks:
            begin.record()
            attend(q, k, v)
            end.record()
        torch.cuda.synchronize()
        return statistics.median(begin.elapsed_time(end) for begin, end in marks)


def quick(device: torch.device, ours: Sequence[str]) -> dict[str, float]:
    """Milliseconds of our usable paths, SDPA and comfy-kitchen at 8192 tokens, for ranking; about 50 ms of work."""
    times = {}
    try:
        qkv = random_qkv(QUICK, device, torch.bfloat16)
    except torch.OutOfMemoryError:
        return {}
    for name, attend in attentions([*ours, "host", "comfy-kitchen"]).items():
        # A path that fails here is not ranked; a run that needs it learns the reason from its own call.
        with contextlib.suppress(KernelError, RuntimeError):
            times[name] = time_cuda(attend, qkv, rounds=5)
    return times


def timings(device: torch.device, sizes: Sequence[tuple[int, int, int, int]] = SIZES, rounds: int = 20) -> list[Row]:
    """Every attention at every size; failures become rows with a note."""
    rows = []
    card = torch.cuda.get_device_name(device)
    for shape in sizes:
        try:
            qkv = random_qkv(shape, device, torch.bfloat16)
            want = reference_rows(*qkv)
        except torch.OutOfMemoryError:
            rows.append(Row("all", shape, note="not enough memory for the inputs"))
            continue
        for name, attend in attentions().items():
            rows.append(_row(name, attend, qkv, want, rounds, card))
    return rows


def reference_rows(q: Tensor, k: Tensor, v: Tensor, count: int = 64) -> Tensor:
    """Exact output for the first `count` queries in float32 math: an oracle that costs little at any length."""
    with sdpa_kernel(SDPBackend.MATH):
        heads = [[part[:, :, h : h + 1].float() for part in (q[:, :count], k, v)] for h in range(min(4, q.shape[2]))]
        parts = [sdpa.attention(*head, SCALE) for head in heads]
    return torch.cat(parts, dim=2)


def _row(name: str, attend: Attend, qkv: Sequence[Tensor], want: Tensor, rounds: int, card: str) -> Row:
    shape = tuple(qkv[0].shape)
    batch, tokens, heads, dim = shape
    try:
        torch.cuda.synchronize(qkv[0].device)
        torch.cuda.reset_peak_memory_stats(qkv[0].device)
        before = torch.cuda.memory_allocated(qkv[0].device)
        got = attend(*qkv)
        torch.cuda.synchronize(qkv[0].device)
        megabytes = (torch.cuda.max_memory_allocated(qkv[0].device) - before) / 2**20
        error = relative_error(got[:, : want.shape[1], : want.shape[2]], want)
        del got
        milliseconds = time_cuda(attend, qkv, rounds)
    except (KernelError, RuntimeError) as error:
        return Row(name, shape, note=str(error).splitlines()[0][:60] if str(error) else type(error).__name__)
    tops = 4.0 * batch * heads * tokens * tokens * dim / milliseconds / 1e9
    peak = next((peaks[name == "int8"] for key, peaks in PEAKS.items() if key in card), None)
    if name in ("comfy-kitchen", "sageattention"):
        peak = None  # another mix of instructions, another peak
    return Row(name, shape, milliseconds, tops, None if peak is None else tops / peak, error, megabytes)


def format_table(rows: Sequence[Row], head: Sequence[str] = ()) -> str:
    """One pasteable Markdown table, with what it was measured on above it."""
    lines = [*head, "", "| tokens x heads | attention | ms | TOPS | of peak | error | MB | note |", "|" + " --- |" * 8]
    for row in rows:
        numbers = (
            _text(row.milliseconds, "{:.2f}"),
            _text(row.tops, "{:.0f}"),
            _text(row.share, "{:.0%}"),
            _text(row.error, "{:.2%}"),
            _text(row.megabytes, "{:.0f}"),
        )
        lines.append(f"| {row.shape[1]} x {row.shape[2]} | {row.name} | {' | '.join(numbers)} | {row.note} |")
    return "\n".join(lines)


def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _text(number: float | None, form: str) -> str:
    return "" if number is None else form.format(number)
