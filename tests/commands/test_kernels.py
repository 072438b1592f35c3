"""`instructx kernels` on a machine without a card: reasons, not tracebacks. With a card (emulated): test_ops.py."""

from __future__ import annotations

import pytest
import torch

from instructx_core.cli import main
from instructx_core.commands.kernels import parse_attention_size
from instructx_core.errors import InputError
from instructx_core.kernels.bench import Row, format_table

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "report"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mode auto, torch ") and "our kernels are not used: " in out


@pytest.mark.parametrize("action", ["bench", "selftest"])
def test_no_card(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", action]) == 2
    assert capsys.readouterr().err.startswith("error: no card to run on: ")


def test_sizes() -> None:
    assert parse_attention_size("32760x40") == (1, 32760, 40, 128)
    for bad in ("32760", "x40", "0x40", "ax4"):
        with pytest.raises(InputError, match="is not a size"):
            parse_attention_size(bad)


def test_the_table_is_markdown_and_shows_only_what_was_measured() -> None:
    rows = [
        Row("int8", (1, 8190, 12, 128), 1.5, 274.6, 0.62, 0.0091, 33.0),
        Row("sdpa flash", (1, 8190, 12, 128), note="not built"),
    ]
    assert format_table(rows, ["a card"]).splitlines() == [
        "a card", "",
        "| tokens x heads | attention | ms | TOPS | of peak | error | MB | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 8190 x 12 | int8 | 1.50 | 275 | 62% | 0.91% | 33 |  |",
        "| 8190 x 12 | sdpa flash |  |  |  |  |  | not built |",
    ]  # fmt: skip
