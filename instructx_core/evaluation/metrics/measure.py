"""Outputs -> measure -> metrics.jsonl, resumably: what is measured is not measured again.

Place: items, outputs -> measure -> metric_lines -> report. An output of another size than its source is not resized:
what compares the two is not measured then. What is transparent is seen over white, as judges and pages show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.record import EditRecord
from ...digests import file_digest
from ...errors import InputError
from ...media.files import read_image, read_media
from ..item_outputs import ItemOutput
from ..items import media_path
from ..lines import LineFile
from .metric_lines import METRICS, UNREADABLE, OutputMetrics, read_output_metrics
from .preservation import Distance, outside_distance, outside_psnr, outside_ssim
from .temporal import outside_flicker, smoothness_proxy

Similarity = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]
OnMeasured = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Weights:
    """What the metrics need beside the pictures; None: not measured, and not spoken of. keys: metric -> digest of the
    weights behind it; what was measured with others is measured anew."""

    lpips: Distance | None = None
    similarity: Similarity | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def wanted(self, item: EditRecord) -> set[str]:
        """Metrics that the line of an output of this item must speak of, to be whole."""
        found = {"smoothness_proxy"} | ({"outside_lpips"} if self.lpips else set())
        return found | ({"reference_similarity"} if self.similarity and item.reference else set())


@dataclass(frozen=True, slots=True)
class MeasureCase:
    """One output to be measured. folder: of items.jsonl. sha256: of the output's file."""

    item: EditRecord
    editor: str
    output: Path
    folder: Path
    sha256: str

    def is_known(self, line: OutputMetrics, weights: Weights) -> bool:
        """A line says all there is to measure, of this file and with these weights."""
        if line.sha256 not in (None, self.sha256):
            return False
        wanted = weights.wanted(self.item)
        same = all(line.weights.get(name) == key for name, key in weights.keys.items() if name in wanted)
        return same and wanted <= {*line.metrics, *line.not_measured}


def _mask(path: Path, frames: int, size: tuple[int, int]) -> np.ndarray:
    """(1, H, W) of a picture or (F, H, W) of a clip, white where the edit is. Raises InputError for another size."""
    mask_FHW = read_media(path).frames_FHWC.mean(axis=-1) > 127.5
    if mask_FHW.shape[1:] != size or len(mask_FHW) not in (1, frames):
        raise InputError(f"{path}: the mask is {mask_FHW.shape}, the source {(frames, *size)}; make them fit")
    return mask_FHW


def measure_output(
    item: EditRecord, folder: Path, output: Path, weights: Weights
) -> tuple[dict[str, float], dict[str, str]]:
    """(metrics, why others were not measured) of one output. folder: of items.jsonl.

    Raises InputError for a source, reference or mask that cannot be read; of an output that is the finding.
    """
    source_path, reference, mask_path = (media_path(item, name, folder) for name in ("source", "reference", "mask"))
    assert source_path is not None
    source_FHWC = read_media(source_path).frames_FHWC
    compared = ["outside_psnr", "outside_ssim", "flicker", *(["outside_lpips"] if weights.lpips else [])]
    try:
        output_FHWC = read_media(output).frames_FHWC
    except InputError as error:
        return {}, dict.fromkeys([*compared, *sorted(weights.wanted(item))], f"{UNREADABLE}: {error}")
    found: dict[str, float | None] = {"smoothness_proxy": smoothness_proxy(output_FHWC)}
    why = {"smoothness_proxy": "fewer than three frames"}
    mask_FHW = None if mask_path is None else _mask(mask_path, len(source_FHWC), source_FHWC.shape[1:3])
    if mask_FHW is None or output_FHWC.shape != source_FHWC.shape:
        sizes = f"the output is {output_FHWC.shape[:3]}, the source {source_FHWC.shape[:3]}"
        why |= dict.fromkeys(compared, "the item has no mask of its edit" if mask_FHW is None else sizes)
    else:
        sides = (source_FHWC, output_FHWC, mask_FHW)
        found |= {
            "outside_psnr": outside_psnr(*sides),
            "outside_ssim": outside_ssim(*sides),
            "flicker": outside_flicker(*sides),
        }
        why |= dict.fromkeys(compared, "nothing lies outside of the edit")
        if weights.lpips is not None:
            try:
                found["outside_lpips"] = outside_distance(weights.lpips, *sides)
            except InputError as error:  # of a picture that is too small for it
                why["outside_lpips"] = str(error)
        why["flicker"] = "a picture" if len(source_FHWC) == 1 else why["flicker"]
    if weights.similarity is not None and reference is not None:
        fits = mask_FHW is not None and mask_FHW.shape[1:] == output_FHWC.shape[1:3]
        found["reference_similarity"] = weights.similarity(
            read_image(reference), output_FHWC, mask_FHW if fits else None
        )
    metrics = {name: round(value, 6) for name, value in found.items() if value is not None}
    return metrics, {name: text for name, text in why.items() if name not in metrics}


def measure_case(case: MeasureCase, weights: Weights) -> OutputMetrics:
    """Raises InputError as measure_output."""
    metrics, why = measure_output(case.item, case.folder, case.output, weights)
    keys = {name: key for name, key in weights.keys.items() if name in weights.wanted(case.item)}
    return OutputMetrics(case.item.id, case.editor, metrics, why, case.sha256, keys)


def cases_to_measure(
    items: Sequence[EditRecord], folder: Path, outputs: Mapping[str, Mapping[str, ItemOutput]]
) -> list[MeasureCase]:
    """Every output that was made, by editor, in the order of the items."""
    return [
        MeasureCase(item, editor, made.path, folder, file_digest(made.path))
        for editor, of_editor in outputs.items()
        for item in items
        if (made := of_editor.get(item.id)) is not None and made.path is not None
    ]


def measure_outputs(
    cases: Sequence[MeasureCase],
    folder: Path,
    weights: Weights,
    progress: OnMeasured | None = None,
    again: bool = False,
) -> list[OutputMetrics]:
    """A line of every case, in their order, written to folder/metrics.jsonl as it comes; again: measured anew."""

    def made(todo: Sequence[MeasureCase]) -> Iterator[OutputMetrics]:
        return (measure_case(case, weights) for case in todo)

    return keep_metrics(cases, folder, weights, made, progress, again)


def keep_metrics(
    cases: Sequence[MeasureCase],
    folder: Path,
    weights: Weights,
    made: Callable[[Sequence[MeasureCase]], Iterable[OutputMetrics]],
    progress: OnMeasured | None = None,
    again: bool = False,
) -> list[OutputMetrics]:
    """What `made` makes of the cases that are not measured yet, each written as it comes, and what is known."""
    file = LineFile(folder / METRICS)
    with file.claim():
        file.start()
        old = {} if again else read_output_metrics(file.path)
        found, todo = dict[tuple[str, str], OutputMetrics](), list[MeasureCase]()
        for case in cases:
            line = old.get((case.item.id, case.editor))
            if line is not None and case.is_known(line, weights):
                found[line.id, line.editor] = line
            else:
                todo.append(case)
        for line in made(todo):
            file.add([line.as_json()])
            found[line.id, line.editor] = line
            if progress is not None:
                progress(len(found), len(cases))
    return [found[case.item.id, case.editor] for case in cases]
