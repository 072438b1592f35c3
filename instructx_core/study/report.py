"""Findings -> docs/study.md, its figures and study.json: for each claim what the paper says, what came out, and why it
may differ.

The page is written from study.json alone, so that no number in it comes from elsewhere; `instructx study report` makes
both. What has not been run is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import DESIGNS
from .cost import cost_of_experiments
from .experiments import EXPERIMENTS, Experiment
from .findings import Finding, MeasuredDifference, finding_of, judged_count, planned
from .power import ASSUMED, LEVEL, POWER, samples_needed
from .records import mixed_origins, provenance, write_whole
from .schedule import Scale

RESULTS, PAGE = "study.json", "study.md"
WORDS = {"success": "share of edits that succeed", "loss": "log of the loss", "flicker": "log of the flicker"}
HEAD = """# Design study

The paper compares four ways from an instruction to the context of the DiT (3.2) and reports ablations (4.4, A.4,
A.8). `instructx study` runs each of these comparisons with the small model, with the same data order, noise, start,
steps and test samples for all variants and several seeds, and says of each claim whether it holds here. This page
and its figures are written by `instructx study report` from [study.json](study.json), which has the commit, the
settings and the seeds of every run.

    instructx study list                          # experiments, what each could tell apart, what is left to run
    instructx study run fig4_left --output runs   # prints the cost, then trains and measures; the same command goes on
    instructx study run all --output runs --processes 2
    torchrun --nproc_per_node 8 -m instructx_core study run all --output runs        # each process takes runs
    instructx study run all --output runs --runner ray   # the machines of a cluster, which all see the folder
    instructx study report --output runs --to docs
    instructx study run all --scale paper         # a dry run at the paper's size: shapes, parameters, cards, hours

`--scale tiny` starts from the parts of the tiny model (`instructx train tiny_vae`, `tiny_mllm`, `tiny_dit` in the
same `--output`). `--scale shapes` starts from what is there today: VAE and MLLM of the shipped model and a DiT that
the command first trains on captions of the world `shapes`, because the shipped DiT has learnt edits from
InstructX's own context. `--scale rehearsal` is that in a few steps.

Several processes, ranks of torchrun and commands in one folder share the queue: each takes the next run that is free.
A run stays in one process, because runs are many, small and independent: no messages are sent, a process that dies
costs its own run alone, and the records are the same bits as one process gives. Only at the paper's size, where a run
does not fit into one card, all processes share one: `--scale paper --data SPEC --base FOLDER --shard` trains the same
definitions, from public files for all four designs, and the benchmarks of [evaluation.md](evaluation.md) measure them.

Before it runs, the command times a few steps of every kind of variant on the machine at hand, by CPU time and for
every size of sample, and prints what is left to do in CPU hours; on another processor, or where a fixed piece of work
takes 15% longer or shorter than it did an hour ago or more, it times them anew. What was estimated is written beside
what the run took.
"""
RULE = f"""
## How a verdict is reached

