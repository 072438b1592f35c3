"""What a generating player made, laid into the film: inside of the mask only.

Place: ours.py, models/ -> fill -> stages/.
Shapes: frames_FHWC, made_FHWC uint8; changed_FHW bool.
"""

from __future__ import annotations

import numpy as np

from .masks import beside, grown
from .roles import Erasure


def pasted(frames_FHWC: np.ndarray, made_FHWC: np.ndarray, changed_FHW: np.ndarray) -> Erasure:
    """What was made inside of the grown mask, the film outside of it, and how far apart the two are beside it.

    Where the film has sharp borders a VAE differs from it visibly, which says nothing of the fill; so no `misfit`.
    """
    covered_FHW = grown(changed_FHW)
    everywhere_HW = np.ones(covered_FHW.shape[1:], dtype=bool)
    differences = np.concatenate(
        [
            beside(frame, made, covered, everywhere_HW)
            for frame, made, covered in zip(frames_FHWC, made_FHWC, covered_FHW, strict=True)
        ]
    )
    result_FHWC = np.where(covered_FHW[..., None], made_FHWC, frames_FHWC)
    none_FHW = np.zeros_like(covered_FHW)
    if not differences.size:
        return Erasure(result_FHWC, none_FHW)
    return Erasure(result_FHWC, none_FHW, float(differences.mean()))
