"""A kind of edit that no model of this world was taught: toned sepia, in a pale frame. What an artist would teach one.

Place: scene, render -> sepia_frame -> benchmarks/lora.py. Pictures by number as in sampling.py; judged by region as in
success.py and, beside that, a result must be nearer to the truth than to everything that is nearly it: nothing done,
frame or tone alone, another width, colour or place, a thing left out or left in its colours. Fixed before anything was
trained on it.
Shapes: frames_FHWC uint8 (F = 1, H = W = 64); masks FHW bool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..random_streams import random_stream
from .palette import SIZE
from .render import render, render_layers
from .sampling import SPLITS
from .scene import Scene, draw_scene, frame_times
from .success import CLEAR_CHANGE, REGION_FLOOR, Score, masked_error, pixel_error, score_regions

INSTRUCTION = "turn it into an old photograph with a frame"
WIDTH = 8  # pixels
OTHER_WIDTHS = (4, 12)
MOVED = 3  # pixels
EDGE = 4  # pixels inside of the frame, judged by themselves
PALE = (238, 224, 196)
WEIGHTS = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))  # of red, green, blue: the usual sepia
LEAST = 12  # pixels of a thing that is judged by itself, or of a difference that is asked for
STREAM = 3  # beside those of sampling.py
TASK = "sepia frame"


@dataclass(frozen=True, slots=True, eq=False)
class FramedSample:
    """One picture and its truth; alternatives: what is nearly the truth, by name."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    regions: tuple[tuple[str, np.ndarray], ...]
    alternatives: dict[str, np.ndarray]
    index: int
    instruction: str = INSTRUCTION
    reference_HWC: None = None
    modality: str = "image"
    task: str = TASK


def toned(frames_FHWC: np.ndarray) -> np.ndarray:
    """Sepia, of every pixel by itself."""
    return np.clip(np.rint(frames_FHWC.astype(np.float32) @ np.array(WEIGHTS, np.float32).T), 0, 255).astype(np.uint8)


def ring(first: int, stop: int) -> np.ndarray:
    """(H, W) bool: pixels whose distance from the border is in [first, stop)."""
    place = np.arange(SIZE)
    distance = np.minimum(place, SIZE - 1 - place)
    nearest = np.minimum(distance[:, None], distance[None, :])
    return (nearest >= first) & (nearest < stop)


def framed(frames_FHWC: np.ndarray, width: int = WIDTH) -> np.ndarray:
    return np.where(ring(0, width)[..., None], np.uint8(PALE), frames_FHWC).astype(np.uint8)


def edited(frames_FHWC: np.ndarray) -> np.ndarray:
    """The truth: first the tone, then the frame."""
    return framed(toned(frames_FHWC))


def framed_sample(split: str, index: int) -> FramedSample:
    """The picture of that number, with one to three things of combinations that training shows."""
    rng = random_stream(STREAM, SPLITS.index(split), index)
    while True:
        made = _sample(draw_scene(rng, "image")[0], index)
        if made is not None:
            return made


def _sample(scene: Scene, index: int) -> FramedSample | None:
    """None where the edit would hardly be seen."""
    times = frame_times("image")
    layers = render_layers(scene, times)
    source_FHWC = layers.frames_FHWC
    target_FHWC = edited(source_FHWC)
    frame_FHW, edge_FHW = (ring(*ends)[None] for ends in ((0, WIDTH), (WIDTH, WIDTH + EDGE)))
    inside_FHW, rest_FHW = ~frame_FHW, ~frame_FHW & ~edge_FHW
    regions = [("frame", frame_FHW), ("edge", edge_FHW)]
    things = {thing.place: layers.cover_PFHW[thing.place] & inside_FHW for thing in scene.things}
    for place, mask_FHW in things.items():
        rest_FHW = rest_FHW & ~mask_FHW
        if mask_FHW.sum() >= LEAST:
            regions.append((f"thing {place}", mask_FHW))
    regions.append(("ground", rest_FHW))
    idle_FHW = pixel_error(source_FHWC, target_FHWC)
    if any(masked_error(idle_FHW, mask)[0] < CLEAR_CHANGE for mask in (frame_FHW, inside_FHW)):
        return None
    nearly = {"undone": source_FHWC, "frame only": framed(source_FHWC), "tone only": toned(source_FHWC)}
    nearly |= {f"width {width}": framed(toned(source_FHWC), width) for width in OTHER_WIDTHS}
    nearly |= {"white frame": np.where(frame_FHW[..., None], np.uint8(255), target_FHWC)}
    nearly |= {"grey": np.where(inside_FHW[..., None], target_FHWC[..., :1], target_FHWC)}
    for axis, pixels in ((1, MOVED), (1, -MOVED), (2, MOVED), (2, -MOVED)):
        nearly[f"moved {axis} {pixels}"] = framed(np.roll(toned(source_FHWC), pixels, axis))
    for place, mask_FHW in things.items():
        nearly[f"without thing {place}"] = edited(render(scene.without(place), times))
        nearly[f"thing {place} not toned"] = np.where(mask_FHW[..., None], source_FHWC, target_FHWC)
    return FramedSample(source_FHWC, target_FHWC, tuple(regions), nearly, index)


def near_alternatives(sample: FramedSample, prediction_FHWC: np.ndarray) -> Iterator[str]:
    """Names of those that are at least as near to the prediction as the truth, where the two can be told apart."""
    for name, other_FHWC in sample.alternatives.items():
        differs_FHW = pixel_error(other_FHWC, sample.target_FHWC) >= REGION_FLOOR
        if differs_FHW.sum() < LEAST:
            continue
        near = [
            masked_error(pixel_error(prediction_FHWC, each), differs_FHW)[0]
            for each in (sample.target_FHWC, other_FHWC)
        ]
        if near[0] >= near[1]:
            yield name


def score_framed(sample: FramedSample, prediction_FHWC: np.ndarray) -> Score:
    """Every region within its limit, and nearer to the truth than to any alternative."""
    regions = score_regions(sample.source_FHWC, sample.target_FHWC, prediction_FHWC, sample.regions)
    nearer = next(near_alternatives(sample, prediction_FHWC), None) is None
    return Score(
        success=nearer and all(region.ok for region in regions.values()),
        regions=regions,
        outside_error=0.0,
        outside_ok=True,
        pixel_error=float(pixel_error(prediction_FHWC, sample.target_FHWC).mean()),
        task=TASK,
    )
