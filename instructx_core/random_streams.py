"""Random numbers that depend on a key alone: the same in every process, on every machine, in any order of drawing.

Beside everything that draws: the procedural worlds, data, training, benchmarks. The key says the purpose and the number
of what is drawn, so there is no state of a generator to save and no draw that moves another one.
"""

from __future__ import annotations

import numpy as np


def random_stream(*key: int) -> np.random.Generator:
    """The stream of that key (Philox); keys of one purpose have one length, for zeros at a key's end do not count."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
