"""Success and cost of fewer steps and of the step caches, on held-out edits of the procedural world. One command.

    python benchmarks/steps.py --json steps.json --plot docs/steps.png --write docs/speed.md

Every setting edits the same samples with the same noise; encoder and VAE run once. Cost is counted in DiT blocks that
ran (the same on every machine) and measured in CPU seconds of this process in the steps. Success: shapes' own measure.
`--write` puts the tables between the marks `<!-- steps -->` of a document.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
import torch

if TYPE_CHECKING:
    from instructx_core.pipeline import InstructXPipeline

STEPS = (2, 4, 6, 8, 12, 20, 30)
SAMPLERS = ("euler", "unipc")
CACHES = (
    "first-block:0.1",
    "first-block:0.2",
    "first-block:0.4",
    "mag:0.06",
    "mag:0.2",
    "taylorseer:2",
)


@dataclass
class Row:
    """One setting. success in [0, 1] with its 95 % interval over `count` samples; blocks: DiT blocks run a sample."""

    setting: str
    sampler: str
    steps: int
    success: float
    low: float
    high: float
    pixel_error: float
    blocks: float
    cpu_seconds: float
    count: int


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped one)")
    parser.add_argument("--images", type=int, default=66, help="held-out images, 11 tasks in turn")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="numbers of steps of the curve")
    parser.add_argument("--batch-size", type=int, default=11, help="samples at once; first-block takes them one by one")
    parser.add_argument("--plot", type=Path)
    results.add_options(parser, document=True)
    return parser.parse_args()


class Bench:
    """The samples, encoded; measures one setting of the pipeline after the other."""

    def __init__(self, pipe: InstructXPipeline, images: int, batch_size: int) -> None:
        from instructx_core.evaluation.batch import encode_samples, group_samples
        from instructx_core.shapes.benchmark import benchmark_samples

        self.pipe, self.batch_size = pipe, batch_size
        samples = list(benchmark_samples("image", images))
        groups = {size: list(group_samples(samples, size)) for size in (batch_size, 1)}
        self.encoded = {
            size: [encode_samples(pipe, [samples[i] for i in group]) for group in found]
            for size, found in groups.items()
        }
        self.blocks = 0
        for block in pipe.transformer.blocks:
            block.attn1.to_q.register_forward_hook(self._count)

    def _count(self, _module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        self.blocks += inputs[0].shape[0]

    def measure(self, setting: str, sampler: str, steps: int, alone: bool = False) -> Row:
        from instructx_core.evaluation.batch import edit_encoded
        from instructx_core.sampling.schedule import build_scheduler
        from instructx_core.shapes.benchmark import summarise
        from instructx_core.shapes.success import score

        pipe = self.pipe
        pipe.scheduler = build_scheduler(pipe.instructx_config, sampler)
        batches = self.encoded[1 if alone else self.batch_size]
        if pipe.step_cache is not None and pipe.step_cache.kind == "mag":
            edit_encoded(pipe, self.encoded[1][0], steps)  # measures the magnitudes
        self.blocks, scores, start = 0, [], time.process_time()
        for batch in batches:
            frames = edit_encoded(pipe, batch, steps)
            scores += [score(sample, edited) for sample, edited in zip(batch.samples, frames, strict=True)]
        seconds, rate = time.process_time() - start, summarise(scores)
        count = len(scores)
        row = Row(
            setting,
            sampler,
            steps,
            rate.overall.success,
            rate.overall.low,
            rate.overall.high,
            rate.pixel_error,
            self.blocks / count,
            seconds / count,
            count,
        )
        print(
            f"{setting:18}{sampler:7}{steps:4}{100 * row.success:8.1f} %{row.blocks:9.1f} blocks{seconds:8.1f} s",
            flush=True,
        )
        return row


def run(args: argparse.Namespace) -> list[Row]:
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    bench = Bench(pipe, args.images, args.batch_size)
    rows = [bench.measure("steps", sampler, steps) for sampler in SAMPLERS for steps in args.steps]
    usual = pipe.instructx_config.sampling.num_steps
    rows.append(bench.measure("no cache", "euler", usual))
    for cache in CACHES:
        pipe.enable_cache(cache)
        # first-block looks at the tokens, so each sample decides for itself; the others go by the step alone
        rows.append(bench.measure(cache, "euler", usual, alone=cache.startswith("first-block")))
    pipe.disable_cache()
    pipe.place("none", torch.device("cpu"), fp8=True)
    rows.append(bench.measure("fp8 storage", "euler", usual))
    return rows


def percent(row: Row) -> str:
    return f"{100 * row.success:.0f} % [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def tables(rows: list[Row], model: str) -> str:
    curve = [row for row in rows if row.setting == "steps"]
    others = [row for row in rows if row.setting != "steps"]
    usual = next(row for row in others if row.setting == "no cache")
    lines = [
        f"Model `{model}`, {curve[0].count} held-out images, equal samples and noise; success with 95 % interval.",
        "",
        "| steps | " + " | ".join(SAMPLERS) + " |",
        "| --- |" + " --- |" * len(SAMPLERS),
    ]
    for steps in dict.fromkeys(row.steps for row in curve):
        found = {row.sampler: row for row in curve if row.steps == steps}
        lines.append(f"| {steps} | " + " | ".join(percent(found[name]) for name in SAMPLERS) + " |")
    lines += ["", f"At {usual.steps} Euler steps:", "", "| setting | success | pixel error | DiT blocks run | fewer |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in others:
        fewer = f"{usual.blocks / row.blocks:.2f}x"
        lines.append(f"| {row.setting} | {percent(row)} | {row.pixel_error:.4f} | {row.blocks:.1f} | {fewer} |")
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=110)
    for sampler, colour in zip(SAMPLERS, ("#1f5fa8", "#c2571a"), strict=True):
        curve = [row for row in rows if row.setting == "steps" and row.sampler == sampler]
        x, y = [row.steps for row in curve], [100 * row.success for row in curve]
        axes.plot(x, y, "o-", color=colour, label=sampler)
        axes.fill_between(
            x, [100 * r.low for r in curve], [100 * r.high for r in curve], color=colour, alpha=0.12, lw=0
        )
    axes.set(xscale="log", xlabel="denoising steps", ylabel="successful edits, %", ylim=(0, None))
    ticks = sorted({row.steps for row in rows if row.setting == "steps"})
    axes.set_xticks(ticks, [str(steps) for steps in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.set_title(f"Few steps: {rows[0].count} held-out images, 95 % intervals")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    args = arguments()
    from instructx_core.weights import SHIPPED, find_files

    rows = run(args)
    text = tables(rows, find_files(args.model or SHIPPED).denoiser.stem)
    results.report(args, [asdict(row) for row in rows], text, "steps")
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
