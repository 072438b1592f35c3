"""What graphics cards can do at most: matrix products in bf16 with fp32 sums, memory bandwidth, memory.

Read by `instructx info --gpu`. A GeForce's rate follows from two published numbers, multiprocessors and boost clock:
512 operations a clock and multiprocessor on GeForce 30, 40 and 50, where fp32 sums run at half the rate of fp16 sums.
The rule gives NVIDIA's own figures: 71 (3090), 165.2 (4090), 209.5 TFLOPS (5090).
Checked in November 2026 against pages that repeat NVIDIA's tables: fpsbench.com, cputronic.com, cpu-gpu.alldbin.com,
thefpsreview.com (GeForce); glennklockwood.com/garden (A100, H100, H200), mullet.se (L40S), hmc-tech.com (L4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError

_GEFORCE_FLOP_PER_CLOCK = 512  # dense bf16, fp32 sums, one multiprocessor


@dataclass(frozen=True, slots=True)
class Card:
    """name; bf16: dense TFLOPS with fp32 sums; bandwidth: 10^9 bytes a second; memory: GiB."""

    name: str
    bf16: float
    bandwidth: float
    memory: float
    source: str


def _geforce(name: str, multiprocessors: int, boost_ghz: float, bandwidth: float, memory: float) -> Card:
    bf16 = multiprocessors * _GEFORCE_FLOP_PER_CLOCK * boost_ghz / 1000.0
    return Card(f"RTX {name}", bf16, bandwidth, memory, f"{multiprocessors} SMs x 512 FLOP x {boost_ghz} GHz boost")


_SHEET = "NVIDIA data sheet, dense"
_CARDS = (
    # Multiprocessors, boost clock, bandwidth and memory of the reference cards. Not found on a page, so still from
    # memory: the clocks of 3080 Ti, 4070 Super, 4070 Ti Super and 5070 Ti, all of 4070 Ti Super and 5070 Ti.
    _geforce("3060", 28, 1.777, 360, 12),
    _geforce("3060 Ti", 38, 1.665, 448, 8),
    _geforce("3070", 46, 1.725, 448, 8),
    _geforce("3080", 68, 1.710, 760, 10),
    _geforce("3080 Ti", 80, 1.665, 912, 12),
    _geforce("3090", 82, 1.695, 936, 24),
    _geforce("3090 Ti", 84, 1.860, 1008, 24),
    _geforce("4060", 24, 2.460, 272, 8),
    _geforce("4060 Ti", 34, 2.535, 288, 16),  # also sold with 8 GB: --vram 8
    _geforce("4070", 46, 2.475, 504, 12),
    _geforce("4070 Super", 56, 2.475, 504, 12),
    _geforce("4070 Ti", 60, 2.610, 504, 12),
    _geforce("4070 Ti Super", 66, 2.610, 672, 16),
    _geforce("4080", 76, 2.505, 717, 16),
    _geforce("4080 Super", 80, 2.550, 736, 16),
    _geforce("4090", 128, 2.520, 1008, 24),
    _geforce("5060", 30, 2.497, 448, 8),
    _geforce("5060 Ti", 36, 2.572, 448, 16),  # also sold with 8 GB: --vram 8
    _geforce("5070", 48, 2.512, 672, 12),
    _geforce("5070 Ti", 70, 2.452, 896, 16),
    _geforce("5080", 84, 2.617, 960, 16),
    _geforce("5090", 170, 2.407, 1792, 32),
    Card("L4", 121.0, 300, 24, _SHEET),
    Card("L40S", 362.0, 864, 48, _SHEET),
    Card("A100 40GB", 312.0, 1555, 40, _SHEET),
    Card("A100 80GB", 312.0, 2039, 80, _SHEET),
    Card("H100", 989.0, 3350, 80, _SHEET + ", SXM"),
    Card("H200", 989.0, 4800, 141, _SHEET),
)


def _plain(name: str) -> str:
    """'RTX 4060 Ti', 'rtx4060ti' and '4060-ti' are one card."""
    bare = "".join(c for c in name.lower() if c.isalnum())
    return bare.removeprefix("nvidia").removeprefix("geforce").removeprefix("rtx")


CARDS = {_plain(card.name): card for card in _CARDS}


def card_of(name: str, memory: float) -> Card | None:
    """The card that a driver calls `name` ("NVIDIA H100 80GB HBM3"), with `memory` GiB; None for one whose figures the
    table does not have: parts for laptops, for PCIe, and what is not in it at all."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    if {"laptop", "pcie", "nvl", "max"} & set(words):
        return None
    found = [card for card in _CARDS if set(_model(card)) <= set(words)]
    longest = max((len(_model(card)) for card in found), default=0)
    same = [card for card in found if len(_model(card)) == longest]
    return min(same, key=lambda card: abs(card.memory - memory), default=None)


def _model(card: Card) -> list[str]:
    """Its name without the memory."""
    return [word for word in card.name.lower().split() if word != "rtx" and not word.endswith("gb")]


def find_card(name: str) -> Card:
    """The card of that name, however it is spelt. Raises InputError with the known ones."""
    card = CARDS.get(_plain(name))
    if card is None:
        raise InputError(f"--gpu {name!r} is not in the table; use one of {', '.join(CARDS)}, or --vram GB")
    return card
