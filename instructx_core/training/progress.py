"""How a run goes: loss by kind of sample, tokens a second, share of the card's peak, time left.

Between the trainer, which times its steps, and what shows them: the bar, metrics.jsonl and TensorBoard (metrics.py).
FLOPs are counted, not estimated: of this process, in the first step of each bucket, what is computed twice twice.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..data.bucket import Bucket
from .job import GlobalBatch
from .machine import Watch

SMOOTHING = 50  # steps of a kind whose mean is shown


class FlopCount(TorchDispatchMode):
    """Of matrix products, convolutions and attention, 2 a multiply-add. Torch's own counter keeps what blocks that are
    computed again have made, which a full card has no room for."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


@dataclass(slots=True)
class RunProgress:
    """Of a run of so many steps. Kinds are what batches are labelled with: image, video+reference, ..."""

    num_steps: int
    watch: Watch
    losses: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=SMOOTHING)))
    seconds: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=SMOOTHING)))
    steps: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    flops: dict[Bucket, int] = field(default_factory=dict)

    @contextmanager
    def counted(self, batch: GlobalBatch) -> Iterator[None]:
        """Around forward and backward passes of a step."""
        if self.watch.peak is None or batch.bucket in self.flops:
            yield
            return
        with FlopCount() as counter:
            yield
        self.flops[batch.bucket] = counter.total

    def note(self, step: int, batch: GlobalBatch, loss: float, seconds: float) -> dict[str, float]:
        """After `step` steps: what metrics.jsonl says beside the loss."""
        kind = batch.bucket.label
        first = kind not in self.seconds
        self.losses[kind].append(loss)
        self.steps[kind] += 1
        if first:  # kernels are chosen and memory is taken in the first step of a kind, which says nothing of the rest
            self.seconds[kind] = deque(maxlen=SMOOTHING)
        else:
            self.seconds[kind].append(seconds)
        row = {"seconds": round(seconds, 4)}
        if batch.tokens:
            row["tokens_a_second"] = round(batch.tokens / seconds, 1)
        if self.watch.peak and not first:
            row["share_of_peak"] = round(self.flops[batch.bucket] / seconds / self.watch.peak, 4)
        left = self.left(step)
        return row if left is None else row | {"seconds_left": round(left)}

    def left(self, step: int) -> float | None:
        """Seconds, if the kinds go on as often as they came; None before a kind has been timed."""
        timed = {kind: sum(some) / len(some) for kind, some in self.seconds.items() if some}
        if not timed:
            return None
        count = sum(self.steps[kind] for kind in timed)
        mean = sum(self.steps[kind] * seconds for kind, seconds in timed.items()) / count
        return mean * (self.num_steps - step)

    def line(self, row: dict[str, Any]) -> str:
        """For the bar: the mean loss of each kind, then the speed of the last step."""
        parts = [f"{kind} {sum(some) / len(some):.4f}" for kind, some in sorted(self.losses.items())]
        if "tokens_a_second" in row:
            parts.append(f"{row['tokens_a_second']:,.0f} tokens/s")
        if "share_of_peak" in row:
            parts.append(f"{row['share_of_peak']:.0%} of the peak")
        if "seconds_left" in row:
            hours, minutes = divmod(row["seconds_left"] // 60, 60)
            parts.append(f"{hours:.0f} h {minutes:.0f} min left")
        return ", ".join(parts)
