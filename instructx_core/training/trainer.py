"""The training loop: draw, accumulate, clip, step, average, validate, save. Knows nothing of what it trains.

A TrainingJob (job.py) gives the trainable tensors and the loss of some positions of a step's global batch; all
randomness comes from (seed, step, position) (rng.py), so a resumed run repeats the uninterrupted one to the bit.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..precision import dtype_of
from . import checkpoint, distributed, sharded_checkpoint
from .average import Average, copy_tensors
from .best import Best
from .engine import Engine
from .filling import whole_tensor, write_gathered
from .job import GlobalBatch, TrainingJob
from .machine import Watch, peak_memory
from .metrics import Metrics
from .optimizers import build_optimizers, learning_rate, round_moments, set_learning_rate, step_optimizers
from .progress import RunProgress
from .recipes.base import Recipe

logger = logging.getLogger("instructx")

FINAL = "final.safetensors"
# A checkpoint lies that many steps before the end, from which runs/repeat.py does them again; half of a shorter run.
REPEATED = 200


def repeated_from(num_steps: int) -> int:
    """The step of the checkpoint before the end of a run of so many steps."""
    return num_steps - min(REPEATED, (num_steps + 1) // 2)


class Trainer:
    """Runs `recipe` with `job`; state lives in `folder`. `run()` starts or resumes."""

    def __init__(
        self,
        recipe: Recipe,
        job: TrainingJob,
        folder: Path,
        engine: Engine = Engine(),  # noqa: B008 - frozen
        watch: Watch = Watch(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.job, self.folder, self.engine = recipe, job, folder, engine
        self.rank, self.world = distributed.setup()
        self.trainable = job.trainable
        self.parameters = list(self.trainable.values())
        self.device = self.parameters[0].device.type
        self.dtype = dtype_of(recipe.precision, self.device)
        self.names = {parameter: name for name, parameter in self.trainable.items()}
        self.optimizers = build_optimizers(recipe, self.trainable, engine.low_moments)
        self.average = Average(self.trainable, recipe.ema_decay)
        self.metrics = Metrics(folder / "metrics.jsonl", enabled=not self.rank, tensorboard=watch.tensorboard)
        self.progress = RunProgress(recipe.num_steps, watch)
        self.best = Best(folder, recipe.patience, self.metrics) if recipe.patience else None
        self.step = 0
        self._stop = False

    # --- state ---

    def resume(self) -> None:
        """From the newest checkpoint, whichever way it was written and by however many processes."""
        found = checkpoint.find_latest(self.folder, self.recipe.as_json())
        if found is None:
            self.metrics.truncate(0)
            return
        path, self.step = found
        if sharded_checkpoint.is_sharded(path):
            sharded_checkpoint.restore_sharded(path, self.trainable, self.average.tensors, self.optimizers)
        else:
            state = checkpoint.load_state(path, self.step)
            copy_tensors(self.trainable, state.model)
            self.average.load(state.ema)
            for optimizer in self.optimizers:
                checkpoint.restore_optimizer(optimizer, self.names, state.optimizer)
        round_moments(self.optimizers)
        self.metrics.truncate(self.step)

    def save(self) -> None:
        sharded = self.engine.sharded
        if self.rank and not sharded:
            return
        state = checkpoint.Checkpoint(
            step=self.step,
            model={name: p.detach() for name, p in self.trainable.items()},
            ema=self.average.tensors,
            optimizer=checkpoint.optimizer_tensors(self.optimizers, self.names),
        )
        (sharded_checkpoint.save_sharded if sharded else checkpoint.save_state)(
            self.folder, state, self.recipe.as_json()
        )
        round_moments(self.optimizers)

    def export(self) -> Path:
        """Writes final.safetensors: the trained tensors (averaged where EMA is on) and the recipe.

        By all processes, of which the first writes; a sharded tensor is gathered when its turn comes.
        """
        path, partial = self.folder / FINAL, self.folder / f".{FINAL}"
        if self.best is not None and self.best.path.is_file():
            if not self.rank:
                shutil.copyfile(self.best.path, partial)
                partial.replace(path)
            return path
        metadata = {"recipe": json.dumps(self.recipe.as_json()), "step": str(self.step)}
        with self.average.in_place():
            self.job.finish()
            write_gathered(partial, self.trainable, metadata, writes=not self.rank)
        if not self.rank:
            partial.replace(path)
        return path

    # --- one step ---

    def attention(self) -> AbstractContextManager[object]:
        """On a CPU matrix products: the backward pass of torch's flash attention there took a third of a small step."""
        return sdpa_kernel(SDPBackend.MATH) if self.device == "cpu" else nullcontext()

    def train_step(self) -> dict[str, float | str]:
        """Returns what metrics.jsonl says of it. Raises FloatingPointError for a loss that is not finite."""
        recipe, step = self.recipe, self.step
        batch = self.job.global_batch(step)
        rate = learning_rate(recipe, step)
        set_learning_rate(self.optimizers, rate)
        total = torch.zeros((), device=self.device)
        started = time.perf_counter()
        with self.progress.counted(batch):
            for positions in distributed.shard(batch.size, self.rank, self.world, batch.micro):
                total += self._accumulate(step, batch, positions)
        if not self.engine.sharded:
            distributed.sum_gradients(self.parameters, self.world)
        total = distributed.sum_scalar(total, self.world)
        norm = whole_tensor(nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm))
        if not torch.isfinite(total) or not torch.isfinite(norm):
            raise FloatingPointError(f"step {step}: loss {total.item()}, gradient norm {norm.item()}: not finite")
        step_optimizers(self.optimizers, self.device)
        self.step += 1
        self.average.update(self.step)
        row = {"loss": total.item(), "norm": norm.item(), "lr": rate, "bucket": batch.bucket.label}
        return row | self.progress.note(self.step, batch, row["loss"], time.perf_counter() - started)

    def _accumulate(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        """Adds the gradients of one forward pass; gives its share of the loss."""
        with self.attention():  # around the backward pass too, which may compute blocks again
            with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                loss = self.job.loss(step, batch, positions)
            loss = loss * (len(positions) / batch.size)
            (loss * self.world if self.engine.sharded else loss).backward()  # FSDP takes the mean over processes
        return loss.detach().float()

    # --- the run ---

    def run(self, stop_at: int | None = None) -> Path | None:
        """Trains to recipe.num_steps (or `stop_at`). Returns the exported file, None when stopped early.

        SIGINT and SIGTERM save a checkpoint and stop; a thread beside the main one, as of a Ray worker, hears none.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resume()
        if not self.rank:  # not before: a run that is refused leaves the file of the run that is there
            (self.folder / "recipe.json").write_text(json.dumps(self.recipe.as_json(), indent=1))
        last = min(stop_at or self.recipe.num_steps, self.recipe.num_steps)
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        previous = {s: signal.signal(s, self._request_stop) for s in heard}
        has_peak = over = False
        bar = tqdm(total=self.recipe.num_steps, initial=self.step, desc=self.recipe.name, disable=bool(self.rank))
        try:
            if self.best is not None and not (self.rank or self.step or self.metrics.validated()):
                self._validate()  # the model as it was
            while self.step < last and not self._stop and not (over := self._is_over()):
                row = self.train_step()
                self.metrics.write({"step": self.step, **row})
                bar.set_postfix_str(self.progress.line(row))
                bar.update()
                if not has_peak and not self.rank:
                    has_peak = True
                    logger.info("%s", peak_memory(self.device))
                self._every_so_often()
            if self.step % self.recipe.save_every and not (self.folder / f"step-{self.step:07d}").exists():
                self.save()
            done = over or self.step >= self.recipe.num_steps
            path = self.export() if done and (self.engine.sharded or not self.rank) else None
            distributed.wait()  # the next recipe reads what the first process writes
            return path or (self.folder / FINAL if done else None)
        finally:
            bar.close()
            self.metrics.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _every_so_often(self) -> None:
        recipe = self.recipe
        if self.step % recipe.save_every == 0 or self.step == repeated_from(recipe.num_steps):
            self.save()
        validate, sample = (bool(n) and self.step % n == 0 for n in (recipe.validate_every, recipe.sample_every))
        if (self.rank and not self.engine.sharded) or not (validate or sample):
            return
        with self.average.in_place(), torch.no_grad():  # of a sharded model all processes do the same
            if validate:
                self._validate()
            if sample:
                sheet = self.folder / f"sample-{self.step:07d}.png"
                self.job.picture(None if self.rank else sheet)
                self.metrics.show(self.step, sheet)
        if self.rank:
            return
        from .plots import plot_metrics

        plot_metrics([self.metrics.path], self.folder / "loss.png")

    def _validate(self) -> None:
        """The weights that are in place."""
        found = self.job.validate()
        self.metrics.write({"step": self.step, "validation": found})
        if self.best is not None:
            recipe = {"recipe": json.dumps(self.recipe.as_json())}
            self.best.offer(
                self.step,
                found,
                lambda path, about: write_gathered(path, self.trainable, recipe | about, writes=not self.rank),
            )

    def _is_over(self) -> bool:
        """Whether validation has turned; all processes learn of it from the first, at the steps that validate."""
        if self.best is None or self.step % self.recipe.validate_every:
            return False
        over = torch.tensor(float(not self.rank and self.best.is_over()), device=self.device)
        return bool(distributed.sum_scalar(over, self.world))

    def _request_stop(self, number: int, frame: object) -> None:
        logger.warning("signal %d: saving a checkpoint after this step, then stopping", number)
        self._stop = True
