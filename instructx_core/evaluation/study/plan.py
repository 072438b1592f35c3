"""Which items and outputs a study shows, and the key that says what was what; nobody who rates gets the key.

Place: items, outputs -> plan -> form; plan (the key's file) + answers -> answers.py. Every output has a code of its own
that a secret makes of item and editor, so that no code tells which outputs are of the same editor. Items are drawn
by seed among those of which every editor has an output; what is left out is counted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.record import EditRecord
from ...errors import InputError
from ...media.outputs import atomic_path
from ..objects import read_object

KIND = "instructx study key"


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """study: its id, on the form and in every answer. codes: item -> code -> editor. left_out: editor -> items."""

    study: str
    codes: dict[str, dict[str, str]]
    tasks: dict[str, str]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def editors(self) -> list[str]:
        return sorted({editor for codes in self.codes.values() for editor in codes.values()})


def make_plan(
    items: Sequence[EditRecord],
    outputs: Mapping[str, Mapping[str, Path]],
    count: int | None = None,
    seed: int = 0,
    secret: str | None = None,
) -> StudyPlan:
    """outputs: editor -> item -> file. count: items to draw, None for all.

    Raises InputError for fewer than two editors, for more items than there are, where no item has all outputs, for a
    seed below 0.
    """
    if len(outputs) < 2:
        raise InputError(f"a study compares editors; {len(outputs)} given, give the outputs of at least two")
    whole = [item for item in items if all(item.id in files for files in outputs.values())]
    left_out = {
        editor: missing for editor, files in outputs.items() if (missing := [i.id for i in items if i.id not in files])
    }
    if not whole:
        raise InputError("no item has an output of every editor; give outputs of the same items")
    if seed < 0:
        raise InputError(f"seed is {seed}; use 0 or more")
    if count is not None and not 1 <= count <= len(whole):
        raise InputError(f"count is {count}; {len(whole)} items have an output of every editor, use 1 to {len(whole)}")
    if count is not None:
        picked = np.random.default_rng(seed).choice(len(whole), count, replace=False)
        whole = [whole[number] for number in sorted(picked.tolist())]
    secret = secrets.token_hex(16) if secret is None else secret
    codes = {item.id: {_code(secret, item.id, editor): editor for editor in outputs} for item in whole}
    named = json.dumps([[item, sorted(of)] for item, of in codes.items()])
    study = hashlib.sha256(named.encode()).hexdigest()[:12]
    return StudyPlan(study, codes, {item.id: item.task for item in whole}, left_out)


def _code(secret: str, item: str, editor: str) -> str:
    return hashlib.sha256(f"{secret}\0{item}\0{editor}".encode()).hexdigest()[:12]


def write_key(path: Path, plan: StudyPlan) -> None:
    values = {"kind": KIND, "study": plan.study, "tasks": plan.tasks, "left_out": plan.left_out, "codes": plan.codes}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_key(path: Path) -> StudyPlan:
    """Raises InputError for a file that write_key did not write."""
    values = read_object(path)
    if values.get("kind") != KIND:
        raise InputError(f"{path}: is no key of a study; give the .key.json that study-form wrote beside the form")
    codes, tasks, left_out = (values.get(name) for name in ("codes", "tasks", "left_out"))
    whole = isinstance(codes, dict) and all(
        isinstance(of, dict) and all(isinstance(editor, str) for editor in of.values()) for of in codes.values()
    )
    if not whole or not codes or not isinstance(values.get("study"), str) or not isinstance(left_out, dict):
        raise InputError(f"{path}: is a key that was changed or cut; give it as study-form wrote it")
    return StudyPlan(values["study"], codes, tasks if isinstance(tasks, dict) else {}, left_out)
