"""A judge's reply -> scores, or the reason why not. Nothing is guessed: what is missing or out of range is unreadable.

Place: client -> replies -> scores. Public scripts guess a random number, or leave a line "4.0" or "4/5" out; both shift
means without a word. Here a reply holds every score of its question in the range of its scale, or it is asked again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError

THOUGHTS = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>(?!.*</think).*$", re.DOTALL)  # ended, or cut off


class Unreadable(Exception):
    """Why a reply gives no score."""


def without_thoughts(text: str) -> str:
    """What a model says after it has thought aloud, as Qwen3 and DeepSeek do where their server does not cut it off:
    scores that it weighs on the way are not its answer."""
    return THOUGHTS.sub("", text)


def json_scores(text: str, keys: Mapping[str, str], low: float, high: float) -> tuple[dict[str, float], str]:
    """A JSON object with a number under each key. keys: as a reply names it, in small letters -> dimension.

    The object may stand in prose or a code fence, and is mended where it is broken (json-repair) but has its end. Keys
    are taken as written in any case, with _ for spaces, with "(1-10)".
    """

    text = without_thoughts(text)

    def scores_of(values: Mapping[str, Any]) -> tuple[dict[str, float], str] | None:
        named = {_key(name): value for name, value in values.items()}
        if not all(key in named for key in keys):
            return None
        scores = {dimension: number(named[key], low, high, key) for key, dimension in keys.items()}
        reason = named.get("reason", named.get("reasoning", ""))
        return scores, reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False)

    return _only(map(scores_of, json_objects(text)), f"no JSON object with {', '.join(keys)}")


def list_scores(text: str, names: Sequence[str], low: float, high: float) -> tuple[dict[str, float], str]:
    """VIEScore's {"score": [a, b], "reasoning": ".."}: as many numbers as names."""

    text = without_thoughts(text)

    def scores_of(values: Mapping[str, Any]) -> tuple[dict[str, float], str] | None:
        scores = values.get("score")
        if not isinstance(scores, list) or len(scores) != len(names):
            return None
        found = {name: number(score, low, high, name) for name, score in zip(names, scores, strict=True)}
        return found, str(values.get("reasoning", ""))

    return _only(map(scores_of, json_objects(text)), f"no JSON object with a score of {len(names)} numbers")


def _only(found: Iterable[tuple[dict[str, float], str] | None], nothing: str) -> tuple[dict[str, float], str]:
    """The scores of the objects that have some, where all say the same. Raises Unreadable."""
    first = None
    for each in found:
        if each is not None and first is not None and each[0] != first[0]:
            raise Unreadable("several JSON objects with different scores")
        first = first or each
    if first is None:
        raise Unreadable(nothing)
    return first


def line_scores(text: str, names: Sequence[str], low: float, high: float) -> tuple[dict[str, float], str]:
    """Lines "Name: 4", as ImgEdit, OpenVE and RefVIE ask for; bold or in a list, with 4.0 or 4/5 for 4."""
    text, found = without_thoughts(text), dict[str, float]()
    for name in names:
        spaced = r"\s*".join(map(re.escape, name.split()))
        pattern = rf"^[\s*_#\-\d.]*{spaced}[*_\s]*:[*_\s]*(\d+(?:\.\d+)?(?:\s*/\s*\d+)?)[*_\s.]*$"
        matches = {match[1].replace(" ", "") for match in re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE)}
        if not matches:
            raise Unreadable(f"no line {name!r} with a number")
        values = {number(value, low, high, name) for value in matches}
        if len(values) > 1:
            raise Unreadable(f"several scores of {name!r}: {', '.join(sorted(matches))}")
        found[name] = values.pop()
    reason = re.search(r"^[\s*_#\-]*brief reasoning[*_\s]*:[*_\s]*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return found, reason[1].strip() if reason else ""


def number(value: object, low: float, high: float, name: str) -> float:
    """A score in range. Text may be "8" or "8/10", of the scale's top; True is no number."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\d+))?\s*", value)
        if match is None or (match[2] is not None and float(match[2]) != high):
            raise Unreadable(f"{name} is {value!r:.60}, no number of {low:g} to {high:g}")
        value = float(match[1])
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise Unreadable(f"{name} is {value!r:.60}, no number")
    if not low <= value <= high:  # type: ignore[operator]
        raise Unreadable(f"{name} is {value:g}, out of {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _key(name: object) -> str:
    """'Instruct_Follow Score (1-10)' -> 'instruct follow score'."""
    return " ".join(re.sub(r"\([^)]*\)", " ", str(name)).replace("_", " ").replace("-", " ").lower().split())


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object of a text as it is; where none is whole, what json-repair makes of the part that looks like
    one. Raises Unreadable for an object that gives one name two values."""
    decoder, position, whole = json.JSONDecoder(object_pairs_hook=_unambiguous), text.find("{"), 0
    while position != -1:
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            position = text.find("{", position + 1)
            continue
        except RecursionError:  # a thousand deep: from every one of them on it would be tried again
            return
        if isinstance(value, dict):
            whole += 1
            yield value
        position = text.find("{", end)
    start, stop = text.find("{"), text.rfind("}")
    if 0 <= start < stop and not whole:  # of a reply that was cut nothing is mended: half a number is a wrong one
        value = _repair(text[start : stop + 1])
        if isinstance(value, dict):
            yield value


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise Unreadable(f"{name!r:.60} is there twice with different values")
        found[name] = value
    return found


def _repair(text: str) -> object:
    try:
        from json_repair import loads
    except ImportError:
        raise InputError("reading a judge's replies needs json-repair; pip install instructx[eval]") from None
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None
