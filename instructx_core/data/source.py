"""What a job asks of a data source. The jobs of training/ are written against these protocols and no world by name.

A source numbers its samples within a split and a bucket; the same number is always the same sample. EditSource is what
records of edit pairs give; PretrainingSource is what a world gives that can also teach the parts before the edits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from .bucket import Bucket
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
