"""What `instructx kernels report` prints: the cards, what was tested and measured on them, what ran and why.

Place in the data flow: reads `loader`, `select` and the sessions; makes nothing run except, when asked, the judgement
of a card. Every path that is not used has its reason here.
"""

from __future__ import annotations

import torch

from . import loader, select
from .errors import KernelError
from .session import sessions


def devices() -> list[torch.device]:
    """The cards the kernels could run on."""
    try:
        kind = loader.runtime().device_type
    except KernelError:
        return []
    return [torch.device(kind, i) for i in range(torch.cuda.device_count() if kind == "cuda" else 1)]


def report(test: bool = False) -> str:
    """Lines for a human. test: judge cards that were not judged yet (compiles, tests and measures; some seconds)."""
    lines = [f"mode {select.resolve_mode()}, torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}"]
    try:
        runtime = loader.runtime()
    except KernelError as error:
        lines.append(f"our kernels are not used: {error}")
    else:
        try:
            version = ".".join(map(str, runtime.compiler.version))
            lines.append(f"NVRTC {version} from {runtime.compiler.path}")
        except KernelError as error:
            lines.append(f"NVRTC: {error}")
        lines.append(f"cache: {runtime.cache.place}")
        for device in devices():
            lines += ["", *_card(device, test)]
    for session in sessions():
        if session.calls():
            lines += ["", session.report()]
    return "\n".join(lines)


def _card(device: torch.device, test: bool) -> list[str]:
    try:
        known = select.known_verdict(device) if not test else select.verdict(device)
        if known is None:
            return [f"{device}: {loader.runtime().card(device)}, not tested yet"]
    except KernelError as error:
        return [f"{device}: {error}"]
    lines = [f"{device}: {known.card}"]
    for path in (select.INT8, select.EXACT):
        error, speed = known.errors.get(path), known.speed_over(path)
        words = [known.problems.get(path) or "self-test passed"]
        words += [f"error {error:.2%}"] if error is not None else []
        words += [f"{speed:.2f}x the speed of SDPA at 8192 tokens"] if speed is not None else ["speed not measured"]
        lines.append(f"  {path}: {', '.join(words)}")
    speed = known.speed_over(select.KITCHEN)
    if speed is not None:
        lines.append(f"  {select.KITCHEN}: {speed:.2f}x the speed of SDPA at 8192 tokens")
    return lines