Of every sample and seed the difference of two variants is taken, and its mean with an interval over samples and
seeds (a bootstrap that draws both; the level of {1 - LEVEL:.0%} is shared by an experiment's comparisons). A claim
that one variant is better **agrees** where the interval lies above zero and every seed does; it **disagrees** where
the interval lies below the least difference that would matter. A claim that two are alike agrees where the interval
lies within what would matter, and disagrees where it excludes zero. All else **cannot tell**, and so does an
experiment with a run missing. Two or three seeds are few: the bootstrap over them is narrower than it should be,
which is why each seed has to agree. Losses and flicker are compared as logarithms, so that 0.03 is three percent.

Sizes follow from a calculation made before any run (`instructx_core/study/power.py`): so many samples and seeds
find a difference with a probability of {POWER:.0%}. `tests/study/test_power.py` plants differences in simulated
studies and counts the verdicts: one of the promised size is found, one of half of it mostly is not, and where there
is none, or one that matters is called alike, few of them are wrong. Assumed standard deviations: """


def write_study(scale: Scale, output: Path, target: Path) -> list[Finding]:
    """The results, the page and the figures of what has been run, in `target`."""
    from .figures import draw_finding

    findings = [finding_of(scale, experiment, output) for experiment in EXPERIMENTS.values()]
    target.mkdir(parents=True, exist_ok=True)
    figures = {each.experiment.name: draw_finding(each, output, target) for each in findings if each.differences}
    result = as_result(scale, findings, {name: path.name for name, path in figures.items()})
    result["costs"] = cost_of_experiments(scale, list(EXPERIMENTS.values()), output)
    write_whole(target / RESULTS, result)
    (target / PAGE).write_text(page(result, scale))
    return findings


def as_result(scale: Scale, findings: Sequence[Finding], figures: Mapping[str, str]) -> dict[str, Any]:
    """JSON of all findings."""
    experiments = {
        each.experiment.name: {
            "verdict": each.verdict,
            "missing": len(each.missing),
            "runs": len(each.experiment.variants) * scale.seeds_of(each.experiment),
            "differences": [_difference(one) for one in each.differences],
            "values": {
                name: {what: _estimate(value) for what, value in values.items()} for name, values in each.values.items()
            },
            "figure": figures.get(each.experiment.name),
            "mixed": mixed_origins(each.sources),
            "sources": list(each.sources),
        }
        for each in findings
    }
    settings = {"preset": scale.preset, "start": list(scale.start), "align": scale.align, "edit": scale.edit}
    samples = {"images": scale.images, "clips": scale.clips}
    return {"scale": scale.name, **provenance(), "settings": settings, "samples": samples, "experiments": experiments}


def _estimate(value: Any) -> dict[str, Any]:
    return {"mean": round(value.mean, 4), "low": _rounded(value.low), "high": _rounded(value.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None or value == float("inf") else round(value, 4)


def _difference(one: MeasuredDifference) -> dict[str, Any]:
    each = one.comparison
    return {
        "first": each.first,
        "second": each.second,
        "expects": each.expects,
        "measure": each.measure,
        "group": each.group,
        "matters": each.smallest,
        "estimate": None if one.estimate is None else _estimate(one.estimate),
        "by_seed": [round(value, 4) for value in one.by_seed],
        "samples": one.samples,
        "detectable": _rounded(one.detectable),
        "outcome": one.outcome,
    }


# --- the page --------------------------------------------------------------------------------------------------------


def page(result: Mapping[str, Any], scale: Scale) -> str:
    """docs/study.md of a result."""
    lines = [HEAD]
    lines += ["## The four designs", "", *(f"- `{name}`: {text}." for name, text in DESIGNS.items()), ""]
    lines += [
        "Each is an encoder with one call, `encode(tokenizer, frames, instructions, references)`, which gives the",
        "context and its mask; `config.design` says which. `instructx info PRESET --design NAME` counts parameters and",
        "FLOPs: the layers of `metaquery`'s connector have 1.611 B at the paper's size. ComfyUI nodes refuse all but",
        "`queries`.",
    ]
    spreads = [f"{name} {each.sample:g} of a sample, {each.seed:g} of a seed" for name, each in ASSUMED.items()]
    lines += [RULE + "; ".join(spreads) + ".", ""]
    lines += ["## What has been run", "", _state(result), "", *_overview(result), "", *_costs(result)]
    lines += ["## Claim by claim", ""]
    for name, experiment in EXPERIMENTS.items():
        lines += _section(experiment, result["experiments"][name], scale)
    return "\n".join(lines).rstrip() + "\n"


def _state(result: Mapping[str, Any]) -> str:
    done = [name for name, each in result["experiments"].items() if not each["missing"]]
    if not done:
        return (
            f"Nothing yet at the scale `{result['scale']}`: no number on this page is a result. What follows are the "
            "claims, and what the runs that are planned could tell apart."
        )
    commits = {source["commit"] for name in done for source in result["experiments"][name]["sources"]}
    left = "" if len(done) == len(result["experiments"]) else " All others have not been run."
    return (
        f"At the scale `{result['scale']}` (model `{result['settings']['preset']}`), by the code of "
        f"{', '.join(sorted(commits))}: {', '.join(done)}.{left}"
    )


def _costs(result: Mapping[str, Any]) -> list[str]:
    """CPU hours, estimated before each run and taken."""
    costs = result.get("costs", {})
    if not costs:
        return []
    rows = ["CPU hours, as estimated before each run and as it took:", ""]
    rows += ["| experiment | runs | estimated | taken | taken / estimated |", "| --- | --- | --- | --- | --- |"]
    for name, each in costs.items():
        rows.append(
            f"| `{name}` | {each['runs']:g} | {each['estimate']:.2f} | {each['taken']:.2f} | {each['ratio']:.2f} |"
        )
    estimate, taken = (sum(each[key] for each in costs.values()) for key in ("estimate", "taken"))
    if estimate:
        rows.append(f"| together | | {estimate:.2f} | {taken:.2f} | {taken / estimate:.2f} |")
    return [*rows, ""]


def _overview(result: Mapping[str, Any]) -> list[str]:
    rows = ["| claim | paper | here |", "| --- | --- | --- |"]
    for name, each in result["experiments"].items():
        experiment = EXPERIMENTS[name]
        here = each["verdict"] if experiment.sentence else "see below"
        if each["missing"]:
            here = f"not run ({each['missing']} of {each['runs']} runs missing)"
        rows.append(f"| {experiment.title} | {experiment.where} | {here} |")
    return rows


def _section(experiment: Experiment, found: Mapping[str, Any], scale: Scale) -> list[str]:
    lines = [f"### {experiment.title} (`{experiment.name}`)", ""]
    if experiment.sentence:
        lines += [f'Paper, {experiment.where}: "{experiment.sentence}".', ""]
    if experiment.contradiction:
        lines += [experiment.contradiction, ""]
    seeds, variants = scale.seeds_of(experiment), ", ".join(each.name for each in experiment.variants)
    lines += [f"Variants: {variants}; {seeds} seeds each.", ""]
    if found["missing"]:
        lines += ["Not run yet. " + _plan(experiment, scale), ""]
    else:
        lines += _mixture(found)
        lines += _table(found)
        lines += [f"**{found['verdict'].capitalize()}.**", ""] if experiment.sentence else []
        if found["figure"]:
            lines += [f"![{experiment.title}]({found['figure']})", ""]
    if experiment.differs:
        lines += [f"Why it may differ: {experiment.differs}", ""]
    return lines


def _mixture(found: Mapping[str, Any]) -> list[str]:
    """A warning where the runs that are compared are not of one code or one kind of machine."""
    mixed = found.get("mixed", {})
    if not mixed:
        return []
    parts = [f"{name}: {', '.join(values)}" for name, values in mixed.items()]
    return [f"Caution: these runs do not have in common their {'; '.join(parts)}.", ""]


def _plan(experiment: Experiment, scale: Scale) -> str:
    """What it could tell apart by what is assumed; where that is too little, how many samples would do."""
    parts = []
    for each, reach in planned(scale, experiment):
        what = f"{each.first} against {each.second}, {WORDS[each.measure]}, {each.group}"
        if reach == float("inf"):
            parts.append(f"{what}: no test sample of this world is one, so that it cannot tell")
            continue
        text = f"{what}: finds {reach:.3f}"
        if reach > each.smallest:
            seeds, count = scale.seeds_of(experiment), judged_count(experiment)
            need = samples_needed(ASSUMED[each.measure], each.smallest, seeds, count)
            more = "more seeds" if need is None else f"{need} samples"
            text += (
                f", which is more than what would matter ({each.smallest:g}): it may not tell them apart; {more} would"
            )
        parts.append(text)
    return "As planned it " + "; ".join(parts).replace("finds", "would find", 1) + "." if parts else ""


def _table(found: Mapping[str, Any]) -> list[str]:
    rows = [
        "| better by | than | in | difference | seeds | could be seen | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found["differences"]:
        estimate = each["estimate"]
        text = "no samples" if estimate is None else f"{estimate['mean']:+.3f}"
        if estimate is not None and estimate["low"] is not None:
            text += f" [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
        seeds = " ".join(f"{value:+.3f}" for value in each["by_seed"])
        reach = "-" if each["detectable"] is None else f"{each['detectable']:.3f}"
        what = f"{WORDS[each['measure']]}, {each['group']} ({each['samples']} samples)"
        rows.append(f"| {each['first']} | {each['second']} | {what} | {text} | {seeds} | {reach} | {each['outcome']} |")
    return [*rows, ""]
