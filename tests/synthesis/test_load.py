"""The plan for the paper's pairs adds up, and says that it is computed."""

import pytest

from instructx_core.costs.cards import find_card
from instructx_core.synthesis.load import LOADS, ModelLoad, clips_of, hours_of, load_table


def test_a_forward_is_counted_by_hand():
    load = ModelLoad("erase", "by hand", 10, parameters=1e9, tokens=1000, layers=2, width=100)
    assert load.tflop == pytest.approx(10 * (2e12 + 4 * 2 * 1e6 * 100) / 1e12)


def test_clips_follow_from_pairs():
    assert clips_of("erase", 0.5) == 146_000
    assert clips_of("subject", 0.5) == 146_000 + 196_000
    assert clips_of("swap: driven", 0.5) + clips_of("swap: in-painted", 0.5) == 196_000


def test_the_table_adds_up_and_is_marked():
    card = find_card("H100")
    text = load_table(64, card)
    assert text.startswith("Computed, not measured: 236,000 pairs")
    total = sum(hours_of(load, card) for load in LOADS)
    assert f"| all | | | | {total:,.0f} | {total / 64 / 24:,.1f} |" in text
    assert hours_of(LOADS[3], card) > 0.3 * total, "erasing by VACE is most of it"
