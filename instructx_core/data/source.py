"""What a job asks of a data source. The jobs of training/ are written against these protocols and no world by name.

A source numbers its samples within a split and a bucket; the same number is always the same sample. EditSource is what
every source of edit pairs gives, StoredSource one whose samples lie in files, PretrainingSource a world that can also
teach the parts before the edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from .bucket import Bucket
from .record.rejects import RejectedRecord
from .samples import EditSample, PictureSample, SceneSample


@runtime_checkable
class EditSource(Protocol):
    """Edit pairs by number. Splits are "train" and "val"; every method raises InputError for one it does not have."""

    name: str  # name and version are in the names of cached pools
    version: str  # changes when the samples of any number do; of files, a digest of what is in them

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        """All buckets with samples, in a fixed order."""
        ...

    def size(self, split: str, bucket: Bucket) -> int:
        """Numbers go from 0 to this, exclusive."""
        ...

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        """The kind of edit of that number; must be cheap, nothing is rendered or decoded for it."""
        ...

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample: ...


class EditPart(Protocol):
    """A few samples of a StoredSource, by the numbers they have there; small enough to be sent to another process."""

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample: ...


@runtime_checkable
class StoredSource(EditSource, Protocol):
    """Samples that lie in files, some oftener drawn than others. `edit` raises InputError for one that is bad."""

    def refuse(self, rejects: Sequence[RejectedRecord]) -> None:
        """Takes note of samples that turned out to be bad. Raises InputError when they are too many of all."""
        ...

    def shares(self, split: str, bucket: Bucket) -> np.ndarray:
        """(size,) How often each number is drawn: the shares of all buckets of a modality add up to 1."""
        ...

    def part(self, split: str, bucket: Bucket, numbers: Sequence[int]) -> EditPart: ...

    def groups(self, split: str, bucket: Bucket, numbers: Sequence[int]) -> list[tuple[str, list[int]]]:
        """The numbers in groups, each with a name that changes when anything in the group does."""
        ...


@runtime_checkable
class TextSource(Protocol):
    """A source that can list typical texts, from which a small tokenizer is trained."""

    def texts(self) -> Iterator[str]: ...


@runtime_checkable
class PretrainingSource(TextSource, EditSource, Protocol):
    """A source that also shows things without an edit, for the VAE, the MLLM and the DiT. Buckets without reference."""

    def scene(self, split: str, number: int, bucket: Bucket) -> SceneSample: ...

    def picture(self, split: str, number: int, bucket: Bucket) -> PictureSample:
        """Scenes, targets of edits and references in turn, the hard ones more often: what edits make."""
        ...
