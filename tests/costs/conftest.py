"""What the paper's model costs, counted once for the tests of this folder."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def paper() -> dict[str, Any]:
    """What the paper's model costs at 832x480, 81 frames. Counted once; do not change it."""
    from instructx_core.config import paper_14b
    from instructx_core.costs.measure import edit_costs

    return edit_costs(paper_14b(), 81, 480, 832)
