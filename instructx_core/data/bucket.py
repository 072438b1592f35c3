"""A bucket: everything in it has one modality, length, size and number of references, so that it can share a batch.

A source says which buckets it has; a job draws one for each step, and grids and latent shapes follow from it. Frames
are 4n + 1, as the Wan VAE takes them; an image is one frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

Kind = tuple[str, bool]  # modality, with a reference or not: what batch sizes, pools and probabilities are given for


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The shape of a sample: modality ("image" or "video"), frames, height and width in pixels, with a reference.

    reference_size: height and width of the reference picture; None: those of the bucket. Raises InputError for frames
    that the VAE cannot take.
    """

    modality: str
    frames: int
    height: int
    width: int
    reference: bool = False
    reference_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.modality not in ("image", "video"):
            raise InputError(f"a bucket's modality is {self.modality!r}; use image or video")
        if self.frames < 1 or self.frames % 4 != 1 or (self.modality == "image" and self.frames != 1):
            raise InputError(f"a bucket of {self.modality}s has {self.frames} frames; an image is 1, a clip is 4n + 1")
        if self.height < 1 or self.width < 1:
            raise InputError(f"a bucket is {self.width}x{self.height} pixels; both must be positive")
        if self.reference_size is not None and not self.reference:
            raise InputError(f"a bucket without a reference has one of {self.reference_size} pixels; leave that out")

    @property
    def kind(self) -> Kind:
        return self.modality, self.reference

    @property
    def reference_shape(self) -> tuple[int, int]:
        """Height and width of the reference picture."""
        return self.reference_size or (self.height, self.width)

    @property
    def pixels(self) -> int:
        """Of all frames of one sample."""
        return self.frames * self.height * self.width

    @property
    def label(self) -> str:
        """The kind in one word, for logs and plots: image, video+reference."""
        return self.modality + ("+reference" if self.reference else "")

    def __str__(self) -> str:
        """For names of files: image-1x64x64-plain is one frame of 64 rows and 64 columns without a reference."""
        size = f"{self.frames}x{self.height}x{self.width}"
        other = "" if self.reference_size is None else "{}x{}".format(*self.reference_size)
        return f"{self.modality}-{size}-{f'reference{other}' if self.reference else 'plain'}"
