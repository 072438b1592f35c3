"""All that a report is of, read from the folder of an evaluation: items, outputs, scores, metrics, checks of judges.

Place: FOLDER -> contents -> tables, page, Markdown. benchmark.json says how scores average; a folder without one is a
plain benchmark. A judge that was not checked against planted edits is warned of, and so is one that did badly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ...data.record import EditRecord
from ...digests import file_digest
from ...errors import InputError
from ..item_outputs import ItemOutput, collect_outputs
from ..items import ITEMS, read_items
from ..judge_check.check import read_check, unchecked
from ..metrics.metric_lines import METRICS, OutputMetrics, read_output_metrics
from ..objects import REWRITE, read_object
from ..run_folder import RunFolder
from ..scores import SCORES, Score, read_scores
from ..statistics.cells import Judgements, gather
from ..statistics.rules import RULES, Averaging
from .studies import read_study, study_table
from .tables import PAPER_TABLES, ReportTable, TableData, difference_table, metric_table, plain_table

BENCHMARK = "benchmark.json"
CHECKS = "judge-check*.json"
STUDIES = "study-result*.json"
LEAST_ACCURACY = 0.8  # of ordered pairs of planted edits, below which a judge's dimension is warned of
EVERYWHERE, OF_CLIPS = ("model", "temperature"), ("frames", "side", "video")  # settings that decide scores
PARTIAL = (
    "The items were taken with --partial: they are a part of the benchmark, or own ones. Published numbers, the "
    "paper's rows among them, are of the whole benchmark and cannot be compared with these."
)
TRUTH = "truth"  # the judge of the drawn world, which is its own definition


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluation. editors: in order. judges: names. checks: judge -> what judge-check wrote."""

    benchmark: str
    folder: Path
    items: list[EditRecord]
    outputs: dict[str, dict[str, ItemOutput]]
    scores: list[Score]
    metrics: dict[tuple[str, str], dict[str, float]]
    averaging: Averaging
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    studies: list[dict[str, Any]] = field(default_factory=list)  # what study-result wrote
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # judge -> how it was asked
    strange: int = 0  # items that have scores and are no items of the evaluation, as of an earlier, larger one
    left_out: dict[str, int] = field(default_factory=dict)  # editor -> scores and metrics of files that were replaced
    mixed: tuple[str, ...] = ()  # metrics that were not measured with the same weights everywhere
    is_partial: bool = False  # the items are not the whole benchmark, or own ones

    @property
    def judges(self) -> list[str]:
        return list(dict.fromkeys(score.judge for score in self.scores))

    @property
    def groups(self) -> dict[str, str]:
        return {item.id: str(item.meta.get("group", item.task)) for item in self.items}

    def judged(self, judge: str) -> list[Judgements]:
        """Of every editor with outputs; one that was not judged has no scores."""
        scores = [score for score in self.scores if score.judge == judge and score.editor in self.outputs]
        found = {each.editor: each for each in gather(scores, self.averaging)}
        return [found.get(editor, Judgements(editor, judge, {}, {})) for editor in self.outputs]

    def evaluated(self, judge: str, method: str = "percentile") -> TableData:
        return TableData(self.judged(judge), self.groups, self.averaging, self.metrics, self._subsets(), method)

    def _subsets(self) -> dict[str, frozenset[str]]:
        """GEdit-Bench: each language, whole and the items that exist in both."""
        found: dict[str, frozenset[str]] = {}
        for language in sorted({str(item.meta["language"]) for item in self.items if "language" in item.meta}):
            of = [item for item in self.items if item.meta.get("language") == language]
            found[f"{language}, full"] = frozenset(item.id for item in of)
            found[f"{language}, intersection"] = frozenset(item.id for item in of if item.meta.get("intersection"))
        return {name: items for name, items in found.items() if items}

    def tables(self, judge: str) -> list[ReportTable]:
        of = self.evaluated(judge)
        make = PAPER_TABLES.get(self.benchmark)
        by_kind = plain_table(of, "By kind of edit")
        found = [by_kind] if make is None else [make(of), by_kind]
        if make is not None and self.is_partial:
            found[0] = replace(found[0], notes=(*found[0].notes, PARTIAL))
        between = difference_table(of)
        return found if between is None else [*found, between]

    def other_tables(self) -> list[ReportTable]:
        """What no judge has to do with: metrics, and user studies."""
        metrics = metric_table(self.metrics, self.groups, list(self.outputs))
        return [*([] if metrics is None else [metrics]), *map(study_table, self.studies)]

    def warnings(self) -> list[str]:
        """What a reader must know before the numbers."""
        found = [PARTIAL] if self.is_partial else []
        if not self.scores:
            found.append("No judge has scored these outputs yet.")
        for judge in self.judges:
            check = self.checks.get(judge)
            if check is None and judge != TRUTH:
                found.append(
                    f"The judge {judge} was not checked on planted edits (instructx eval judge-check): nobody knows "
                    "how far its scores can be trusted."
                )
            if check is not None and (differ := self._asked_otherwise(judge)):
                found.append(
                    f"The judge {judge} was checked with another {', '.join(differ)} than it judged with here: what "
                    "the check says need not hold."
                )
            for name, of in ({} if check is None else check["dimensions"]).items():
                if of["accuracy"] is None:
                    found.append(f"Of the judge {judge}, {unchecked(name)}.")
                elif of["accuracy"] < LEAST_ACCURACY:
                    share = f"{100 * of['accuracy']:.0f} % of planted pairs"
                    found.append(f"The judge {judge} orders {share} rightly in {name}: do not trust that dimension.")
        for editor, made in self.outputs.items():
            lost = [item.id for item in self.items if item.id not in made or made[item.id].path is None]
            if lost:
                found.append(f"{editor} has no output of {len(lost)} of {len(self.items)} items.")
        for editor, count in self.left_out.items():
            found.append(
                f"{count} scores and metrics of {editor} are left out: the outputs were made anew since. Judge and "
                "measure them again."
            )
        for name in self.mixed:
            found.append(f"{name} was not measured with the same weights everywhere: measure all outputs again.")
        if self.strange:
            found.append(f"Scores of {self.strange} items are left out: {ITEMS} has not these items.")
        unknown = sorted({score.editor for score in self.scores} - set(self.outputs))
        if unknown:
            found.append(f"Scores of {', '.join(unknown)} are left out: their outputs are not there.")
        return found

    def _asked_otherwise(self, judge: str) -> list[str]:
        """Settings in which the check of a judge and its scores here differ; of other protocols what all have."""
        here, there = self.settings.get(judge, {}), self.checks[judge].get("settings", {})
        names = EVERYWHERE if here.get("protocol") != there.get("protocol") else (*EVERYWHERE, *OF_CLIPS)
        return [name for name in names if name in here and name in there and here[name] != there[name]]


