"""Everything about the attention kernels that only a card can tell, part by part; scripts/on_gpu.sh starts it.

    python benchmarks/on_gpu.py [--out FOLDER] [--parts NAME ...] [--seconds 450]

Each part writes its figures as soon as it has them; one that fails or finds no time left says so, and the next runs.
The self-test comes first, in a process of its own: what fails it, no other part runs. Random weights and inputs.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import argparse
import copy
import platform
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from torch import Tensor

from instructx_core.kernels import KernelError, bench, exact, int8, loader, select, selftest, trial

ROOT = Path(__file__).resolve().parents[1]
PATHS = {"exact": exact.attention, "int8": int8.attention_quantizing}


@dataclass(frozen=True)
class Size:
    """One model's self-attention and one step: layers are a few of the model's `of`, a step is the time of all."""

    name: str
    heads: int
    ffn: int
    of: int
    frame: tuple[int, int, int]  # latent frames, height, width
    layers: int = 2
    channels: int = 16


@dataclass(frozen=True)
class Plan:
    """How much of each: the real one, or a small one for the tests."""

    errors: tuple[int, ...] = (1024, 4096, 16384, 32760, 75600)
    times: tuple[tuple[int, int, int, int], ...] = bench.SIZES
    models: tuple[Size, ...] = (
        Size("14B, 832x480x81", 40, 13824, 40, (21, 60, 104)),
        Size("14B, 1280x720x81", 40, 13824, 40, (21, 90, 160), 1),
        Size("5B, 1280x704x121", 24, 14336, 30, (31, 44, 80), 2, 48),
    )
    tokens: int = 8192  # of graph, streams
    heads: int = 12
    rounds: int = 10


class Card:
    """Clock, memory, streams and graphs of a device: CUDA's. The tests give one for the stand-in driver."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def milliseconds(self, call: Callable[[], Any], rounds: int) -> float:
        return bench.time_cuda(lambda *_: call(), (torch.empty(1, device=self.device),) * 3, rounds)

    def megabytes(self, call: Callable[[], Any]) -> float:
        """Most memory beside what stood before, result included."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        call()
        torch.cuda.synchronize(self.device)
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20

    def captured(self, call: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """The result's place, and what computes it again by replaying a graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = call()
        return out, graph.replay

    def on_streams(self, calls: list[Callable[[], Tensor]]) -> list[Tensor]:
        """Each call on a stream of its own, all under way at once."""
        streams = [torch.cuda.Stream(self.device) for _ in calls]
        outs = []
        for stream, call in zip(streams, calls, strict=True):
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                outs.append(call())
        torch.cuda.synchronize(self.device)
        return outs


@dataclass
class Run:
    """What all parts share. `usable`: our paths that passed the self-test here."""

    card: Card
    plan: Plan
    deadline: float
    usable: list[str] = field(default_factory=list)

    def time_left(self) -> bool:
        return time.monotonic() < self.deadline

    def qkv(self, tokens: int, heads: int, seed: int = 0) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        shape = (1, tokens, heads, 128)
        return tuple(torch.randn(shape, generator=generator).to(self.card.device, torch.bfloat16) for _ in range(3))


def environment(run: Run) -> dict[str, Any]:
    runtime = loader.runtime()
    found = {"card": runtime.card(run.card.device), "torch": torch.__version__, "CUDA": torch.version.cuda}
    found |= {"NVRTC": ".".join(map(str, runtime.compiler.version)), "python": platform.python_version()}
    return found | {"system": platform.platform()}


