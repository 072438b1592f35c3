"""All that decides what a run makes of a film, as one value: thresholds and cast. It goes to every process.

Place: the command -> setup -> run.py, cluster.py -> pipeline.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .cast import CLASSIC_CAST, Casting
from .terms.limits import Limits


@dataclass(frozen=True, slots=True)
class Setup:
    """film_licences: by the film's name, "*" for all others."""

    limits: Limits = field(default_factory=Limits)
    casting: Casting = CLASSIC_CAST
    film_licences: tuple[tuple[str, str], ...] = ()
