"""One model's attention: carries its mode, counts what ran and why, says it once in the log, falls back by itself.

Place in the data flow: the diffusers processor, the ComfyUI override and `kernels.attention` call `Session.attend`;
it asks `select.route` and runs an op, comfy-kitchen, or what the caller would have used without us (`host`).
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import bench, exact, int8, loader, operands, sdpa, select
from .errors import KernelError, Refusal
from .operands import Inputs, NormRope, default_scale
from .select import EXACT, HOST, INT8, KITCHEN, HostTiming, Route

logger = logging.getLogger("instructx")

_sessions: weakref.WeakValueDictionary[int, Session] = weakref.WeakValueDictionary()
_NO_SESSION = 0


class Session:
    """Attention of one loaded model.

    mode: "auto", "exact", "int8" or "off" (select.resolve_mode). name: of the model, for the log line. host_name: what
    runs where we do not. `probe`, if set: computes that on (B, S, H, D), so that "auto" can measure it once on a card.
    """

    def __init__(self, mode: str = "auto", name: str = "model", host_name: str = "pytorch SDPA") -> None:
        self.mode = select.resolve_mode(mode)
        self.name, self.host_name = name, host_name
        self.demoted: str | None = None
        self.card = ""
        self.probe: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self._host_timings: dict[torch.device, HostTiming | None] = {}
        self._counts: Counter[Route] = Counter()
        self._lock = threading.Lock()
        self.key = id(self)
        _sessions[self.key] = self

    def attend(self, inputs: Inputs, *, low_precision: bool = True, host: Callable[[], Tensor] | None = None) -> Tensor:
        """(B, Sq, H, D). low_precision False forbids int8. host: computes the same without us, in the caller's way."""
        if torch.compiler.is_compiling():
            if traces_to_host(inputs.q, self.mode):
                return host() if host is not None else sdpa.attention(*inputs)
            return attention_auto(*inputs, self.mode, self.key, low_precision)[0]
        return self._run(inputs, False, low_precision, host)[0]

    def attend_lse(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """(B, Sq, H, D) and the log-sum-exp (B, H, Sq) float32, to merge with attention over other keys."""
        if torch.compiler.is_compiling():
            if traces_to_host(inputs.q, self.mode):
                return sdpa.attention_lse(*inputs)
            return attention_auto(*inputs, self.mode, self.key, True, True)
        out, lse = self._run(inputs, True, True, None)
        assert lse is not None
        return out, lse

    def attend_projected(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pending: NormRope | None,
        finish: Callable[[], tuple[Tensor, Tensor]],
        host: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """(B, S, H, D) from projections (B, S, H, D) that still lack norm and RoPE: int8 does both in its prologue.

        pending: both, as the prologue reads them on q's device; None: this call cannot be fused. finish: q and k after
        both, for every other path. host(q, k): attention of them without us.
        """
        inputs = Inputs.of(q, k, v)
        if torch.compiler.is_compiling() or pending is None or _wants_gradient((q, k, v, *pending[:2])):
            q, k = finish()
            return self.attend(inputs._replace(q=q, k=k), host=lambda: host(q, k))
        route = self.route(inputs)
        if route.path == INT8:
            try:
                return int8.quantized_attention(inputs, pending.with_weights_as(q.dtype))[0]
            except (KernelError, torch.OutOfMemoryError) as error:
                route = self._failed(route, error, q.device)
        q, k = finish()
        return self._follow(route, inputs._replace(q=q, k=k), False, lambda: host(q, k))[0]

    @property
    def inexact(self) -> bool:
        """Whether something inexact has run and still may."""
        return self.demoted is None and any(route.path in (INT8, KITCHEN) for route in self.calls())

    def preview(self, device: torch.device, dtype: torch.dtype, heads: int = 12, head_dim: int = 128) -> str:
        """What a long self-attention would run, and why; judges the card if it was not. For the Attention node."""
        like = torch.empty(1, dtype=dtype, device=device).expand(1, bench.QUICK[1], heads, head_dim)
        mode = "exact" if self.demoted and self.mode != "off" else self.mode
        route = select.route(Inputs.of(like, like, like), mode)
        return f"{self._describe(route)}\n{_card(device)}, mode {self.mode}"

    def route(self, inputs: Inputs, need_lse: bool = False, low_precision: bool = True) -> Route:
        """The path of a call, counted."""
        q, scale = inputs.q, inputs.scale
        mode = "exact" if self.demoted and self.mode != "off" else self.mode
        host = self._host_timing(q, mode)
        route = select.route(inputs, mode, need_lse, low_precision, host)
        if route.path == KITCHEN and (need_lse or scale != default_scale(q) or _wants_gradient(inputs)):
            route = Route(HOST, "comfy-kitchen has no LSE, backward or scale of one's own")
        if self.demoted and mode == "exact":
            route = Route(route.path, self.demoted)
        self.count(route, q.device)
        return route

    def _host_timing(self, q: Tensor, mode: str) -> HostTiming | None:
        """Of the host's own attention on q's card, measured on the first call that needs it."""
        if self.probe is None or mode != "auto" or q.shape[1] < select.MIN_TOKENS or q.device in self._host_timings:
            return self._host_timings.get(q.device)
        if q.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None
        try:
            card = None if select.unsupported(q, q, q) else select.verdict(q.device)
        except KernelError:
            return None
        if card is None or HOST not in card.milliseconds:
            return None  # a card that is not timed
        try:
            inputs = bench.random_qkv(bench.QUICK, q.device, torch.bfloat16)
            found = HostTiming(self.host_name, bench.time_cuda(self.probe, inputs, rounds=5))
        except (RuntimeError, ValueError, TypeError) as error:
            logger.debug("attention: %s was not timed: %s", self.host_name, error)
            found = None
        self._host_timings[q.device] = found
        return found

    def count(self, route: Route, device: torch.device) -> None:
        """Counts a call; the first one writes the model's log line."""
        with self._lock:
            first = not self._counts
            self._counts[route] += 1
        if first:
            self.card = _card(device)
            logger.info("attention of %s: %s", self.name, self._describe(route))

    def demote(self, reason: str) -> bool:
        """Stay exact from now on. True when that changes anything: something inexact may have run before."""
        with self._lock:
            if self.demoted or not any(route.path in (INT8, KITCHEN) for route in self._counts):
                return False
            self.demoted = reason
        return True

    def calls(self) -> dict[Route, int]:
        with self._lock:
            return dict(self._counts)

    def report(self) -> str:
        """Lines for a human: mode, card, and per path how often it ran and why."""
        lines = [f"attention of {self.name}: mode {self.mode}" + (f", {self.card}" if self.card else "")]
        if self.demoted:
            lines.append(f"exact since: {self.demoted}")
        counts = self.calls()
        lines += [
            f"{count} calls: {self._describe(route)}" for route, count in sorted(counts.items(), key=lambda i: -i[1])
        ]
        return "\n".join(lines if counts else [*lines, "not used yet"])

    def _describe(self, route: Route) -> str:
        path = {INT8: "instructx int8", EXACT: "instructx exact", HOST: self.host_name}.get(route.path, route.path)
        return f"{path} ({route.reason})"

    def _run(
        self, inputs: Inputs, need_lse: bool, low_precision: bool, host: Callable[[], Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        return self._follow(self.route(inputs, need_lse, low_precision), inputs, need_lse, host)

    def _failed(self, route: Route, error: Exception, device: torch.device) -> Route:
        """The route instead of one that did not run: counted, told once, for good only if the kernel is at fault."""
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if isinstance(error, torch.OutOfMemoryError):
            reason = f"{route.path} found too little memory"
        instead = Route(HOST, reason)
        with self._lock:
            first = instead not in self._counts
            self._counts[route] -= 1  # counted when it was planned
            self._counts += Counter()  # drops what is zero
            self._counts[instead] += 1
        if not _only_this_call(error):
            select.disable(device, route.path, reason)
        elif first:
            logger.warning("attention of %s: %s; such calls run on %s", self.name, reason, self.host_name)
        return instead

    def _follow(
        self, route: Route, inputs: Inputs, need_lse: bool, host: Callable[[], Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        if route.path in (INT8, EXACT):
            try:
                return (int8.attention_quantizing if route.path == INT8 else exact.attention)(*inputs)
            except (KernelError, torch.OutOfMemoryError) as error:
                self._failed(route, error, inputs.q.device)
        if route.path == KITCHEN:
            kitchen = bench.kitchen()
            if kitchen is not None:
                q, k, v, _, _, extra_k, extra_v = inputs
                return kitchen(q, sdpa.join(k, extra_k), sdpa.join(v, extra_v)), None
        if need_lse:
            return sdpa.attention_lse(*inputs)
        return (host() if host is not None else sdpa.attention(*inputs)), None


def _only_this_call(error: Exception) -> bool:
    """Whether the kernel itself is well: memory was short, or it refused these arguments or a graph's capture."""
    return isinstance(error, (Refusal, torch.OutOfMemoryError))


def _wants_gradient(inputs: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(isinstance(part, Tensor) and part.requires_grad for part in inputs)


def _card(device: torch.device) -> str:
    try:
        return loader.runtime().card(device)
    except KernelError:
        return str(device)


def traces_to_host(q: Tensor, mode: str) -> bool:
    """For torch.compile: whether it is plain from device, dtype and head dim that our kernels will not run."""
    possible = loader.kernels_possible(q.device.type)
    return mode == "off" or not possible or q.dtype not in operands.DTYPES or q.shape[-1] not in (64, 128)


@torch.library.custom_op(
    f"{exact.NAMESPACE}::attention_auto",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, float scale, Tensor? key_bias=None, Tensor? extra_k=None, "
    'Tensor? extra_v=None, str mode="auto", int session=0, bool low_precision=True, bool need_lse=False)'
    " -> (Tensor, Tensor)",
)
def attention_auto(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
    mode: str = "auto",
    session: int = _NO_SESSION,
    low_precision: bool = True,
    need_lse: bool = False,
) -> tuple[Tensor, Tensor]:
    """What a compiled model calls: the choice is made when it runs, so that the graph has no break.

    LSE is empty (B, H, 0) unless asked for.
    """
    chosen = _sessions.get(session) or of_mode(mode)
    inputs = Inputs(q, k, v, scale, key_bias, extra_k, extra_v)
    out, lse = chosen._run(inputs, need_lse, low_precision, None)
    if not need_lse or lse is None:
        lse = q.new_empty((q.shape[0], q.shape[2], 0), dtype=torch.float32)
    return out.contiguous(), lse


@attention_auto.register_fake
def _fake_attention_auto(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    key_bias: Any = None,
    extra_k: Any = None,
    extra_v: Any = None,
    mode: str = "auto",
    session: int = 0,
    low_precision: bool = True,
    need_lse: bool = False,
) -> tuple[Tensor, Tensor]:
    lse = q.new_empty((q.shape[0], q.shape[2], q.shape[1] if need_lse else 0), dtype=torch.float32)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    exact.keep(ctx, inputs, output)
    ctx.need_lse = inputs[10]


def _recompute(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
    return (*exact.recompute(ctx, grad_out, grad_lse if ctx.need_lse else None), None, None, None, None)


attention_auto.register_autograd(_recompute, setup_context=_keep)

_by_mode: dict[str, Session] = {}


def of_mode(mode: str) -> Session:
    """The session of calls that belong to no model, one a mode."""
    resolved = select.resolve_mode(mode)
    if resolved not in _by_mode:
        _by_mode[resolved] = Session(resolved, "direct calls")
    return _by_mode[resolved]


def sessions() -> list[Session]:
    """All that live, in order of creation."""
    return list(_sessions.values())
