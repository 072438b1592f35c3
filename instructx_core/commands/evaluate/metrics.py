"""`instructx eval metrics`: what can be measured of outputs without a judge, into metrics.jsonl of the evaluation."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation: items.jsonl and a folder of outputs an editor")
    parser.add_argument("--editors", nargs="+", default=[], metavar="NAME", help="whose outputs (default: all)")
    parser.add_argument("--lpips", type=Path, metavar="FOLDER", help="weights of LPIPS (docs/metrics.md)")
    parser.add_argument("--similarity", type=Path, metavar="FOLDER", help="a CLIP or DINO for references")
    parser.add_argument("--vbench", metavar="COMMAND", help='what runs VBench, e.g. "conda run -n vbench vbench"')
    parser.add_argument("--again", action="store_true", help="measure anew what is measured already")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.item_outputs import collect_outputs
    from ...evaluation.items import ITEMS, read_items
    from ...evaluation.lines import LineFile
    from ...evaluation.metrics.lpips import load_lpips
    from ...evaluation.metrics.measure import METRICS, OutputMetrics, Weights, measure_all
    from ...evaluation.metrics.similarity import ReferenceSimilarity
    from ...evaluation.metrics.vbench import vbench_scores

    items, outputs = read_items(args.folder / ITEMS), collect_outputs(args.folder, args.editors)
    weights = Weights(
        None if args.lpips is None else load_lpips(args.lpips),
        None if args.similarity is None else ReferenceSimilarity(args.similarity),
    )
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    why: Counter[str] = Counter()
    for line in measure_all(items, args.folder, outputs, weights, args.again):
        for name, value in line.metrics.items():
            values[line.editor][name].append(value)
        why.update(f"{name}: {text.split(':')[0]}" for name, text in line.not_measured.items())
    if args.vbench is not None:
        clips = {item.id for item in items if item.modality == "video"}
        for editor, made in outputs.items():
            files = {item: each.path for item, each in made.items() if item in clips and each.path is not None}
            scores = vbench_scores(args.vbench, files) if files else {}
            LineFile(args.folder / METRICS).add(
                OutputMetrics(item, editor, of).as_json() for item, of in scores.items()
            )
            for of in scores.values():
                for name, value in of.items():
                    values[editor][name].append(value)
    for editor, of_editor in values.items():
        print(editor)
        for name, numbers in of_editor.items():
            print(f"  {name:<22} {sum(numbers) / len(numbers):>9.4f}  ({len(numbers)} outputs)")
    for text, count in why.most_common():
        print(f"not measured of {count} outputs: {text}")
    print(f"lines in {args.folder / METRICS}")
    return 0
