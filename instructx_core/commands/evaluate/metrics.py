"""`instructx eval metrics`: what can be measured of outputs without a judge, into metrics.jsonl of the evaluation."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..model import ProgressLine, add_runner_arguments, check_runner

if TYPE_CHECKING:
    from ...data.record import EditRecord
    from ...evaluation.metrics.measure import MeasureCase, Weights
    from ...evaluation.metrics.metric_lines import OutputMetrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation: items.jsonl and a folder of outputs an editor")
    parser.add_argument("--editors", nargs="+", default=[], metavar="NAME", help="whose outputs (default: all)")
    parser.add_argument("--lpips", type=Path, metavar="FOLDER", help="weights of LPIPS (docs/metrics.md)")
    parser.add_argument("--similarity", type=Path, metavar="FOLDER", help="a CLIP or DINO for references")
    parser.add_argument("--vbench", metavar="COMMAND", help='what runs VBench, e.g. "conda run -n vbench vbench"')
    parser.add_argument("--again", action="store_true", help="measure anew what is measured already")
    add_runner_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ...evaluation.item_outputs import collect_outputs
    from ...evaluation.items import ITEMS, read_items
    from ...evaluation.metrics.cluster import measure_on_ray
    from ...evaluation.metrics.measure import cases_to_measure, measure_outputs
    from ...evaluation.metrics.metric_lines import METRICS
    from ...evaluation.metrics.vbench import measure_by_vbench

    check_runner(args)
    items, outputs = read_items(args.folder / ITEMS), collect_outputs(args.folder, args.editors)
    cases, progress = cases_to_measure(items, args.folder, outputs), ProgressLine("measured")
    make = partial(load_weights, args.lpips, args.similarity)
    if args.runner == "ray":
        lines = measure_on_ray(cases, args.folder, make, progress, args.again, args.workers)
    else:
        lines = measure_outputs(cases, args.folder, make(), progress, args.again)
    if args.vbench is not None:
        lines = [*lines, *measure_by_vbench(args.vbench, cases, args.folder, args.again)]
    print("\n".join([*_means(lines), *_not_measured(lines), *_not_made(items, cases, outputs)]))
    print(f"lines in {args.folder / METRICS}")
    return 0


def load_weights(lpips: Path | None, similarity: Path | None) -> Weights:
    """Raises InputError for folders that hold none."""
    from ...evaluation.metrics.lpips import load_lpips
    from ...evaluation.metrics.measure import Weights
    from ...evaluation.metrics.similarity import ReferenceSimilarity

    distance = None if lpips is None else load_lpips(lpips)
    likeness = None if similarity is None else ReferenceSimilarity(similarity)
    by_metric = {"outside_lpips": distance, "reference_similarity": likeness}
    return Weights(distance, likeness, {name: model.key for name, model in by_metric.items() if model is not None})


def _means(lines: Sequence[OutputMetrics]) -> list[str]:
    """Of each editor and metric."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for name, value in line.metrics.items():
            values[line.editor][name].append(value)
    found = list[str]()
    for editor, of_editor in values.items():
        found.append(editor)
        found += [
            f"  {name:<22} {sum(numbers) / len(numbers):>9.4f}  ({len(numbers)} outputs)"
            for name, numbers in of_editor.items()
        ]
    return found


def _not_measured(lines: Iterable[OutputMetrics]) -> list[str]:
    why = Counter[str]()
    for line in lines:
        why.update(f"{name}: {text.split(':')[0]}" for name, text in line.not_measured.items())
    return [f"not measured of {count} outputs: {text}" for text, count in why.most_common()]


def _not_made(items: Sequence[EditRecord], cases: Iterable[MeasureCase], editors: Iterable[str]) -> list[str]:
    """Editors without an output of some items."""
    made = Counter(case.editor for case in cases)
    return [
        f"{editor} has no output of {len(items) - made[editor]} of {len(items)} items"
        for editor in editors
        if made[editor] < len(items)
    ]
