"""`instructx eval shapes`: the procedural world, version 1, of which the shipped model is."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model import ProgressLine, pipeline_of
from .benchmark_run import BenchmarkRun, add_common, common, run_drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, images=500, clips=200)


def run(args: argparse.Namespace) -> int:
    return run_drawn(args, _measure)


def _measure(args: argparse.Namespace, partial: Path) -> BenchmarkRun:
    from ...evaluation.shapes import EvalSettings, run_benchmark, worst_failures

    settings = EvalSettings(**common(args))
    pipe = pipeline_of(args)
    return pipe, run_benchmark(pipe, settings, partial, args.resume, ProgressLine("sample")), worst_failures
