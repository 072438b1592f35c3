"""The model card of a trained tiny model: its runs and its benchmark as README.md and a plot beside the weights.

Everything in it is read from the runs' own files and from the JSON of an evaluation; nothing is typed in but the
hardware. Which runs led to the model follows from what each required. A run that started from the shipped model
adds its row to those of that model, which lie in history.json.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ...config import InstructXConfig, preset
from ...errors import InputError
from ...formats.layouts.folders import SHIPPED
from ..plots import plot_metrics
from ..recipes.base import FROM_SHIPPED
from ..recipes.edit import EditRecipe
from ..start import run_recipe, started_from

logger = logging.getLogger("instructx")

HISTORY = "history.json"


def run_facts(output: Path, name: str) -> dict[str, Any]:
    """What the table says of one run; minutes are those of stepping. Raises InputError when it has not run."""
    metrics = output / name / "metrics.jsonl"
    if not metrics.is_file():
        raise InputError(f"no {metrics}; run `instructx train {name}` first")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    recipe = run_recipe(output, name)
    return {
        "recipe": name,
        "what": recipe.get("description", ""),  # of a run of an earlier version: none
        "steps": max(row["step"] for row in rows),
        "batch": [recipe["image_batch"], recipe["video_batch"]],
        "learning_rate": recipe["learning_rate"],
        "falls": recipe["learning_rate_decay"] != "constant",
        "seed": recipe["seed"],
        "minutes": round(sum(row.get("seconds", 0.0) for row in rows) / 60),
    }


def runs_before(output: Path, last: str) -> list[str]:
    """The runs that led to `last`, in the order in which one needed the other, with `last` at the end."""
    found: list[str] = []
    for name in started_from(output, last):
        if name != FROM_SHIPPED:
            found += [each for each in runs_before(output, name) if each not in found]
    return [*found, last]


def history(output: Path, last: str) -> dict[str, Any]:
    """Runs and plots that led to the final weights of `last`, in order."""
    if FROM_SHIPPED in started_from(output, last):
        earlier = json.loads((SHIPPED / HISTORY).read_text())
        return {
            "runs": [*earlier["runs"], run_facts(output, last)],
            "plots": [*earlier["plots"], f"curves-{last}.png"],
        }
    return {"runs": [run_facts(output, name) for name in runs_before(output, last)], "plots": ["curves.png"]}


def plotted_runs(output: Path, last: str) -> list[str]:
    """The runs of the newest plot: all stages of edits that led to `last`, or `last` alone."""
    if FROM_SHIPPED in started_from(output, last):
        return [last]
    stages = [name for name in runs_before(output, last) if run_recipe(output, name)["job"] == EditRecipe.job]
    return stages or [last]


def run_row(run: dict[str, Any]) -> str:
    rate = f"{run['learning_rate']:g}{' to 0' if run['falls'] else ''}"
    images, clips = run["batch"]
    return (
        f"| `{run['recipe']}` | {run['what']} | {run['steps']:,} | {images}, {clips} | {rate} | {run['seed']} "
        f"| {run['minutes']} |"
    )


def score_cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{100 * score['success']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def score_rows(evaluation: dict[str, Any]) -> list[str]:
    """One row a task and summary: success in percent with its interval, of images and of clips."""
    images, clips, groups = evaluation["image"], evaluation["video"], evaluation["groups"]
    names = [name for name, value in images.items() if isinstance(value, dict)]
    rows = [f"| {name} | {score_cell(images[name])} | {score_cell(clips.get(name))} |" for name in names]
    rows.append(f"| reference tasks, both together | {score_cell(groups.get('reference'))} | |")
    rows.append(f"| zero-shot: style and segment | | {score_cell(groups.get('zero-shot clips'))} |")
    return rows


def target_rows(evaluation: dict[str, Any]) -> list[str]:
    """One row a target of `instructx eval world`: what was reached with its interval, floor and aim."""
    rows = ["| | reached | floor | aim |", "| --- | --- | --- | --- |"]
    for target in evaluation["targets"]:
        figures = "-"
        if "value" in target:
            figures = f"{target['value']:.1f} [{target['low']:.1f}, {target['high']:.1f}]"
        rows.append(f"| {target['row']} | {figures} | {target['floor']:g} | {target['aim']:g} |")
    return rows


def measured(evaluation: dict[str, Any], config: InstructXConfig) -> str:
    """The section on what an evaluation found, of either world."""
    settings, model = evaluation["settings"], evaluation["model"]
    run = f"model `{model}`, {settings['steps'] or config.sampling.num_steps} steps, seed {settings['seed']}"
    if "targets" in evaluation:
        table = "\n".join(target_rows(evaluation))
        return f"`instructx eval world` ({run}), with 95 % intervals:\n\n{table}"
    table = "\n".join(["| task | images | clips |", "| --- | --- | --- |", *score_rows(evaluation)])
    errors = [f"{evaluation[modality]['pixel_error']:.3f}" for modality in ("image", "video")]
    return f"""`instructx eval shapes --json OUT.json --images {settings["images"]} --clips {settings["clips"]}` on the
