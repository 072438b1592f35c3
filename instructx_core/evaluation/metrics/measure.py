"""Every metric of every output, one JSON line an item and editor: metrics.jsonl, made once and gone on with.

    {"id": "add/3", "editor": "instructx", "metrics": {"outside_psnr": 31.2}, "not_measured": {"flicker": "a picture"}}

Place: items, outputs -> measure -> report. A metric that cannot be had of an item says why; it is never guessed. An
output of another size than its source is not resized: what compares the two is not measured then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...data.record import EditRecord
from ...errors import InputError
from ...media.files import read_image, read_media
from ..item_outputs import ItemOutput
from ..items import media_path
from ..lines import LineFile, check_names, read_lines
from .preservation import Distance, outside_distance, outside_psnr, outside_ssim
from .temporal import outside_flicker, smoothness_proxy

METRICS = "metrics.jsonl"
Similarity = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]


@dataclass(frozen=True, slots=True)
class OutputMetrics:
    """Of one output. metrics: by name. not_measured: name -> why."""

    id: str
    editor: str
    metrics: Mapping[str, float]
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "metrics": dict(self.metrics), "not_measured": dict(self.not_measured)}


@dataclass(frozen=True, slots=True)
class Weights:
    """What the metrics need beside the pictures; None: not measured, and not spoken of."""

    lpips: Distance | None = None
    similarity: Similarity | None = None


def read_output_metrics(path: Path) -> dict[tuple[str, str], OutputMetrics]:
    """The lines of each (item, editor), later ones over earlier ones. Raises InputError with the line that is wrong."""
    found: dict[tuple[str, str], OutputMetrics] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, ("id", "editor", "metrics", "not_measured"), ("id", "editor", "metrics"))
        line = OutputMetrics(values["id"], values["editor"], values["metrics"], values.get("not_measured", {}))
        wrong = [name for name, value in line.metrics.items() if type(value) not in (int, float)]
        if wrong:
            raise InputError(f"{where}: {wrong[0]} is {line.metrics[wrong[0]]!r:.40}; it must be a number")
        key = (line.id, line.editor)
        old = found.get(key, OutputMetrics(line.id, line.editor, {}))
        metrics = {**old.metrics, **line.metrics}
        why = {name: text for name, text in {**old.not_measured, **line.not_measured}.items() if name not in metrics}
        found[key] = OutputMetrics(line.id, line.editor, metrics, why)
    return found


def _mask(path: Path, frames: int, size: tuple[int, int]) -> np.ndarray:
    """(1, H, W) of a picture or (F, H, W) of a clip, white where the edit is. Raises InputError for another size."""
    mask_FHW = read_media(path).frames_FHWC.mean(axis=-1) > 127.5
    if mask_FHW.shape[1:] != size or len(mask_FHW) not in (1, frames):
        raise InputError(f"the mask is {mask_FHW.shape}, the source {(frames, *size)}")
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
        return {}, dict.fromkeys([*compared, "smoothness_proxy"], f"the output cannot be read: {error}")
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
        if weights.lpips is not None:
            found["outside_lpips"] = outside_distance(weights.lpips, *sides)
        why |= dict.fromkeys(compared, "nothing lies outside of the edit")
        why["flicker"] = "a picture" if len(source_FHWC) == 1 else why["flicker"]
    if weights.similarity is not None and reference is not None:
        fits = mask_FHW is not None and mask_FHW.shape[1:] == output_FHWC.shape[1:3]
        found["reference_similarity"] = weights.similarity(
            read_image(reference), output_FHWC, mask_FHW if fits else None
        )
    metrics = {name: round(value, 6) for name, value in found.items() if value is not None}
    return metrics, {name: text for name, text in why.items() if name not in metrics}


def measure_all(
    items: Sequence[EditRecord],
    folder: Path,
    outputs: Mapping[str, Mapping[str, ItemOutput]],
    weights: Weights,
    again: bool = False,
) -> Iterator[OutputMetrics]:
    """A line an output that was made, written to folder/metrics.jsonl as it comes; what is there is not made again."""
    file = LineFile(folder / METRICS)
    file.start()
    done = {} if again else read_output_metrics(file.path)
    wanted = {"smoothness_proxy"} | ({"outside_lpips"} if weights.lpips else set())
    for editor, of_editor in outputs.items():
        for item in items:
            made = of_editor.get(item.id)
            if made is None or made.path is None:
                continue
            names = wanted | ({"reference_similarity"} if weights.similarity and item.reference else set())
            old = done.get((item.id, editor))
            if old is None or not names <= {*old.metrics, *old.not_measured}:
                old = OutputMetrics(item.id, editor, *measure_output(item, folder, made.path, weights))
                file.add([old.as_json()])
            yield old
