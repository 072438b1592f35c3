"""docs/parity.md names code and tests that exist, every switch of the config, and every choice the paper leaves."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import kiwi_case as case
import kiwi_edits as edits
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


def test_a_bound_of_a_row_is_what_its_tests_assert() -> None:
    """`at most 1e-5` stands in the test that the row names."""
    bounds = re.findall(r"^\|.*\| at most (\S+) \| `([\w/]+\.py)::(\w+)` \|$", TEXT, re.M)
    assert len(bounds) >= 5
    for bound, file, name in bounds:
        source = (ROOT / file).read_text(encoding="utf-8")
        (test,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == name)
        assert bound in (ast.get_source_segment(source, test) or ""), f"{name} does not assert {bound}"


def test_every_case_of_whole_edits_is_stored_and_named() -> None:
    """Picture, clip and reference of every size, and the other VAE: what the row says is what the golden file holds."""
    stored = json.loads((ROOT / "tests" / "golden" / "kiwi_edits.json").read_text(encoding="utf-8"))["cases"]
    assert set(stored) == {f"{kind} {height}x{width} {c}" for kind, height, width, c in edits.CASES}
    assert len(stored) == 18
    (row,) = re.findall(r"^\| whole edits: .*$", TEXT, re.M)
    assert all(f"{width}x{height}" in row for height, width in edits.SIZES)
    assert {kind for kind, height, width, _ in edits.CASES if (height, width) == edits.SIZES[-1]} == set(case.KINDS)


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
