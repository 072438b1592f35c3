"""The usual sizes that are not the default (Wan2.1's), each once: of Wan2.2-TI2V-5B and of the procedural world.

Below presets.py, which are made with them, and older.py, which completes files that lack them. Standard library only.
"""

from __future__ import annotations

WAN22_5B = {"width": 1280, "height": 704, "frames": 121}  # pixels, frames
SHAPES = {"width": 64, "height": 64, "frames": 17}
SHAPES_PIXELS = 56 * 56  # of the frames that the MLLM of `shapes` sees
WORLD_PIXELS = (64 * 64, 128 * 128)  # fewest and most, of a frame of the world, version 2
WORLD_TRAINED_ON = "64 to 128 pixel pictures and 17-frame clips of a procedural world"
SHAPES_TRAINED_ON = "64x64 pictures and 17-frame clips of coloured shapes"
