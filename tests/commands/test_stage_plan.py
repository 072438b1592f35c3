"""`instructx train STAGE --plan`: what a run needs, from the samples that it would train on; too small a card."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from instructx_core.cli import main
from instructx_core.commands.stage_plan import check_memory, stage_samples
from instructx_core.config import paper_14b
from instructx_core.costs.floor import GIB
from instructx_core.costs.plan import Spread, StageCost, plan_spread
from instructx_core.costs.training import SampleCost, count_weights
from instructx_core.data.sources import open_data
from instructx_core.errors import InputError
from instructx_core.training.recipes.paper import stage2
from instructx_core.training.recipes.registry import find_stage

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_stages import shrink, write_mixture


def test_a_plan_is_made_of_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is loaded and nothing written; on a CPU it speaks of no hours."""
    shrink(monkeypatch.setitem)
    data = str(write_mixture(tmp_path / "sets"))
    middle, largest = stage_samples(find_stage("stage2", "--train"), open_data(data))["video"]
    assert (middle.size.frames, largest.size.frames) == (5, 5) and (middle.reference, largest.reference) == (
        False,
        True,
    )
    with caplog.at_level(logging.INFO, "instructx"):
        assert main(["train", "stage1", "--data", data, "--plan", "--output", str(tmp_path / "runs")]) == 0
    said = caplog.text
    assert "a step: 32 tokens" in said and "memory of a process by part" in said and "hours" not in said
    assert "weights, trained (fp32)" in said and "host: a tensor while it is read" in said
    assert not (tmp_path / "runs").exists()


def test_a_plan_is_for_stages(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "tiny_vae", "--plan"]) == 2
    assert "--plan are for the paper's stages" in capsys.readouterr().err


def test_a_card_that_is_too_small(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused where weights and optimiser alone are too much, warned of where a sample may be."""
    samples = {"image": SampleCost(1_560, 10**14, GIB), "video": SampleCost(32_760, 10**15, 8 * GIB)}
    cost = StageCost(stage2(), count_weights(stage2(), paper_14b()), samples)
    plan = plan_spread(cost, "", Spread(8, shard=True))
    with pytest.raises(InputError, match=r"needs \d\d\.\d GiB before any sample, .* 24.0; use --shard .*--offload"):
        check_memory(cost, plan, 8, 24.0)
    check_memory(cost, plan, 8, plan.state / GIB + 1)
    assert "it may not fit; use --shard --recompute --micro 1 --offload, which needs" in caplog.text
    caplog.clear()
    check_memory(cost, plan, 8, 80.0)
    assert not caplog.text
    with pytest.raises(InputError, match="no plan fits: start more processes"):
        check_memory(cost, plan_spread(cost, "", Spread(1)), 1, 24.0)
