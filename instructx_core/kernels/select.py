"""Which attention runs: our kernels, comfy-kitchen's, the host's or torch's, each choice with its reason.

Place in the data flow: `session.py` asks `route` before every call. A card is judged once (`verdict`): architecture,
self-test, micro-benchmark; the judgement is kept in the kernel cache and holds for this card, driver, torch and source.
Nothing here raises for what cannot run; it becomes the reason that the report shows.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from . import abi, bench, operands, selftest, trial
from .cache import digest
from .errors import KernelError, Refusal
from .loader import runtime, sources_digest
from .operands import Inputs

logger = logging.getLogger("instructx")

MODE_VARIABLE = "INSTRUCTX_ATTENTION"
MODES = ("auto", "exact", "int8", "off")
MIN_TOKENS = 2048  # below, launches cost more than the kernel saves (comfy-kitchen#104 measured 0.6-0.9x)
MARGIN = 1.1  # a path that changes or replaces the host's attention must be this much faster

INT8, EXACT, KITCHEN, HOST = "int8", "exact", "comfy-kitchen", "host"


@dataclass(frozen=True)
class Route:
    """path: "int8", "exact" (ours), "comfy-kitchen" or "host" (what the caller would use without us), and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostTiming:
    """What runs without us, where that is not torch's SDPA: its name, and milliseconds at bench.QUICK."""

    name: str
    milliseconds: float


@dataclass
class Verdict:
    """What is known of one card. problems: path -> why it is not used. milliseconds: path -> median at 8192 tokens."""

    card: str = ""
    capability: tuple[int, int] = (0, 0)
    errors: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    rival: str = "SDPA"  # what milliseconds["host"] belongs to

    def against(self, host: HostTiming) -> Verdict:
        """The same card for a model whose own attention is not torch's."""
        return replace(self, rival=host.name, milliseconds={**self.milliseconds, HOST: host.milliseconds})

    def speed_over(self, path: str, other: str = HOST) -> float | None:
        """How many times faster than `other`; None where one of them was not measured."""
        time, other_time = self.milliseconds.get(path), self.milliseconds.get(other)
        return None if not time or not other_time else other_time / time


def resolve_mode(mode: str = "auto") -> str:
    """The mode that holds: INSTRUCTX_ATTENTION fills in for "auto"; set to "off" it overrules everything.

    Raises ValueError for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"attention mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    wanted = os.environ.get(MODE_VARIABLE, "").strip().lower() or "auto"
    if wanted not in MODES:
        raise ValueError(f"{MODE_VARIABLE}={wanted} is unknown; use one of {', '.join(MODES)}")
    return "off" if wanted == "off" else wanted if mode == "auto" else mode


# --- the card ------------------------------------------------------------------------------------------------------

_verdicts: dict[str, Verdict] = {}
_loaded: set[str] = set()
_lock = threading.RLock()


def _key(device: torch.device) -> str:
    """One physical card, not one model of card: the self-test is also about this one's health."""
    found = runtime()
    uuid = found.driver.visible_name(found.handle(found.index(device)))
    return digest("verdict", sources_digest(), found.card(device), uuid, torch.__version__, found.device_type)


def known_verdict(device: torch.device) -> Verdict | None:
    """The judgement if there is one, in memory or in the cache; tests nothing. Raises KernelError without a card."""
    key = _key(device)
    if key not in _verdicts:
        stored = _parse(runtime().cache.get(key))
        if stored is None:
            return None
        _verdicts[key] = stored
    return _verdicts[key]


def verdict(device: torch.device, again: bool = False) -> Verdict:
    """The judgement of a card, made on the first call (some seconds: compile, self-test, measure), then remembered.

    The first call that is not in a capture also loads every kernel, so that a later capture finds them.

    again: test and measure anew. Raises KernelError where there is no card to judge.
    """
    key = _key(device)
    with _lock:
        known = None if again else known_verdict(device)
        capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if known is None:
            if capturing:
                raise Refusal("the card was not tested before a CUDA graph was captured; run once without")
            known = _verdicts[key] = _judge(device, runtime().card(device))
            # What was not found today (no NVRTC, no memory) may be there tomorrow; measured facts are kept.
            if len(known.errors) == 2:
                runtime().cache.put(key, json.dumps(asdict(known)).encode())
        if key not in _loaded and not capturing and _load(device, known):
            _loaded.add(key)
        return known


def _load(device: torch.device, known: Verdict) -> bool:
    """False where it is worth another try: memory was short, or another thread captured a graph."""
    if len(known.problems) == 2:
        return True
    try:
        runtime().load_all(device)
    except Refusal:
        return False
    except KernelError as error:
        for path in (EXACT, INT8):
            known.problems.setdefault(path, str(error))
    return True


def _judge(device: torch.device, card: str) -> Verdict:
    made = Verdict(card, runtime().capability(device))
    for path, result in trial.run_trials(device).items():
        if result.lasting:
            made.errors[path] = max((e for name, e in result.errors.items() if "LSE" not in name), default=float("inf"))
        problem = result.problem or _excess(path, result.errors)
        if problem:
            made.problems[path] = problem
            logger.warning("attention: %s is not used: %s", path, problem)
    if device.type == "cuda":
        ours = [path for path in (EXACT, INT8) if path not in made.problems]
        made.milliseconds = bench.quick(device, ours)
    return made


