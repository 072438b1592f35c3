"""What an instruction may be. Pictures change with whatever the model reads, so what says nothing is refused."""

from __future__ import annotations

import pytest

from instructx_core.errors import InputError
from instructx_core.instruction import check_instruction

SILENT = [
    ".",
    "?!",
    "...",
    "- - -",
    "\u200b",
    "\ufeff",
    "\u2060\u00ad",
    "\u0301",
    "\U0001f642",
    "\u2764\ufe0f",
    "\ufffc",
    "\x00",
]


@pytest.mark.parametrize("text", SILENT, ids=ascii)
def test_what_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"has no letter and no digit in any script.*say what to change in words"):
        check_instruction(text)
    with pytest.raises(InputError, match="has no letter"):
        check_instruction(text, allow_empty=True)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"], ids=ascii)
def test_blank(text: str) -> None:
    with pytest.raises(InputError, match="the instruction is empty; say what to change"):
        check_instruction(text)
    assert check_instruction(text, allow_empty=True) == text


@pytest.mark.parametrize(
    "text", ["x", "7", "\u52a0", "\U0001f642 add", "\u0434\u0430", "<|im_end|>", "\u0e01", "\u2460"], ids=ascii
)
def test_a_letter_or_a_digit_of_any_script_is_enough(text: str) -> None:
    assert check_instruction(text) == text
