"""VBench's motion smoothness and aesthetic quality, by VBench itself in an environment of its own.

Place: clips -> vbench -> metric_lines, Table 3. Its requirements exclude ours, so the user gives a command that runs
it: "conda run -n vbench vbench", to which `evaluate` and its options are added. `vbench` itself says nothing of a
failure: what counts is the file of results.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..lines import LineFile
from .measure import MeasureCase
from .metric_lines import METRICS, UNREADABLE, OutputMetrics, read_output_metrics

DIMENSIONS = {"smoothness": "motion_smoothness", "aesthetics": "aesthetic_quality"}  # as in Table 3: as VBench's


def measure_by_vbench(
    command: str, cases: Iterable[MeasureCase], folder: Path, again: bool = False
) -> list[OutputMetrics]:
    """A line of every clip that VBench has not measured yet, in folder/metrics.jsonl once an editor's are done.

    folder: of an evaluation that was measured otherwise already. again: of every clip. Raises InputError as
    vbench_scores; of a clip that cannot be given to it the line says why.
    """
    cases = list(cases)
    file, found = LineFile(folder / METRICS), list[OutputMetrics]()
    measured = {(case.item.id, case.editor): case.sha256 for case in cases}
    with file.claim():
        old, clips = read_output_metrics(file.path), dict[str, dict[str, Path]]()
        for case in cases:
            line = _known(case, old)
            is_done = not again and DIMENSIONS.keys() <= {*line.metrics, *line.not_measured}
            if case.item.modality != "video" or is_done:
                continue
            if (why := _unfit(case.output, line)) is None:
                clips.setdefault(case.editor, {})[case.item.id] = case.output
            else:
                found.append(OutputMetrics(case.item.id, case.editor, {}, dict.fromkeys(DIMENSIONS, why), case.sha256))
        file.add(line.as_json() for line in found)
        for editor, of_editor in clips.items():
            scores = vbench_scores(command, of_editor)
            made = [OutputMetrics(item, editor, of, {}, measured[item, editor]) for item, of in scores.items()]
            file.add(line.as_json() for line in made)
            found += made
    return found


def _known(case: MeasureCase, old: Mapping[tuple[str, str], OutputMetrics]) -> OutputMetrics:
    """What was measured of the file that lies there now."""
    nothing = OutputMetrics(case.item.id, case.editor, {})
    line = old.get((case.item.id, case.editor), nothing)
    return line if line.sha256 in (None, case.sha256) else nothing


def _unfit(clip: Path, line: OutputMetrics) -> str | None:
    """Why VBench, which stops at the first such file, is not given a clip."""
    if clip.suffix.lower() != ".mp4":
        return f"VBench is given .mp4 here: convert {clip.name} first"
    return next((why for why in line.not_measured.values() if why.startswith(UNREADABLE)), None)


def vbench_scores(command: str, clips: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """key -> {"smoothness": ..., "aesthetics": ...} of every clip (.mp4).

    Raises InputError where the command cannot be run, gives no results, or none of some clip.
    """
    found: dict[str, dict[str, float]] = {key: {} for key in clips}
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        names = {f"{number:06d}.mp4": key for number, key in enumerate(clips)}
        for name, key in names.items():
            if clips[key].suffix.lower() != ".mp4":
                raise InputError(f"{clips[key]}: VBench reads .mp4 here; convert it first")
            shutil.copyfile(clips[key], videos / name)
        for ours, theirs in DIMENSIONS.items():
            out = Path(folder) / ours
            for name, value in _run(command, videos, theirs, out).items():
                if name in names:
                    found[names[name]][ours] = value
            missing = [key for key in clips if ours not in found[key]]
            if missing:
                raise InputError(
                    f"VBench gave no {theirs} of {missing[0]} and {len(missing) - 1} others; see its output"
                )
    return found


def _run(command: str, videos: Path, dimension: str, out: Path) -> dict[str, float]:
    """Name of a file -> its score in one dimension."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--vbench {command!r}: cannot be split ({error}); check the quotes") from None
    words += ["evaluate", "--videos_path", str(videos), "--dimension", dimension, "--mode", "custom_input"]
    words += ["--output_path", str(out)]
    try:
        run = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(
            f"--vbench {command!r} cannot be run ({error.strerror}); give a command that starts VBench"
        ) from None
    results = sorted(out.glob("*_eval_results.json"))
    if not results:
        output = (run.stderr or run.stdout).strip().splitlines()
        raise InputError(f"VBench wrote no results of {dimension}; it said: {output[-1] if output else 'nothing'}")
    try:
        lines: list[dict[str, Any]] = json.loads(results[-1].read_text(encoding="utf-8"))[dimension][1]
        return {Path(line["video_path"]).name: float(line["video_results"]) for line in lines}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"VBench's results of {dimension} are of another form ({error!r}); version 0.1.5 is known"
        ) from None
