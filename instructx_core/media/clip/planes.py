"""One channel of a decoded frame as numbers, taken out of its plane: nothing is converted.

Below alpha.py and video.py. Legend: H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def is_alone(frame: Any, part: Any) -> bool:
    """Whether a component of the frame's format has a plane of its own, of whole numbers up to 16 bits."""
    return part.bits <= 16 and sum(other.plane == part.plane for other in frame.format.components) == 1


def plane_values(frame: Any, part: Any) -> np.ndarray:
    """(H, W) of a component that is alone, 0 .. 2**part.bits - 1."""
    plane, order = frame.planes[part.plane], ">" if frame.format.is_big_endian else "<"
    kind = np.dtype("u1" if part.bits <= 8 else f"{order}u2")
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
