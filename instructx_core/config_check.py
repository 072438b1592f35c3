"""Are the values of a config, read from a file, of the right types and of a size that can be built?

A config decides what is allocated, so a damaged or hostile file must fail here, in one sentence. Standard library only.
"""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 1 << 25  # any whole number; a picture's pixels are the largest
DEEPEST = 1000  # layers, blocks
WIDEST = 1 << 31  # elements of one matrix
_WIDTHS = ("vocab_size", "hidden_size", "intermediate_size", "dim", "ffn_dim", "text_dim")
_DEPTHS = ("num_layers", "depth", "num_res_blocks")


def check_values(cls: type, values: dict[str, Any], where: str) -> None:
    """Raises ValueError naming the first value that is not of its field's type, or absurd."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{where}.{name} is {str(value)[:40]!a}; expected {_say(hints[name])}")
        if name in _DEPTHS and value > DEEPEST:
            raise ValueError(f"{where}.{name} is {value}; at most {DEEPEST}")


def check_sizes(config: Any, where: str) -> None:
    """Raises ValueError when a matrix of this part would have more than 2**31 elements."""
    widths = sorted(getattr(config, name) for name in _WIDTHS if hasattr(config, name))
    if math.prod(widths[-2:]) > WIDEST:
        raise ValueError(f"{where}: a matrix of {widths[-2]} x {widths[-1]} is larger than any model's")


def _fits(value: Any, hint: Any) -> bool:
    kind, options = get_origin(hint), get_args(hint)
    if kind is Literal:
        return any(value == option and type(value) is type(option) for option in options)
    if kind in (Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if kind is tuple:
        if not isinstance(value, tuple) or len(value) > DEEPEST:
            return False
        each = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        return len(value) == len(each) and all(map(_fits, value, each))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, type(None) if hint is None else hint)


def _say(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
