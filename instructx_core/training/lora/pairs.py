"""The artist's folder -> a source of pairs, looked at in full before a model is loaded.

Between the command line and the job. A few dozen pairs are worth reading twice: what is wrong with one of them is said
before anything is computed, and none is left out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...config import InstructXConfig
from ...data.check import take_inventory
from ...data.opening import find_mixture, open_mixture
from ...data.records import Records
from ...data.sizing import Sizing
from ...errors import InputError

LENGTHS = (5, 9, 17, 33, 49, 81, 121)  # frames of clips
VALIDATION = 0.2  # share of the pairs


def open_pairs(
    folder: Path, config: InstructXConfig, instructions: tuple[str, ...], validation: float, mirror: bool
) -> Records:
    """In the sizes and lengths that the model edits. instructions: of all pairs, in several wordings; (): their own.
    mirror: each is there mirrored as well.

    Raises InputError for a pair that cannot be used, with the reason, and where none is left to validate on.
    """
    if not 0 < validation < 1:
        raise InputError(f"validation is {validation:g}; give the share of pairs to hold out, as 0.2")
    mixture = find_mixture("", str(folder))
    sets = tuple(
        dataclasses.replace(each, instructions=instructions or each.instructions, mirror=mirror)
        for each in mixture.sets
    )
    mixture = dataclasses.replace(mixture, sets=sets, sizing=sizing_of(config), validation=validation, max_rejects=0.0)
    source = open_mixture(mixture)
    bad = take_inventory(source, decode=True).rejects
    if bad:
        raise InputError(f"{folder}: {len(bad)} pairs cannot be used; the first is {bad[0].id}: {bad[0].reason}")
    if not source.buckets("val"):
        raise InputError(
            f"{folder}: no pair is left to validate on; every pair has a size of its own, or there is one alone: give "
            "more pairs, in one shape"
        )
    return source


def sizing_of(config: InstructXConfig) -> Sizing:
    """Of at most the area, length and at the rate that the model was made for."""
    usual = config.sampling
    lengths = tuple(length for length in LENGTHS if length <= usual.frames)
    return Sizing(
        image_pixels=usual.area,
        video_pixels=usual.area,
        reference_pixels=usual.area,
        multiple=config.size_multiple,
        fps=round(usual.fps),
        frames=lengths or (1,),
    )


def pair_counts(source: Records) -> dict[str, int]:
    """Pairs of each split."""
    return {split: sum(source.size(split, bucket) for bucket in source.buckets(split)) for split in ("train", "val")}
