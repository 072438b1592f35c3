"""What the tiny model's recipes cost on this machine's CPU: a step of every kind of batch, and the hours of each run.

    python benchmarks/training_step.py [--recipes tiny_vae tiny_stage2] [--precision fp32 bf16] [--profile] [--json OUT]

First what they start from is rehearsed in a temporary folder. A step is a whole one (draw, forward and backward pass,
optimiser, average), on one thread, on few samples, in processor seconds: the best of --steps. How often a kind of batch
comes is counted in the recipe's own draws. Floor: FLOPs of the passes over those of a large fp32 matrix product here;
what is above it goes into small products, norms, copies and the optimiser.
`--profile` lists the operations of one step of each kind that take longest.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results
import torch

if TYPE_CHECKING:
    from instructx_core.training.job import GlobalBatch
    from instructx_core.training.recipes.base import Recipe
    from instructx_core.training.trainer import Trainer

POOLS = {"image_pool": 27, "image_reference_pool": 27, "video_pool": 4, "video_reference_pool": 4}
VALIDATION = {name.replace("pool", "validation"): 0 for name in POOLS}
QUIET = {"validate_every": 0, "sample_every": 0, "save_every": 10**9}


def peak_flops(size: int = 1024, rounds: int = 5) -> float:
    """FLOPs a processor second of a square fp32 product."""
    a = torch.randn(size, size)
    return 2 * size**3 / results.shortest(lambda: a @ a, rounds)


def small(recipe: Recipe, precision: str) -> Recipe:
    """The recipe with few samples and nothing but steps; batches and draws stay."""
    names = {field.name for field in dataclasses.fields(recipe)}
    wanted = {name: min(count, getattr(recipe, name)) for name, count in (POOLS | VALIDATION).items() if name in names}
    return dataclasses.replace(recipe, precision=precision, **wanted, **QUIET)


def with_batch(recipe: Recipe, size: int) -> Recipe:
    """So many images or clips a step, in all parts of the run."""
    sizes = {"image_batch": size, "video_batch": size}
    recipe = dataclasses.replace(recipe, **sizes, micro_image_batch=size, micro_video_batch=size)
    crops = getattr(recipe, "crops", ())
    return (
        dataclasses.replace(recipe, crops=[dataclasses.replace(each, **sizes) for each in crops]) if crops else recipe
    )


def started_from(names: Sequence[str]) -> list[Recipe]:
    """The recipes that these start from, in order, at a few steps each."""
    from instructx_core.training.recipes.registry import find_recipe
    from instructx_core.training.recipes.sized import rehearsal
    from instructx_core.training.recipes.tiny import TINY

    needed = set[str]()
    for name in reversed(TINY):
        if name in names or name in needed:
            needed |= set(find_recipe(name).requires)
    return [rehearsal(find_recipe(name)) for name in TINY if name in needed]


def seconds_of(trainer: Trainer, step: int, batch: GlobalBatch, rounds: int) -> tuple[float, int]:
    """Processor seconds of the quickest of so many repetitions of a step, and the FLOPs of its passes."""
    trainer.progress.flops.clear()  # crops of one bucket differ by the part of the run

    def once() -> None:
        trainer.step = step
        trainer.train_step()

    once()  # counts FLOPs and chooses kernels
    return results.shortest(once, rounds), trainer.progress.flops[batch.bucket]


def measure(trainer: Trainer, rounds: int, draws: int, profile: bool) -> list[dict[str, Any]]:
    """A row for each kind of batch and size: how often it comes in so many steps of the run, its cost."""
    steps = trainer.recipe.num_steps
    drawn = {step: trainer.job.global_batch(step) for step in range(0, steps, -(-steps // draws))}
    often = Counter(drawn.values())
    first = {batch: step for step, batch in reversed(drawn.items())}
    rows, profiled = list[dict[str, Any]](), set[str]()
    for batch, step in sorted(first.items(), key=lambda item: item[1]):
        seconds, flops = seconds_of(trainer, step, batch, rounds)
        share, about = often[batch] / len(drawn), {"kind": batch.bucket.label, "bucket": str(batch.bucket)}
        rows.append(about | {"batch": batch.size, "share": share, "seconds": seconds, "flops": flops})
        if profile and batch.bucket.label not in profiled:
            profiled.add(batch.bucket.label)
            show_operations(trainer, step, str(batch.bucket))
    return rows


def show_operations(trainer: Trainer, step: int, name: str) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    trainer.step = step
    with recorded(activities=[ProfilerActivity.CPU]) as found:
        trainer.train_step()
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40)
    print(f"{trainer.recipe.name}, {name}\n{table}", flush=True)


def table(found: dict[str, list[dict[str, Any]]], steps: dict[str, int], peak: float) -> str:
    lines = [
        f"fp32 product: {peak / 1e9:.0f} GFLOP a processor second.",
        "",
        "| recipe | batches | share | processor ms a step | a sample | times the floor | hours of the run, one core |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in found.items():
        hours = sum(row["share"] * row["seconds"] for row in rows) * steps[name.split(",")[0]] / 3600
        kinds = defaultdict[str, list[dict[str, Any]]](list)
        for row in rows:
            kinds[row["kind"]].append(row)
        for kind, same in kinds.items():
            share = sum(row["share"] for row in same)
            mean = sum(row["share"] * row["seconds"] for row in same) / share
            samples = sum(row["share"] * row["seconds"] / row["batch"] for row in same) / share
            floor = sum(row["share"] * row["flops"] for row in same) / share / peak
            costs = f"{1e3 * mean:.0f} | {1e3 * samples:.1f} | {mean / floor:.1f}"
            lines.append(f"| {name} | {kind} | {share:.2f} | {costs} | {hours:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", help="of the tiny model (default: all six)")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--steps", type=int, default=3, help="repetitions of a step")
    parser.add_argument("--batch", type=int, help="images or clips of a step instead of the recipe's")
    parser.add_argument("--draws", type=int, default=600, help="steps of a run that are looked at for kinds of batches")
    parser.add_argument("--profile", action="store_true")
    results.add_options(parser, document=True)
    args = parser.parse_args()
    from instructx_core.config import preset
    from instructx_core.training.machine import Machine, Watch
    from instructx_core.training.recipes.registry import find_recipe
    from instructx_core.training.recipes.tiny import TINY
    from instructx_core.training.runs.chain import train_chain
    from instructx_core.training.runs.run import build_job
    from instructx_core.training.trainer import Trainer

    torch.set_num_threads(1)
    wanted, peak = args.recipes or TINY, peak_flops()
    found, steps = dict[str, list[dict[str, Any]]](), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        train_chain(started_from(wanted), output, Machine())
        for name in wanted:
            for precision in args.precision:
                recipe = small(find_recipe(name), precision)
                recipe = with_batch(recipe, args.batch) if args.batch else recipe
                started = time.monotonic()
                job = build_job(recipe, preset(recipe.preset), output)
                trainer = Trainer(recipe, job, output / "timed" / name / precision, watch=Watch(peak=peak))
                trainer.folder.mkdir(parents=True)
                steps[name] = recipe.num_steps
                found[f"{name}, {precision}"] = measure(trainer, args.steps, args.draws, args.profile)
                print(f"{name}, {precision}: measured in {time.monotonic() - started:.0f} s", flush=True)
    results.report(args, {"peak_flops": peak, "recipes": found}, table(found, steps, peak), "training_step")


if __name__ == "__main__":
    main()
