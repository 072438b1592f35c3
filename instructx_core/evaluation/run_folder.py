"""The folder of an evaluation: what lies in it, under which names, and which benchmark it is of.

    benchmark.json          which benchmark the items are of, and where they came from
    items.jsonl, media/     the items, and what had to be unpacked or drawn for them
    EDITOR/                 of each editor: editor.json (its settings), outputs.jsonl and what it made
    scores.jsonl            of all editors and judges, transcripts.jsonl what was sent and answered
    judges/                 how each judge was asked

Each link of the chain reads what the one before it wrote here, so that each can be resumed, or replaced by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.record import EditRecord
from ..errors import InputError, some
from ..media.names import no_windows_name
from ..media.outputs import atomic_path, make_folder
from .items import ITEMS, read_items, write_items
from .objects import read_object
from .outputs import OUTPUTS

BENCHMARK, EDITOR = "benchmark.json", "editor.json"
SUFFIX = {"image": ".png", "video": ".mp4"}
JUDGES = "judges"
KEPT = {"media", JUDGES}  # names that no editor can have


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An evaluation on disk. remedy: what to do where it holds another one."""

    path: Path
    remedy: str = "choose another folder"

    def prepare(self, benchmark: Mapping[str, Any]) -> None:
        """Makes the folder for a benchmark. Raises InputError where it holds the items of another one."""
        make_folder(self.path)
        place = self.path / BENCHMARK
        kept = place.exists() and (self.path / ITEMS).exists()  # without items it was never finished
        if kept and (old := self.benchmark()) != json.loads(json.dumps(dict(benchmark))):
            raise InputError(f"{self.path}: holds items of {old['name']}, made otherwise; {self.remedy}")
        _write_json(place, benchmark)

    def write(self, items: Iterable[EditRecord]) -> None:
        """Raises InputError where an item that editors have outputs of would become another edit under its id."""
        items = list(items)
        if self.editors() and (self.path / ITEMS).exists():
            old = {item.id: item for item in self.items()}
            changed = [item.id for item in items if item.id in old and _asked(item) != _asked(old[item.id])]
            if changed:
                raise InputError(
                    f"{self.path}: holds outputs of other edits under the ids {some(changed)}; {self.remedy}"
                )
        write_items(self.path / ITEMS, items)

    def benchmark(self) -> dict[str, Any]:
        """benchmark.json: its name at least. Raises InputError for a folder that is none of ours."""
        place = self.path / BENCHMARK
        if not place.is_file():
            raise InputError(f"{self.path}: no {BENCHMARK}; make the items first: instructx eval items")
        values = read_object(place, "remove it")
        if not isinstance(values.get("name"), str):
            raise InputError(f"{place}: names no benchmark; make the items again")
        return values

    def items(self) -> list[EditRecord]:
        """Raises InputError as read_items, and where there are none yet."""
        if not (self.path / ITEMS).exists():
            raise InputError(f"{self.path}: no {ITEMS}; make the items first: instructx eval items")
        return read_items(self.path / ITEMS)

    def editors(self) -> list[str]:
        """Names of the editors with outputs, in order."""
        return sorted(place.parent.name for place in self.path.glob(f"*/{OUTPUTS}"))

    def editor_folder(self, name: str, settings: Mapping[str, Any]) -> Path:
        """The folder of an editor, made where there is none.

        Raises InputError for a name that no folder can have, and where its outputs are of other settings.
        """
        if not re.fullmatch(r"\w[\w.+ -]*", name) or name in KEPT or no_windows_name(name):
            raise InputError(f"editor {name!r} can be no folder; use letters, digits and . + - _")
        folder = make_folder(self.path / name)
        _keep(folder / EDITOR, settings, "outputs", "--name")
        return folder

    def keep_judge(self, name: str, settings: Mapping[str, Any]) -> None:
        """Remembers how a judge is asked. Raises InputError where its scores here came about otherwise."""
        make_folder(self.path / JUDGES)
        _keep(self._judge_place(name), settings, "scores", "--judge-name")

    def judge_settings(self, name: str) -> dict[str, Any]:
        """How a judge was asked; nothing where that is not known. Raises InputError for a file that is damaged."""
        place = self._judge_place(name)
        return read_object(place, "remove it") if place.is_file() else {}

    def _judge_place(self, name: str) -> Path:
        plain = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return self.path / JUDGES / f"{plain}.json"


def _asked(item: EditRecord) -> tuple[object, ...]:
    """What an editor is asked for."""
    return item.modality, item.instruction, item.source, item.reference


def _keep(place: Path, settings: Mapping[str, Any], what: str, option: str) -> None:
    """Writes the settings beside what is made with them. Raises InputError where others are there: two models under
    one name would be averaged."""
    if place.exists() and (old := read_object(place, "remove it")) != json.loads(json.dumps(dict(settings))):
        keys = sorted(key for key in {*old, *settings} if old.get(key) != settings.get(key))
        other = ", ".join(keys) or "kind"
        raise InputError(f"{place}: there are {what} of another {other}; give this one another {option}")
    _write_json(place, settings)


def output_name(item: EditRecord) -> str:
    """Name of an item's output."""
    return plain_name(item.id) + SUFFIX[item.modality]


def plain_name(text: str) -> str:
    """The text where it can be a file's name, else what is left of it with a digest: two texts never have one name."""
    plain = re.sub(r"[^\w.+-]+", "_", text)
    if plain != text or len(plain.encode()) > 100 or plain.startswith(".") or no_windows_name(plain):
        start = plain.strip(".").encode()[:80].decode(errors="ignore")
        plain = f"{start}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return plain


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(dict(values), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
