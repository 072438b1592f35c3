"""Lets the tests of this folder import its helper module `tiny` under --import-mode=importlib; the paper's costs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def paper() -> dict[str, Any]:
    """What the paper's model costs at 832x480, 81 frames. Counted once; do not change it."""
    from instructx_core.config import paper_14b
    from instructx_core.costs.info import measure

    return measure(paper_14b(), 81, 480, 832)