held-out test split ({run}); success in percent with its 95 % bootstrap interval. Doing nothing scores 0,
the ground truth 100. Style and segmentation were never shown as clips in training.

{table}

Mean absolute pixel error in [0, 1]: images {errors[0]}, clips {errors[1]}."""


def card(past: dict[str, Any], evaluation: dict[str, Any] | None, hardware: str, config: InstructXConfig) -> str:
    """The card's text; config: of the model."""
    found = "Not yet." if evaluation is None else measured(evaluation, config)
    rule, dit, usual = config.instruction, config.denoiser, config.sampling
    layers, blocks = config.mllm.num_layers, f"dim {dit.dim}, {dit.num_layers} blocks"
    queries = f"{rule.num_image_queries} image and {rule.num_video_queries} video"
    channels, world = config.vae.base_dim, config.trained_on or f"{usual.width}x{usual.height} pixels"
    runs = "\n".join(run_row(run) for run in past["runs"])
    plots = "\n".join(f"![Losses and success on the validation split]({plot})" for plot in past["plots"])
    return f"""# The tiny model

InstructX at about ten million parameters: Qwen2.5-VL ({layers} layers), {queries} queries, MLP connector, Wan DiT
({blocks}), Wan VAE ({channels} channels). Trained from scratch on
{world}.
bf16 safetensors with the config in their metadata, original Wan and Qwen names, its own byte-level tokenizer.
Apache-2.0.

## Measured

{found}

{plots}

## How it was made

`instructx train RECIPE` in this order, on {hardware}.
Batches are images, clips; minutes are those of training steps, without rendering the samples and judging.

| recipe | what it trains | steps | batch | learning rate | seed | minutes |
| --- | --- | --- | --- | --- | --- | --- |
{runs}

Source and reference latents have embedders of their own; docs/training.md compares that with adding the source to the
noisy latent before the shared embedding.
"""


def write_card(output: Path, evaluation: Path | None, hardware: str, target: Path, last: str) -> None:
    """README.md, history.json and the plot of the newest run into `target`; the plots of earlier runs are copied.

    Raises InputError when a run or the evaluation is missing.
    """
    if evaluation is not None and not evaluation.is_file():
        raise InputError(f"no {evaluation}; write it with `instructx eval world --json {evaluation}`")
    past = history(output, last)
    config = preset(run_recipe(output, last)["preset"])
    text = card(past, None if evaluation is None else json.loads(evaluation.read_text()), hardware, config)
    *earlier, newest = past["plots"]
    plot_metrics([output / name / "metrics.jsonl" for name in plotted_runs(output, last)], target / newest)
    for plot in earlier:
        if target.resolve() != SHIPPED.resolve():
            shutil.copyfile(SHIPPED / plot, target / plot)
    (target / HISTORY).write_text(json.dumps(past, indent=1) + "\n", encoding="utf-8")
    (target / "README.md").write_text(text, encoding="utf-8")
    logger.info("wrote %s", target / "README.md")
