"""A set's page: the funnel, every measure against its limit, and clips to look at by the reason of rejection.

Place: candidates' states -> report -> report.html beside records.jsonl. A person tunes a filter by looking: a limit can
be moved on the page, which then says what would pass, and shows whom it would let through first.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..pages.assemble import write_page
from ..pages.embed import PageMedia
from .funnel import funnel
from .terms.candidate import Candidate
from .terms.checks import CHECKS, LimitCheck
from .terms.clip import CLIP, ERASED, MASK, read_clip, read_mask
from .terms.limits import Limits
from .terms.pairs import said_of

REPORT = "report.html"
HERE = Path(__file__).parent
SHOWN = 12  # candidates of each reason, and of those that passed
STILLS = 3  # of a clip
WIDTH = 240  # pixels of a still
QUALITY = 78


def write_report(candidates: Sequence[Candidate], stages: Sequence[str], output: Path, limits: Limits) -> Path:
    """Writes the page of a set and returns its path. Raises InputError where it cannot be written."""
    shown = _chosen(candidates)
    data = {
        "clips": len(candidates),
        "funnel": [
            {"stage": step.stage, "entered": step.entered, "passed": step.passed, "reasons": step.reasons}
            for step in funnel(candidates, stages)
        ],
        "measures": [
            _distribution(stage, check, candidates, limits) for stage, checks in CHECKS.items() for check in checks
        ],
        "samples": [_sample(candidate, number) for number, candidate in enumerate(shown)],
    }
    path = output / REPORT
    write_page(
        path,
        "Training pairs from films",
        data,
        (strip(candidate, output / "work" / candidate.id) for candidate in shown),
        [HERE / "report.css"],
        [HERE / "report.js"],
    )
    return path


def _chosen(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Up to SHOWN of each reason, those nearest to their limit first: there a limit is decided."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.reject.reason if candidate.reject else "", []).append(candidate)
    return [candidate for group in groups.values() for candidate in sorted(group, key=_closeness)[:SHOWN]]


def _closeness(candidate: Candidate) -> float:
    reject = candidate.reject
    if reject is None or reject.value is None or not reject.limit or reject.value <= 0:
        return 0.0
    return abs(math.log(reject.value / reject.limit)) if math.isfinite(reject.value) else math.inf


def _distribution(stage: str, check: LimitCheck, candidates: Sequence[Candidate], limits: Limits) -> dict[str, Any]:
    """A measure of every candidate that reached its stage."""
    values = list[dict[str, Any]]()
    for candidate in candidates:
        value = measure_of(candidate, stage, check.measure)
        if value is not None and math.isfinite(value):
            values.append({"id": candidate.id, "value": value})
    return {
        "stage": stage,
        "measure": check.measure,
        "reason": check.reason,
        "side": check.side,
        "limit": float(getattr(limits, check.limit)),
        "field": check.limit,
        "values": values,
    }


def measure_of(candidate: Candidate, stage: str, measure: str) -> float | None:
    """What a stage found, whether it let the candidate through or not; None where it did not run."""
    if candidate.reject is not None and candidate.reject.stage == stage:
        return candidate.reject.measures.get(measure)
    return candidate.facts.get(stage, {}).get(measure)


def _sample(candidate: Candidate, number: int) -> dict[str, Any]:
    reject = candidate.reject
    return {
        "id": candidate.id,
        "film": candidate.film,
        "start": candidate.start,
        "stop": candidate.stop,
        "medium": number,
        "stage": reject.stage if reject else "",
        "reason": reject.reason if reject else "",
        "value": reject.value if reject and reject.value is not None and math.isfinite(reject.value) else None,
        "limit": reject.limit if reject else None,
        "texts": dict(said_of(candidate)) if reject is None else {},
    }


def strip(candidate: Candidate, folder: Path) -> PageMedia:
    """Stills of the clip, below them the same with the mask and of the erased clip, as far as there are any."""
    frames_FHWC = read_clip(folder, CLIP)
    picked = np.linspace(0, len(frames_FHWC) - 1, STILLS + 2).round().astype(int)[1:-1]
    rows = [frames_FHWC[picked]]
    if (folder / MASK).is_file() and "subject" in candidate.done:
        rows.append(_marked(frames_FHWC[picked], read_mask(folder)[picked]))
    if (folder / ERASED).is_file() and "erase" in candidate.done:
        rows.append(read_clip(folder, ERASED)[picked])
    sheet_HWC = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    image = Image.fromarray(sheet_HWC)
    width = min(STILLS * WIDTH, image.width)
    image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "webp", quality=QUALITY)
    return PageMedia("image", "image/webp", stream.getvalue(), (image.height, image.width))


def _marked(frames_FHWC: np.ndarray, mask_FHW: np.ndarray) -> np.ndarray:
    """The frames with what the mask leaves out in grey."""
    gray = frames_FHWC.mean(axis=-1, keepdims=True) * 0.5 + 60
    return np.where(mask_FHW[..., None], frames_FHWC, gray).astype(np.uint8)
