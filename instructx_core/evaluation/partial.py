"""What a benchmark run keeps while it goes: a file of JSON lines, one a scored sample, to go on from after a crash.

Place: running (scores) -> partial -> reports. Its first line says which model and settings the rest is of. A score is
any of the worlds' dataclasses; a key says which sample of which set.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..digests import model_digest
from ..errors import InputError
from ..media.outputs import atomic_path

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

Key = tuple[str, int]  # name of a set, number in it
S = TypeVar("S")


def fingerprint(pipe: InstructXPipeline) -> str:
    """Name and digest of configuration and weights, so that a resumed run cannot mix two models."""
    digest = model_digest(pipe.instructx_config.to_json(), pipe.vae, pipe.transformer, pipe.encoder)
    return f"{pipe.instructx_config.name}-{digest[:12]}"


@dataclasses.dataclass(frozen=True, slots=True)
class Lines(Generic[S]):
    """How scores of one kind become JSON and come back."""

    score: type[S]
    region: type[Any]  # of the values of its `regions`
    set_name: str  # what a key's first part is called in the line

    def line(self, key: Key, value: S) -> dict[str, Any]:
        return {self.set_name: key[0], "index": key[1], **dataclasses.asdict(value)}  # type: ignore[call-overload]

    def back(self, line: dict[str, Any]) -> tuple[Key, S]:
        fields = dict(line)
        key = (str(fields.pop(self.set_name)), int(fields.pop("index")))
        fields["regions"] = {name: self.region(**region) for name, region in fields["regions"].items()}
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return key, self.score(**{**fields, **tuples})


@dataclasses.dataclass(frozen=True, slots=True)
class Partial(Generic[S]):
    """The file of one run, open to be added to."""

    path: Path
    lines: Lines[S]

    def open(self, header: dict[str, Any], wanted: Iterable[Key], resume: bool) -> dict[Key, S]:
        """What of the wanted is done already; the file then holds that, and is ready for more.

        Written anew even on resume: this drops a half line that a crash left at the end. Raises InputError as read().
        """
        found = self.read(header) if resume and self.path.exists() else {}
        kept = set(wanted)
        done = {key: value for key, value in found.items() if key in kept}
        text = [json.dumps(header), *(json.dumps(self.lines.line(key, value)) for key, value in done.items())]
        with atomic_path(self.path) as temporary:
            temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
        return done

    def add(self, scores: Mapping[Key, S]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(self.lines.line(key, value)) + "\n" for key, value in scores.items())
            file.flush()
            os.fsync(file.fileno())

    def read(self, header: dict[str, Any]) -> dict[Key, S]:
        """Scores of an interrupted run; a last line cut by a crash is dropped. InputError on another run's file."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        try:
            found = json.loads(lines[0]) if lines else None
        except json.JSONDecodeError:
            found = None
        if found != header:
            raise InputError(
                f"{self.path}: belongs to another model or other settings; remove it or run without --resume"
            )
        scores: dict[Key, S] = {}
        for number, text in enumerate(lines[1:], 2):
            try:
                key, value = self.lines.back(json.loads(text))
            except (json.JSONDecodeError, TypeError, KeyError) as error:
                if number == len(lines):
                    break
                raise InputError(
                    f"{self.path}: line {number} is damaged ({error}); remove the file and start again"
                ) from None
            scores[key] = value
        return scores