def self_test(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, result in trial.run_trials(run.card.device).items():
        found[path] = result.problem or result.errors
        if not result.problem and all(error <= selftest.limit(path, name) for name, error in result.errors.items()):
            run.usable.append(path)
    return found | {"passed": list(run.usable)}


def errors(run: Run) -> dict[str, Any]:
    """Relative L1 error against float32 of 64 queries of 4 heads, and whether two runs agree bit for bit."""
    found: dict[str, Any] = {}
    for tokens in run.plan.errors:
        q, k, v = run.qkv(tokens, 4)
        want = bench.reference_rows(q, k, v)
        for path in run.usable:
            if not run.time_left():
                return found | {"cut short": "no time left"}
            first, again = (PATHS[path](q, k, v, bench.SCALE)[0] for _ in range(2))
            error = selftest.relative_error(first[:, : want.shape[1]], want)
            found[f"{path} {tokens}"] = {"error": error, "same bits": torch.equal(first, again)}
    return found


def times(run: Run) -> dict[str, Any]:
    """Median milliseconds and peak memory of ours, of torch's backends and of the packages that are installed."""
    found: dict[str, Any] = {}
    for batch, tokens, heads, _ in run.plan.times:
        q, k, v = run.qkv(tokens, heads)
        for name, attend in bench.attentions().items():
            if name in PATHS and name not in run.usable:
                continue
            if not run.time_left():
                return found | {"cut short": "no time left"}
            key = f"{name} {batch}x{tokens}x{heads}"
            try:
                call = partial(attend, q, k, v)
                megabytes, took = run.card.megabytes(call), run.card.milliseconds(call, run.plan.rounds)
            except (KernelError, RuntimeError, ValueError, TypeError) as error:  # of whatever package it is
                found[key] = str(error).splitlines()[0][:120]
                continue
            found[key] = {"ms": took, "TOPS": 4.0 * heads * tokens**2 * 128 / took / 1e9, "MB": megabytes}
    return found


def steps(run: Run) -> dict[str, Any]:
    """One forward of the models' shapes with our attention off and on: some layers, and what all would take."""
    from instructx_core.speed.attention import use_attention

    found: dict[str, Any] = {}
    for size in run.plan.models:
        try:
            model, inputs = wan(size, run.card.device)
            for mode in ("off", *(mode for mode in ("int8", "auto") if run.usable)):
                if not run.time_left():
                    return found | {"cut short": "no time left"}
                session = use_attention(model, mode)
                with torch.no_grad():
                    call = partial(model, **inputs)
                    megabytes = run.card.megabytes(call)
                    took = run.card.milliseconds(call, max(2, run.plan.rounds // 3))
                ran = sorted({plan.path for plan in session.calls()}) or ["host"]
                scaled = took * size.of / size.layers
                found[f"{size.name} {mode}"] = {
                    "ms of layers": took,
                    "layers": size.layers,
                    "ms of all by count": scaled,
                }
                found[f"{size.name} {mode}"] |= {"MB": megabytes, "ran": ran}
        except torch.OutOfMemoryError:
            found[size.name] = "not enough memory on this card"
    return found


def wan(size: Size, device: torch.device) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A few layers of a DiT with random weights, and what it is given."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    with torch.device(device):
        model = WanTransformer3DModel(
            num_attention_heads=size.heads,
            attention_head_dim=128,
            in_channels=size.channels,
            out_channels=size.channels,
            text_dim=64,
            ffn_dim=size.ffn,
            num_layers=size.layers,
        )
    rope = copy.deepcopy(model.rope)  # its tables stay float32, as in a loaded checkpoint
    model.to(torch.bfloat16)
    model.rope = rope
    frames, height, width = size.frame
    like = {"device": device, "dtype": torch.bfloat16}
    given = {"hidden_states": torch.randn(1, size.channels, frames, height, width, **like)}
    given |= {"timestep": torch.tensor([500], device=device), "encoder_hidden_states": torch.randn(1, 16, 64, **like)}
    return model.eval(), given


def graph(run: Run) -> dict[str, Any]:
    """A captured call, replayed after its inputs changed, against the same call without a graph."""
    found: dict[str, Any] = {}
    for path in run.usable:
        q, k, v = run.qkv(run.plan.tokens, run.plan.heads)
        other = run.qkv(run.plan.tokens, run.plan.heads, 1)
        PATHS[path](q, k, v, bench.SCALE)  # loads it
        out, replay = run.card.captured(lambda path=path, q=q, k=k, v=v: PATHS[path](q, k, v, bench.SCALE)[0])
        for old, new in zip((q, k, v), other, strict=True):
            old.copy_(new)
        replay()
        found[path] = {"replay equals a plain call": torch.equal(out, PATHS[path](*other, bench.SCALE)[0])}
    return found


def streams(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in run.usable:
        given = [run.qkv(run.plan.tokens, run.plan.heads, seed) for seed in (0, 1)]
        alone = [PATHS[path](*qkv, bench.SCALE)[0] for qkv in given]
        at_once = run.card.on_streams([lambda qkv=qkv, path=path: PATHS[path](*qkv, bench.SCALE)[0] for qkv in given])
        found[path] = {"two at once equal one by one": all(map(torch.equal, alone, at_once))}
    return found


def judgement(run: Run) -> dict[str, Any]:
    made = select.verdict(run.card.device)
    return {"problems": made.problems, "milliseconds at 8192 tokens": made.milliseconds}


PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "environment": environment,
    "self-test": self_test,
    "error against float32": errors,
    "CUDA graph": graph,
    "two streams": streams,
    "attention": times,
    "one step": steps,
    "judgement": judgement,
}


def measure(run: Run, parts: list[str], folder: Path) -> dict[str, Any]:
    """Figures of these parts; written after each one, as JSON and as Markdown."""
    found: dict[str, Any] = {}
    for name in parts:
        began = time.monotonic()
        if not run.time_left():
            found[name] = {"not run": "no time left"}
        else:
            try:
                found[name] = PARTS[name](run)
            except (KernelError, RuntimeError) as error:  # a part of a card that does not work here
                found[name] = {"failed": (str(error).splitlines() or [type(error).__name__])[0][:300]}
        found[name]["seconds"] = round(time.monotonic() - began, 1)
        write(found, folder)
        sys.stdout.write(f"{name}: {found[name]}\n")
    return found


def write(found: dict[str, Any], folder: Path) -> None:
    card = str(found.get("environment", {}).get("card", "card")).split(",")[0]
    name = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    results.write_json(folder / f"{name}.json", found)
    lines = [f"# Attention kernels on {card}", ""]
    for part, figures in found.items():
        lines += [f"## {part}", "", "| what | figure |", "| --- | --- |"]
        lines += [f"| {key} | {_text(figure)} |" for key, figure in figures.items()]
        lines.append("")
    (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def _text(figure: Any) -> str:
    if isinstance(figure, dict):
        return ", ".join(f"{key} {_text(value)}" for key, value in figure.items())
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure).replace("|", "/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder to write to")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=450.0, help="no part begins after this")
    args = parser.parse_args()
    device = torch.device("cuda", 0)
    try:
        loader.runtime()
    except KernelError as error:
        print(f"error: no card to run on: {error}", file=sys.stderr)
        return 2
    found = measure(Run(Card(device), Plan(), time.monotonic() + args.seconds), args.parts, args.out)
    return 1 if any("failed" in part for part in found.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
