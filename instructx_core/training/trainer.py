"""The training loop: draw, accumulate, clip, step, average, validate, save. Knows nothing of what it trains.

A Job gives the trainable tensors and the loss of some positions of a step's global batch; everything random comes from
(seed, step, position) (rng.py), so a resumed run repeats the uninterrupted one to the bit.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from . import checkpoint, distributed
from .muon import Muon
from .recipes import Recipe

logger = logging.getLogger("instructx")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What all ranks train on in one step: one modality, with or without a reference, so that shapes agree."""

    modality: str
    has_reference: bool
    batch: int  # global
    micro: int


class Job(Protocol):
    """What a recipe trains. All tensors of a step come from (recipe.seed, step, positions)."""

    trainable: dict[str, nn.Parameter]

    def bucket(self, step: int) -> Bucket: ...

    def loss(self, step: int, bucket: Bucket, positions: range) -> Tensor:
        """Scalar: mean over `positions` of the step's global batch."""
        ...

    def validate(self) -> dict[str, float]: ...

    def picture(self, path: Path) -> None:
        """Writes a PNG of what the model makes now."""
        ...

    def finish(self) -> None:
        """Last change of the (averaged) weights before they are exported."""
        ...


DECAY_SHARE = {"constant": 1e-9, "linear": 1.0, "cooldown": 0.25}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then constant, or linear to zero at num_steps over DECAY_SHARE of the steps."""
    scale = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = max(0.0, 1 - step / recipe.num_steps)
    return recipe.learning_rate * scale * min(1.0, left / DECAY_SHARE[recipe.learning_rate_decay])


def build_optimizers(recipe: Recipe, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """AdamW, norms and biases not decayed; with recipe.muon_scale, Muon for convolutions at a multiple of the rate."""
    convolutions = [p for p in parameters if p.ndim >= 4 and min(len(p), p[0].numel()) > 1] if recipe.muon_scale else []
    taken = {id(p) for p in convolutions}
    others = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)]
    if convolutions:
        group = {"params": convolutions, "lr_scale": recipe.muon_scale}
        optimizers.append(Muon([group], lr=recipe.learning_rate))
    return optimizers


class Trainer:
    """Runs `recipe` with `job`; state lives in `folder`. `run()` starts or resumes."""

    def __init__(self, recipe: Recipe, job: Job, folder: Path) -> None:
        self.recipe, self.job, self.folder = recipe, job, folder
        self.rank, self.world = distributed.setup()
        self.trainable = job.trainable
        self.parameters = list(self.trainable.values())
        self.device = self.parameters[0].device.type
        self.names = {parameter: name for name, parameter in self.trainable.items()}
        self.optimizers = build_optimizers(recipe, self.parameters)
        self.ema = {name: p.detach().clone() for name, p in self.trainable.items()} if recipe.ema_decay else {}
        self.step = 0
        self._stop = False

    # --- state ---

    def resume(self) -> None:
        found = checkpoint.load_latest(self.folder, self.recipe.as_json())
        if found is None:
            return
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(found.model[name])
            for name, value in self.ema.items():
                value.copy_(found.ema[name])
        for optimizer in self.optimizers:
            checkpoint.restore_optimizer(optimizer, self.names, found.optimizer)
        self.step = found.step
        self._truncate_metrics()

    def save(self) -> None:
        if self.rank:
            return
        state = checkpoint.Checkpoint(
            step=self.step,
            model={name: p.detach() for name, p in self.trainable.items()},
            ema=self.ema,
            optimizer=checkpoint.optimizer_tensors(self.optimizers, self.names),
        )
        checkpoint.save(self.folder, state, self.recipe.as_json())

    def export(self) -> Path:
        """Writes final.safetensors: the trained tensors (averaged where EMA is on) and the recipe."""
        path = self.folder / "final.safetensors"
        partial = self.folder / ".final.safetensors"
        with self.averaged():
            self.job.finish()
            tensors = {name: p.detach().clone() for name, p in self.trainable.items()}
        metadata = {"recipe": json.dumps(self.recipe.as_json()), "step": str(self.step)}
        save_file(tensors, partial, metadata)
        partial.replace(path)
        return path

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds the EMA weights inside."""
        if not self.ema:
            yield
            return
        kept = {name: p.detach().clone() for name, p in self.trainable.items()}
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(self.ema[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.trainable.items():
                    parameter.copy_(kept[name])

    # --- one step ---

    def train_step(self) -> dict[str, float | str]:
        recipe, step = self.recipe, self.step
        bucket = self.job.bucket(step)
        rate = learning_rate(recipe, step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
        total = torch.zeros(())
        for positions in distributed.shard(bucket.batch, self.rank, self.world, bucket.micro):
            with torch.autocast(self.device, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = self.job.loss(step, bucket, positions)
            loss = loss * (len(positions) / bucket.batch)
            loss.backward()
            total += loss.detach().float().cpu()
        distributed.sum_gradients(self.parameters, self.world)
        total = distributed.sum_scalar(total, self.world)
        norm = nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm)
        if not torch.isfinite(total) or not torch.isfinite(norm):
            raise FloatingPointError(f"step {step}: loss {total.item()}, gradient norm {norm.item()}: not finite")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        kind = bucket.modality + ("+reference" if bucket.has_reference else "")
        return {"loss": total.item(), "norm": norm.item(), "lr": rate, "bucket": kind}

    def _average(self) -> None:
        if not self.ema:
            return
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))  # starts as a plain average
        averages = [self.ema[name] for name in self.trainable]
        with torch.no_grad():
            torch._foreach_lerp_(averages, self.parameters, 1 - decay)

    # --- the run ---

    def run(self, stop_at: int | None = None) -> Path | None:
        """Trains to recipe.num_steps (or `stop_at`). Returns the exported file, None when stopped early.

        SIGINT and SIGTERM save a checkpoint and stop.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resume()
        last = min(stop_at or self.recipe.num_steps, self.recipe.num_steps)
        previous = {s: signal.signal(s, self._request_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=self.recipe.num_steps, initial=self.step, desc=self.recipe.name, disable=bool(self.rank))
        try:
            while self.step < last and not self._stop:
                started = time.perf_counter()
                row = self.train_step()
                self._log({"step": self.step, **row, "seconds": round(time.perf_counter() - started, 4)})
                bar.set_postfix_str(f"loss {row['loss']:.4f}")
                bar.update()
                self._every_so_often()
            if self.step % self.recipe.save_every and not (self.folder / f"step-{self.step:07d}").exists():
                self.save()
            return self.export() if self.step >= self.recipe.num_steps and not self.rank else None
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
            distributed.shutdown()

    def _every_so_often(self) -> None:
        recipe = self.recipe
        if self.step % recipe.save_every == 0:
            self.save()
        due = [n and self.step % n == 0 for n in (recipe.validate_every, recipe.sample_every)]
        if self.rank or not any(due):
            return
        with self.averaged(), torch.no_grad():
            if due[0]:
                self._log({"step": self.step, "validation": self.job.validate()})
            if due[1]:
                self.job.picture(self.folder / f"sample-{self.step:07d}.png")
        from .plots import plot_metrics

        plot_metrics([self.folder / "metrics.jsonl"], self.folder / "loss.png")

    def _request_stop(self, number: int, frame: object) -> None:
        logger.warning("signal %d: saving a checkpoint after this step, then stopping", number)
        self._stop = True

    def _log(self, row: dict[str, object]) -> None:
        if not self.rank:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def _truncate_metrics(self) -> None:
        """Drops rows of steps that the checkpoint doesn't hold: they are about to be done again."""
        path = self.folder / "metrics.jsonl"
        if self.rank or not path.exists():
            return
        rows = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        kept = [line for line in rows if json.loads(line)["step"] <= self.step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept))
        partial.replace(path)
