"""What shapes tell of what is added to Qwen and Wan: queries, the connector, LoRA in any naming."""

from __future__ import annotations

import re
from collections import Counter

from .dit_sizes import Shapes

LORA_DOWN = re.compile(r"[._]lora_(A|down)\.(default\.)?weight$|\.lora\.down\.weight$")


def ranks(shapes: Shapes) -> Counter[int]:
    """Rank -> number of adapted layers, in any naming."""
    return Counter(min(shape[:2]) for key, shape in shapes.items() if LORA_DOWN.search(key) and len(shape) >= 2)


def lora_text(shapes: Shapes) -> str:
    """ "rank 64 on 144 layers"."""
    found = ranks(shapes)
    return f"rank {', '.join(map(str, sorted(found)))} on {sum(found.values())} layers" if found else "none"


def query_counts(shapes: Shapes, pattern: str) -> dict[str, int]:
    """image, video, reference -> how many. pattern: of their names, with image, video or ref in it."""
    found = ((re.fullmatch(pattern, key), shape) for key, shape in shapes.items())
    return {{"ref": "reference"}.get(match[1], match[1]): shape[0] for match, shape in found if match and shape}


def connector_widths(shapes: Shapes, pattern: str) -> tuple[int, int]:
    """(width of the MLLM, width of the DiT); zeros where the file does not tell."""
    at = {match[1]: shape for key, shape in shapes.items() if len(shape) == 2 and (match := re.fullmatch(pattern, key))}
    last = max(at, key=int, default="")
    return at.get("0", (0, 0))[1], at.get(last, (0, 0))[0]
