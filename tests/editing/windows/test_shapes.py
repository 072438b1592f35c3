"""Long clips of the shapes world; the shipped model on eight windows of one: success a window, jumps at joins."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.shapes import jumps, part, sample, score, there_and_back


def test_there_and_back() -> None:
    drawn = sample("test", 3, "video", "color")
    clip = there_and_back(drawn, 40)
    order = [*range(17), *range(15, -1, -1), *range(1, 8)]
    assert len(order) == 40
    for name in ("source_FHWC", "target_FHWC", "outside_FHW"):
        assert (getattr(clip, name) == getattr(drawn, name)[order]).all(), name
    assert [name for name, _ in clip.regions] == [name for name, _ in drawn.regions]
    assert (clip.regions[0][1] == drawn.regions[0][1][order]).all()
    assert there_and_back(sample("test", 3, "image", "color"), 5).source_FHWC.shape == (5, 64, 64, 3)
    with pytest.raises(InputError, match="at least 1"):
        there_and_back(drawn, 0)


def test_every_window_is_judged_on_its_own() -> None:
    """Ground truth passes in every window; a window that was not edited fails, and only that one."""
    clip = there_and_back(sample("test", 3, "video", "color"), 129)
    made = clip.target_FHWC.copy()
    made[49:64] = clip.source_FHWC[49:64]
    verdicts = [score(part(clip, i * 16, i * 16 + 17), made[i * 16 : i * 16 + 17]).success for i in range(8)]
    assert verdicts == [True, True, True, False, True, True, True, True]
    with pytest.raises(InputError, match="no part of 129"):
        part(clip, 120, 130)


def test_jumps_see_changes_not_errors() -> None:
    clip = there_and_back(sample("test", 3, "video", "color"), 33)
    still = np.clip(clip.target_FHWC.astype(int) // 2 + 64, 0, 255).astype(np.uint8)
    assert jumps(clip.target_FHWC, clip.target_FHWC).max() == 0
    step = clip.target_FHWC.astype(int) // 2
    step[16:] += 9
    jump_F = jumps(step.astype(np.uint8), clip.target_FHWC // 2)
    assert jump_F.shape == (32,) and jump_F.argmax() == 15 and jump_F[15] == 9.0
    assert jumps(still, clip.target_FHWC).mean() < 1.0


@pytest.mark.slow
def test_eight_windows_of_the_shipped_model(shipped: Any, load_helper: Callable[[str, str], ModuleType]) -> None:
    """The benchmark's own code on its first case. Measured: docs/long-video.md; here what must stay true."""
    bench = load_helper("instructx_bench_joins", "../benchmarks/joins.py")
    rows = bench.seams(bench.STEPS, None, None, chosen=bench.QUICK, tasks=("color",))["methods"]
    found = {name: next(iter(cases.values())) for name, cases in rows.items()}
    ours, plain, alone = (found[name] for name in bench.QUICK)
    assert sum(ours["success"]) >= 6, ours  # measured: 7 of 8
    assert ours["join"] < 5.0, "of 255; a cut to another picture is 20 and more"
    assert ours["join"] < 0.8 * min(plain["join"], alone["join"]), "measured: half"
    assert ours["error"] < 1.2 * plain["error"], "not bought with a worse picture"
