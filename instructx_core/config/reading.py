"""JSON of a file -> the dataclasses of a config; are its values of the right types and of a size that can be built?

A config decides what is allocated, so a damaged or hostile file must fail here, in one sentence. Standard library only.
"""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

LARGEST = 1 << 25  # any whole number; a picture's pixels are the largest
DEEPEST = 1000  # layers, blocks
WIDEST = 1 << 32  # elements of one matrix
Part = TypeVar("Part")
_WIDTHS = ("vocab_size", "hidden_size", "intermediate_size", "dim", "ffn_dim", "text_dim")
_DEPTHS = ("num_layers", "depth", "num_res_blocks")


def build(cls: type[Part], data: Any, where: str) -> Part:
    """The dataclass `cls` from a JSON object. Raises ValueError naming the field that is unknown, missing or absurd."""
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(data).__name__}")
    hints = get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown field(s) {', '.join(unknown)}; known: {', '.join(sorted(hints))}")
    values = {}
    for name, value in data.items():
        if dataclasses.is_dataclass(hints[name]):
            value = build(hints[name], value, f"{where}.{name}")
        values[name] = tuple(value) if isinstance(value, list) else value
    check_values(hints, values, where)
    try:
        part = cls(**values)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: {error}") from None
    check_sizes(part, where)
    return part


def check_values(hints: dict[str, Any], values: dict[str, Any], where: str) -> None:
    """Raises ValueError naming the first value that is not of its field's type, or absurd."""
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{where}.{name} is {str(value)[:40]!a}; expected {_describe(hints[name])}")
        if name in _DEPTHS and value > DEEPEST:
            raise ValueError(f"{where}.{name} is {value}; at most {DEEPEST}")


def check_sizes(part: Any, where: str) -> None:
    """Raises ValueError when a matrix of this part would have more than 2**32 elements."""
    widths = sorted(getattr(part, name) for name in _WIDTHS if hasattr(part, name))
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
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e30
    return isinstance(value, type(None) if hint is None else hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
