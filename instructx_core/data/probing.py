"""What a picture or clip is, from its head: size, and of a clip frames and rate. Nothing is decoded but one frame.

Sorts records into buckets when a mixture is opened; decoding.py then holds every file to what was said of it here.
Legend: H W pixels; fps in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..errors import InputError
from ..media.clip.container import decode_frames
from ..media.clip.video import FrameReader
from ..media.files import open_media
from ..media.images import OpenImage
from ..media.stream import OpenClip
from .record import EditRecord, Locator
from .record.locating import located

TURNED = (5, 6, 7, 8)  # orientations of EXIF that lie on their side
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class MediaShape:
    """height, width: upright. frames 1 and fps 0 of a picture."""

    height: int
    width: int
    frames: int = 1
    fps: Fraction = Fraction(0)

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" + (f", {self.frames} frames" if self.fps else "")


def probe(locator: Locator) -> MediaShape:
    """Raises InputError for what cannot be opened."""
    with located(locator) as path, open_media(path) as opened:
        if isinstance(opened, OpenImage):
            width, height = opened.image.size
            try:
                turned = _is_turned(opened)
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise InputError(f"{locator}: the image is damaged ({error}); get it again") from None
            return MediaShape(width, height) if turned else MediaShape(height, width)
        if isinstance(opened, OpenClip) and opened.stream.frames and opened.stream.average_rate:
            reader = FrameReader(opened.path)
            reader.check(next(decode_frames(opened.path, opened.container))[0])
            return MediaShape(*reader.size, opened.stream.frames, Fraction(opened.stream.average_rate))
        scan = opened.scan()  # a container that does not count its frames
        return MediaShape(*scan.size, scan.frames, scan.fps)


def _is_turned(opened: OpenImage) -> bool:
    """Pillow would decode a PNG whole to look for EXIF behind the pixels; there, decoding.py finds it out."""
    if opened.image.format == "PNG" and "exif" not in opened.image.info:
        return False
    return opened.image.getexif().get(_ORIENTATION, 1) in TURNED


def shape_of(record: EditRecord) -> MediaShape:
    """Of source and target, which must be the same: as meta says, else as the files do. Raises InputError."""
    known = shape_in_record(record)
    if known is not None:
        return known
    source = probe(record.source)
    if (source.fps > 0) != (record.modality == "video"):
        found = "clip" if source.fps else "picture"
        raise InputError(f"{record.source}: is a {found}, and the record says {record.modality}; change modality")
    if record.target is not None:
        check_same(record, source, probe(record.target))
    return source


def shape_in_record(record: EditRecord) -> MediaShape | None:
    """What `meta` says of size, frames and fps; None where it does not say all. Raises InputError for other values."""
    size, frames, fps = (record.meta.get(name) for name in ("size", "frames", "fps"))
    if size is None or (record.modality == "video" and (frames is None or fps is None)):
        return None
    height, width = sides("size", size)
    if record.modality == "image":
        return MediaShape(height, width)
    if type(frames) is not int or frames < 1:
        raise InputError(f"meta.frames is {frames!r:.40}; it is a whole number of frames")
    try:
        rate = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise InputError(f"meta.fps is {fps!r:.40}; give frames a second, as 24 or '30000/1001'")
    return MediaShape(height, width, frames, rate)


def sides(name: str, value: object) -> tuple[int, int]:
    """(height, width) of a size in meta. Raises InputError for anything else."""
    found = tuple(value) if isinstance(value, list | tuple) else ()
    if len(found) != 2 or any(type(side) is not int or side < 1 for side in found):
        raise InputError(f"meta.{name} is {value!r:.40}; it is [height, width] in pixels")
    return found[0], found[1]


def size_of_reference(record: EditRecord) -> tuple[int, int]:
    """(height, width) of the reference. Raises InputError for a clip."""
    assert record.reference is not None
    if "reference_size" in record.meta:
        return sides("reference_size", record.meta["reference_size"])
    shape = probe(record.reference)
    if shape.fps:
        raise InputError(f"{record.reference}: the reference is a clip; give a picture")
    return shape.size


def check_same(record: EditRecord, source: MediaShape, target: MediaShape) -> None:
    """Raises InputError unless source and target have one size and one number of frames."""
    if (source.fps > 0) != (target.fps > 0):
        kinds = ["clip" if each.fps else "picture" for each in (source, target)]
        raise InputError(f"the source is a {kinds[0]} and the target a {kinds[1]}; both must be of one kind")
    if source.size != target.size or source.frames != target.frames:
        raise InputError(
            f"the source is {source} and the target {target}; both must have one size and length: export them so"
        )
