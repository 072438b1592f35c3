"""A record and its bucket -> pixels: pictures and clips as the editor reads them, fitted to the bucket.

Between records.py and raw_sample.py. Source and target are shown at the same moments: frame numbers are chosen once,
for the rate of the source, and used for both. What a file turns out not to be is an error of its record.
Legend: F frames, H W pixels, C 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ..editing.fit import apply_box
from ..errors import InputError
from ..geometry import fill_size
from ..media.files import open_media
from ..media.images import OpenImage
from ..media.stream import clip_frames
from .bucket import Bucket
from .probing import MediaShape, check_same
from .record import EditRecord, Locator
from .record.locating import located
from .samples import EditSample
from .sizing import NEAR, Sizing, cut_share, frame_indices


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrames:
    """Frames of one file in a bucket's size. indices: their numbers in the clip."""

    frames_FHWC: np.ndarray
    shape: MediaShape
    indices: Sequence[int]


def read_edit(record: EditRecord, bucket: Bucket, sizing: Sizing) -> EditSample:
    """Raises InputError, naming the record, for media that cannot be read or are not what the bucket needs."""
    try:
        source = show(record.source, bucket, sizing)
        if record.target is None:
            raise InputError("it has no target, which training needs")
        target = show(record.target, bucket, sizing, source)
        check_same(record, source.shape, target.shape)
        reference = None if record.reference is None or not bucket.reference else picture(record.reference, bucket)
    except InputError as error:
        raise InputError(f"record {record.id}: {error}") from None
    source_FHWC, target_FHWC = source.frames_FHWC, target.frames_FHWC
    if record.meta.get("mirrored") is True:
        source_FHWC, target_FHWC = (np.ascontiguousarray(each[:, :, ::-1]) for each in (source_FHWC, target_FHWC))
        reference = None if reference is None else np.ascontiguousarray(reference[:, ::-1])
    return EditSample(
        source_FHWC=source_FHWC,
        target_FHWC=target_FHWC,
        instruction=record.instruction,
        task=record.task,
        reference_HWC=reference,
        caption=str(record.meta.get("caption", "")),
        wordings=tuple(record.meta.get("wordings", ())),
    )


def show(locator: Locator, bucket: Bucket, sizing: Sizing, like: ShownFrames | None = None) -> ShownFrames:
    """The frames that the bucket takes, or those that `like` has taken."""

    def fitted(frame_HWC: np.ndarray) -> np.ndarray:
        return apply_box(frame_HWC, fill_size(*frame_HWC.shape[:2], bucket.height, bucket.width))

    with located(locator) as path, open_media(path) as opened:
        if isinstance(opened, OpenImage):
            media = opened.read(fitted)
            shape, indices = MediaShape(*media.size), [0]
            _check_kind(locator, "picture", bucket)
            _check_cut(locator, shape, bucket, sizing)
            return ShownFrames(media.frames_FHWC, shape, indices)
        _check_kind(locator, "clip", bucket)
        scan = opened.scan()
        shape = MediaShape(*scan.size, scan.frames, Fraction(scan.fps))
        _check_cut(locator, shape, bucket, sizing)
        indices = like.indices if like else frame_indices(shape.frames, shape.fps, sizing.fps)[: bucket.frames]
        if len(indices) < bucket.frames or indices[-1] >= shape.frames:
            raise InputError(
                f"{locator}: {shape}; its bucket takes {bucket.frames} at {sizing.fps} fps. The file's head or the "
                "record's meta promised more: make the clip anew"
            )
        chosen = replace(scan, picked=[scan.picked[index] for index in indices])
        return ShownFrames(np.stack(list(clip_frames(chosen, fitted))), shape, indices)


def _check_kind(locator: Locator, kind: str, bucket: Bucket) -> None:
    if (kind == "clip") != (bucket.modality == "video"):
        raise InputError(f"{locator}: is a {kind}, and the record's modality is {bucket.modality}")


def _check_cut(locator: Locator, shape: MediaShape, bucket: Bucket, sizing: Sizing) -> None:
    """Raises InputError for a file that is not of the size it was sorted by."""
    cut = cut_share(*shape.size, (bucket.height, bucket.width))
    if cut > sizing.max_cut + NEAR:
        raise InputError(
            f"{locator}: {shape}; {cut:.0%} of it would be cut off in its bucket of {bucket.width}x{bucket.height}. "
            "The file's head or the record's meta said another size: mend it"
        )


def picture(locator: Locator, bucket: Bucket) -> np.ndarray:
    """(H, W, 3): a reference in the bucket's size for references."""
    with located(locator) as path, open_media(path) as opened:
        if not isinstance(opened, OpenImage):
            raise InputError(f"{locator}: the reference is a clip; give a picture")
        frame_HWC = opened.read().frames_FHWC[0]
    return apply_box(frame_HWC, fill_size(*frame_HWC.shape[:2], *bucket.reference_shape))