def read_report(folder: Path, editors: Sequence[str] = ()) -> Report:
    """Raises InputError for files of the folder that are missing or wrong."""
    items, outputs = read_items(folder / ITEMS), collect_outputs(folder, editors)
    benchmark, is_partial = _benchmark(folder / BENCHMARK)
    scores = read_scores(folder / SCORES) if (folder / SCORES).exists() else []
    known = {item.id for item in items}
    strange = {score.id for score in scores if score.id not in known}
    scores = [score for score in scores if score.id in known]
    measured = read_output_metrics(folder / METRICS) if (folder / METRICS).exists() else {}
    is_current = current_test(outputs)
    left_out = Counter(line.editor for line in (*scores, *measured.values()) if not is_current(line))
    scores = [score for score in scores if is_current(score)]
    lost = {(item, editor) for editor, of in outputs.items() for item, made in of.items() if made.path is None}
    lines = [line for key, line in measured.items() if is_current(line) and key not in lost]
    metrics = {(line.id, line.editor): dict(line.metrics) for line in lines}
    averaging = RULES.get(benchmark, Averaging(benchmark or "plain", scale=(0.0, 10.0)))
    checks, studies = _checks(folder), _studies(folder)
    settings = {score.judge: {} for score in scores}
    settings = {judge: RunFolder(folder).judge_settings(judge) for judge in settings}
    return Report(
        benchmark,
        folder,
        items,
        outputs,
        scores,
        metrics,
        averaging,
        checks,
        studies,
        settings,
        strange=len(strange),
        left_out=dict(left_out),
        mixed=_mixed_weights(lines),
        is_partial=is_partial,
    )


def current_test(outputs: Mapping[str, Mapping[str, ItemOutput]]) -> Callable[[Score | OutputMetrics], bool]:
    """Tells whether what was said of an output is of the file that lies there now; without its digest it is taken to
    be, and so it is where the file is gone, which is warned of elsewhere."""
    digest = cache(file_digest)

    def is_current(line: Score | OutputMetrics) -> bool:
        made = outputs.get(line.editor, {}).get(line.id)
        return line.sha256 is None or made is None or made.path is None or digest(made.path) == line.sha256

    return is_current


def _mixed_weights(lines: Iterable[OutputMetrics]) -> tuple[str, ...]:
    found: dict[str, set[str]] = {}
    for line in lines:
        for name, key in line.weights.items():
            found.setdefault(name, set()).add(key)
    return tuple(name for name, keys in found.items() if len(keys) > 1)


def _benchmark(path: Path) -> tuple[str, bool]:
    """Its name, and whether the items were taken with --partial."""
    if not path.exists():
        return "", False
    values = read_object(path, REWRITE)
    name = values.get("name", "")
    if not isinstance(name, str):
        raise InputError(f"{path}: name is {name!r:.40}, no benchmark; {REWRITE}")
    return name, values.get("partial") is True


def _checks(folder: Path) -> dict[str, dict[str, Any]]:
    checks = [read_check(path) for path in sorted(folder.glob(CHECKS))]
    return {check["judge"]: check for check in checks}


def _studies(folder: Path) -> list[dict[str, Any]]:
    return [read_study(path) for path in sorted(folder.glob(STUDIES))]
