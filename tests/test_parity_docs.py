"""docs/parity.md names code and tests that exist, every switch of the config, and every choice the paper leaves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
CONFIG = (ROOT / "instructx_core" / "config" / "model.py").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize("place", PLACES, ids="::".join)
def test_named_code_and_tests_exist(place: tuple[str, str]) -> None:
    file, name = place
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    assert any(isinstance(node, kinds) and node.name == name for node in tree.body), f"{file} has no {name}"


def test_every_row_names_a_test() -> None:
    """Tables of what is equal, of deviations and of sentences; the last table says grounds instead."""
    tables = TEXT.split("### What the paper does not say")[0]
    rows = [line for line in tables.splitlines() if line.startswith("|") and not line.startswith("|---")]
    plain = [row for row in rows if "::test_" not in row]
    assert [row.split("|")[-2].strip() for row in plain] == ["test"] * 4, "a row without a test"
    assert len(rows) > 30


def test_every_unstated_choice_is_named() -> None:
    """Fields that config/model.py marks `not in paper`."""
    unstated = re.findall(r"^    (\w+): .*not in paper", CONFIG, re.M)
    assert len(unstated) >= 10
    assert not [name for name in unstated if f"`{name}`" not in TEXT]


def test_every_parity_switch_is_named() -> None:
    from instructx_core.config import kiwi_5b, with_parity

    before, after = kiwi_5b(), with_parity(kiwi_5b())
    parts = ("instruction", "denoiser", "sampling", "mllm", "vae")
    fields = [(getattr(before, part), getattr(after, part)) for part in parts]
    changed = [name for a, b in fields for name in a.__slots__ if getattr(a, name) != getattr(b, name)]
    assert changed and not [name for name in changed if f"`{name}`" not in TEXT]