def _excess(path: str, errors: dict[str, float]) -> str:
    """The self-test's worst case, in words, where it lies above its limit; else nothing."""
    worst = max(errors, key=lambda name: errors[name] / selftest.limit(path, name))
    error, allowed = errors[worst], selftest.limit(path, worst)
    if error <= allowed:
        return ""
    return f"self-test failed on this card: error {error:.2%} in {worst}, allowed {allowed:.2%}; please report it"


def _parse(stored: bytes | None) -> Verdict | None:
    if stored is None:
        return None
    try:
        read = json.loads(stored)
        read["capability"] = tuple(read["capability"])
        return Verdict(**read)
    except (ValueError, KeyError, TypeError):
        return None


# --- the call ------------------------------------------------------------------------------------------------------


def unsupported(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why our kernels cannot take these (B, S, H, D) tensors at all; None when they can."""
    try:
        runtime().index(q.device)
    except KernelError as error:
        return str(error)
    if q.dtype not in operands.DTYPES:
        return f"{str(q.dtype).removeprefix('torch.')} tensors (bfloat16 and float16 are supported)"
    if any(part.dtype != q.dtype or part.device != q.device for part in (k, v)):
        return "q, k and v differ in dtype or device"
    if q.shape[-1] not in abi.HEAD_DIMS:
        return f"head dim {q.shape[-1]} (64 and 128 are supported)"
    if k.shape[2] != q.shape[2]:
        return f"{q.shape[2]} query heads and {k.shape[2]} key heads"
    if q.numel() == 0 or k.numel() == 0:
        return "empty tensors"
    return None


def route(
    inputs: Inputs,
    mode: str,
    need_lse: bool = False,
    low_precision: bool = True,
    host: HostTiming | None = None,
) -> Route:
    """The path of one call. mode: resolved. low_precision False forbids int8, as a host's caller may."""
    if mode == "off":
        return Route(HOST, "switched off")
    q, k, v, _, key_bias, extra_k, _ = inputs
    problem = unsupported(q, k, v)
    if problem is not None:
        return Route(HOST, problem)
    tokens = min(q.shape[1], k.shape[1] + (0 if extra_k is None else extra_k.shape[1]))
    if tokens < MIN_TOKENS and not need_lse:
        return Route(HOST, f"fewer than {MIN_TOKENS} tokens")
    try:
        card = verdict(q.device)
    except KernelError as error:
        return Route(HOST, str(error))
    card = card if host is None else card.against(host)
    special = "LSE asked for" if need_lse else "key bias" if key_bias is not None else None
    if special is None and extra_k is not None and extra_k.shape[1]:
        special = "two segments"
    if mode == "exact" or not low_precision:
        return _exact(card, special, "exact asked for" if mode == "exact" else "the model forbids low precision here")
    if key_bias is not None:
        return _exact(card, special, "key bias, which int8 does not take")
    if INT8 in card.problems:
        return _exact(card, special, card.problems[INT8])
    if mode == "int8":
        return Route(INT8, "int8 asked for, self-test passed")
    return _auto(card, special)


def _exact(card: Verdict, special: str | None, reason: str) -> Route:
    """Ours where torch has nothing equal or was measured slower; else the host's, which is exact too."""
    if EXACT in card.problems:
        return Route(HOST, reason if reason.startswith(card.problems[EXACT]) else f"{reason}; {card.problems[EXACT]}")
    if special == "LSE asked for":
        return Route(EXACT, f"{reason}; {special}")
    gain = card.speed_over(EXACT)
    if gain is not None and gain >= MARGIN:
        return Route(EXACT, f"{reason}; {gain:.1f}x the speed of {card.rival} measured")
    if special is not None and prefers_ours(card.capability):
        return Route(EXACT, f"{reason}; {special}")
    return Route(HOST, reason)


def _auto(card: Verdict, special: str | None) -> Route:
    ours, kitchen = card.speed_over(INT8), card.speed_over(KITCHEN)
    if special is None and kitchen is not None and kitchen >= max(MARGIN, ours or 0.0):
        return Route(KITCHEN, f"measured fastest on this card, {kitchen:.1f}x the speed of {card.rival}")
    if ours is not None:
        if ours >= MARGIN:
            return Route(
                INT8, f"{ours:.1f}x the speed of {card.rival} measured, self-test error {card.errors[INT8]:.1%}"
            )
        return _exact(card, special, f"int8 measured {ours:.2f}x the speed of {card.rival}, {MARGIN}x is needed")
    if prefers_ours(card.capability):
        return Route(INT8, f"self-test passed, error {card.errors[INT8]:.1%}; speed not measured")
    major, minor = card.capability
    return _exact(card, special, f"sm_{major}{minor} prefers SDPA unless int8 was measured faster")


def prefers_ours(capability: tuple[int, int]) -> bool:
    """Architectures where mma.sync is the way to the tensor cores' int8 rate: 8.x and 12.x. On 9.x, 10.x it is not."""
    return capability[0] in (8, 12)


def disable(device: torch.device, path: str, reason: str) -> None:
    """A kernel that failed to launch is not tried again in this process."""
    try:
        verdict(device).problems[path] = reason
    except KernelError:
        return
    logger.warning("attention: %s is switched off: %s", path, reason)
