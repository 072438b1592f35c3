"""A weight file, opened once and asked once: tensors as stored and as plain numbers, the config in its metadata.

Every reader of this wing takes a WeightFile, never a path; telling/ says what it is. OpenFiles keeps those of one task,
so that a file that several readers need is opened for all of them, and closes them at its end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ...config import InstructXConfig
from ...errors import InputError
from ..containers.opening import main_file, open_source, open_sources
from ..containers.quantisation import Numbers, numbers
from ..containers.quantised import dequantised
from ..containers.tensor_source import TensorSource
from .llama_cpp import with_hub_names

if TYPE_CHECKING:
    from typing_extensions import Self

METADATA_KEY = "instructx"  # of the InstructXConfig that every file of ours carries
Paths = str | Path | Sequence[Path]  # a file, a folder, an index, or the list of shards
Answer = TypeVar("Answer")


class WeightFile:
    """One opened file, or several that are one model. A context manager."""

    def __init__(self, source: TensorSource) -> None:
        """source: its tensors as stored; closed with the file."""
        self.source = source
        self._answers: dict[Callable[..., Any], Any] = {}

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on disk: several for shards."""
        return self.source.files

    @functools.cached_property
    def numbers(self) -> Numbers:
        """What it is stored in. Raises InputError when it describes its quantisation unreadably."""
        return numbers(self.source)

    @functools.cached_property
    def plain(self) -> TensorSource:
        """Its tensors as plain numbers. Raises InputError for a quantisation that the library cannot read."""
        return dequantised(self.source, self.numbers)

    @property
    def readable(self) -> bool:
        """Whether the library can turn its numbers into plain ones."""
        try:
            return self.plain is not None
        except InputError:
            return False

    @functools.cached_property
    def configs(self) -> tuple[tuple[str, InstructXConfig], ...]:
        """(file name, the config in its metadata) of every file that carries one. Raises InputError on a bad one."""
        texts = ((part.path.name, part.metadata.get(METADATA_KEY)) for part in self.source.parts)
        return tuple((name, _parse(name, text)) for name, text in texts if text is not None)

    @property
    def config(self) -> InstructXConfig | None:
        """The config in its metadata; None for a file that carries none, such as a plain Wan or Qwen file."""
        return self.configs[-1][1] if self.configs else None

    def agree(self, config: InstructXConfig, *fields: str) -> None:
        """Raises InputError when the file was saved for another model than `config`, as far as `fields` tell."""
        for file, other in self.configs:
            for name in fields:
                if getattr(config, name) != getattr(other, name):
                    raise InputError(
                        f"{file} belongs to {other.name} ({_difference(config, other, name)}); use the files of "
                        f"{config.name} together"
                    )

    def once(self, question: Callable[[WeightFile], Answer]) -> Answer:
        """The answer to a question about this file, worked out the first time and kept."""
        if question not in self._answers:
            self._answers[question] = question(self)
        return self._answers[question]

    def close(self) -> None:
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


def open_weights(path: Paths) -> WeightFile:
    """Open a file, folder, index or list of shards; a Qwen2.5-VL of llama.cpp gets the hub's names and its tower.

    Raises InputError when nothing is there, and for pickled, damaged or incomplete files.
    """
    source = open_source(path) if isinstance(path, str | Path) else open_sources(path)
    try:
        return WeightFile(with_hub_names(source))
    except BaseException:
        source.close()
        raise


class OpenFiles:
    """The weight files of one task, each opened once. A context manager that closes them all."""

    def __init__(self) -> None:
        self._files: dict[tuple[Path, ...], WeightFile] = {}
        self._answers: dict[tuple[Callable[..., Any], Path], Any] = {}

    def open(self, path: Paths) -> WeightFile:
        """The opened file; the same one when it is asked for again, or is part of another that is open."""
        paths = [path] if isinstance(path, str | Path) else path
        key = tuple(main_file(Path(path)) for path in paths)
        if key not in self._files:
            part = next((part for file in self for part in file.source.parts if key == (part.path,)), None)
            self._files[key] = open_weights(key[0] if len(key) == 1 else key) if part is None else WeightFile(part)
        return self._files[key]

    def once(self, question: Callable[[Path], Answer], path: Path) -> Answer:
        """The answer to a question about a folder, worked out the first time and kept."""
        if (question, path) not in self._answers:
            self._answers[question, path] = question(path)
        return self._answers[question, path]

    def __iter__(self) -> Iterator[WeightFile]:
        return iter(tuple(self._files.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for file in self:
            file.close()


def config_metadata(config: InstructXConfig) -> dict[str, str]:
    """What a file of ours carries in its metadata."""
    return {METADATA_KEY: config.to_json()}


def _parse(name: str, text: str) -> InstructXConfig:
    try:
        return InstructXConfig.from_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} carries an unreadable config ({error}); use the file as it was") from None


def _difference(config: InstructXConfig, other: InstructXConfig, name: str) -> str:
    """One field of two configs, or the parts of it that differ: "denoiser.dim 5120, not 3072"."""
    ours, theirs = getattr(config, name), getattr(other, name)
    if not dataclasses.is_dataclass(ours):
        return f"{name} {theirs!r}, not {ours!r}"
    values = ((f.name, getattr(theirs, f.name), getattr(ours, f.name)) for f in dataclasses.fields(ours))
    return "; ".join(f"{name}.{field} {a!r}, not {b!r}" for field, a, b in values if a != b)
