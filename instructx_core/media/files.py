"""Media in and out: a file of any common format <-> sRGB uint8 frames, with what must survive an edit (fps, audio).

First and last step of the data flow: media -> instruction -> ... -> pipeline -> media. Images go through Pillow here,
clips through PyAV in video.py and encode.py. Every conversion that changes pixels (rotation, alpha, 16 bit, CMYK,
profile, frame rate) is either done and written into `Media.notes`, or refused with a reason; nothing happens silently.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
JPEG_QUALITY = 95

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Where the sound of a clip lies; packets are read from there while the edited clip is written."""

    path: Path
    stream: int  # index in the container
    codec: str
    video_start: float  # seconds; audio timestamps count from here
    duration: float | None  # seconds


@dataclass(frozen=True, slots=True)
class Media:
    """A decoded image or clip.

    frames_FHWC: uint8 sRGB, upright. fps: Hz, None for an image. size: (H, W) of the file, before `transform`.
    pixel_aspect: width / height of one pixel, 1 almost always. color: what the file said, e.g. "bt709 limited".
    alpha_HW: transparency of an image that has any, 255 opaque, after `transform`; its frame shows it over white.
    notes: one sentence for every conversion that was done on the way in.
    """

    path: Path
    frames_FHWC: np.ndarray
    size: tuple[int, int]
    is_video: bool
    fps: Fraction | None = None
    audio: AudioSource | None = None
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    color: str = "srgb"
    alpha_HW: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def read_media(
    path: str | Path,
    transform: Transform | None = None,
    max_frames: int | None = None,
    first_only: bool = False,
    partial: bool = False,
) -> Media:
    """Decode an image or a clip; what the file is decides, not its name.

    transform: applied to each upright HWC uint8 frame while decoding (crop, scale), so that a long clip never lies in
    memory at full size. max_frames: a longer clip raises instead of filling the memory. first_only: stop after the
    first frame of a clip, to look at a file cheaply. partial: of a clip that is damaged or cut off, take what can be
    read instead of raising.
    Raises InputError: missing, unreadable, corrupt or empty file, HDR, animation, unknown pixel format.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise InputError(f"{path}: not a file; give one image or video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); give an image or video file")
    _refuse_heif(path)
    try:
        with warnings.catch_warnings():
            # A large photo is fine; Pillow's hard limit (twice the warning's) still raises.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; scale the image down first") from None
    except UnidentifiedImageError:
        from .video import read_video

        return read_video(path, transform, max_frames, first_only, partial)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); save it again as PNG or JPEG") from None
    with opened:
        return _read_image(path, opened, transform)


def read_image(path: str | Path) -> np.ndarray:
    """One upright HWC uint8 sRGB picture, e.g. a reference. Raises InputError as read_media, and for a clip."""
    media = read_media(path, first_only=True)
    if media.is_video:
        raise InputError(f"{path}: this is a video; give an image here")
    return media.frames_FHWC[0]


def _refuse_heif(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        raise InputError(f"{path}: HEIF/HEIC photos are not supported; export the photo as JPEG or PNG")


def _read_image(path: Path, image: Image.Image, transform: Transform | None) -> Media:
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a phone's JPEG with a preview behind it
        raise InputError(
            f"{path}: an animation or multi-page file ({image.format}); convert it to MP4 or give one page"
        )
    try:
        upright = ImageOps.exif_transpose(image)
        upright.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: the image is damaged ({error}); save it again as PNG or JPEG") from None
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright as its EXIF orientation says")
    alpha_HW = _alpha_of(upright)
    rgb = _to_srgb(path, upright, notes)
    frame_HWC = np.array(rgb, dtype=np.uint8)
    size = (frame_HWC.shape[0], frame_HWC.shape[1])
    if transform is not None:
        frame_HWC = transform(frame_HWC)
        alpha_HW = alpha_HW if alpha_HW is None else transform(np.repeat(alpha_HW[..., None], 3, axis=-1))[..., 0]
    return Media(
        path=path, frames_FHWC=frame_HWC[None], size=size, is_video=False, alpha_HW=alpha_HW, notes=tuple(notes)
    )  # fmt: skip


def _alpha_of(image: Image.Image) -> np.ndarray | None:
    """uint8 (H, W) of a picture that is not opaque everywhere, else None."""
    if image.mode not in ("RGBA", "LA", "La", "PA", "RGBa") and "transparency" not in image.info:
        return None
    alpha_HW = np.array(image.convert("RGBA").getchannel("A"))
    return None if alpha_HW.min() == 255 else alpha_HW


def _to_srgb(path: Path, image: Image.Image, notes: list[str]) -> Image.Image:
    """Any Pillow mode -> RGB in sRGB. Each conversion that is not the identity leaves a note."""
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise InputError(
                f"{path}: integer pixels in {wide.min()}..{wide.max()}; save it with 8 or 16 bits a channel"
            )
        notes.append("16-bit gray reduced to 8 bits and repeated over R, G, B")
        return Image.fromarray(np.round(wide / 257.0).astype(np.uint8)).convert("RGB")
    if mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr", "RGBa"):
        raise InputError(f"{path}: pixel format {mode} is not supported; save it as 8-bit RGB")
    has_alpha = mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if has_alpha:
        image = _over_white(image, notes)
    elif mode in ("L", "1"):
        notes.append("gray repeated over R, G, B")
    elif mode == "P":
        image = image.convert("RGB")
    if profile:
        image = _apply_profile(image, profile, notes)
    if image.mode == "CMYK":
        notes.append("CMYK without a usable profile converted by the plain formula (colours approximate)")
    return image.convert("RGB")


def _over_white(image: Image.Image, notes: list[str]) -> Image.Image:
    rgba = image.convert("RGBA")
    low, _ = rgba.getchannel("A").getextrema()
    if low == 255:
        return rgba.convert("RGB")
    notes.append("transparent: the model sees it over white (it knows no alpha)")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Embedded ICC profile -> sRGB, so that a Display P3 phone photo keeps its colours. Applied before any use."""
    import io

    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return image
        done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        notes.append(f"its colour profile cannot be applied and was ignored ({error})")
        return image
    notes.append(f"converted from the colour profile '{name}' to sRGB")
    return image if done is None else done


def check_frames(frames_FHWC: np.ndarray) -> None:
    """Raises InputError unless frames are a non-empty uint8 array of shape (F, H, W, 3)."""
    if not isinstance(frames_FHWC, np.ndarray) or frames_FHWC.dtype != np.uint8:
        kind = getattr(frames_FHWC, "dtype", type(frames_FHWC).__name__)
        raise InputError(f"frames are {kind}; they must be a uint8 array: scale to 0..255 and convert")
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3:
        raise InputError(f"frames have shape {frames_FHWC.shape}; they must be (frames, height, width, 3 = RGB)")
    if 0 in frames_FHWC.shape:
        raise InputError(f"frames have shape {frames_FHWC.shape}: there is nothing to write; give at least one frame")


def output_kind(path: str | Path) -> str:
    """'image' or 'video' by the suffix. Raises InputError for any other suffix or a missing folder."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise InputError(f"{path}: unknown output suffix {suffix!r}; use one of {known}")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    return "image" if suffix in IMAGE_SUFFIXES else "video"


@contextlib.contextmanager
def claim_output(path: str | Path) -> Iterator[None]:
    """No other process that claims it writes `path` during the block. Removes what a killed one left beside it.

    The claim is a lock on a file `.NAME.lock`; the system lifts it when the process ends, however it ends.
    Raises InputError when another process has it, or the folder is missing or cannot be written to.
    """
    path = Path(path)
    output_kind(path)
    lock = path.with_name(f".{path.name}.lock")
    handle = None
    try:  # from here on: an interrupt may come after any instruction
        handle = _open_lock(path, lock)
        if not _lock(handle.fileno(), lock):
            raise InputError(f"{path}: another process is writing this file; wait for it or choose another name")
        left = re.compile(rf"\.{re.escape(path.stem)}\.[a-z0-9_]{{8}}\.part{re.escape(path.suffix)}")
        for file in path.absolute().parent.iterdir():
            if left.fullmatch(file.name):
                file.unlink(missing_ok=True)
        yield
    finally:
        _give_up(handle, path, lock)


def _open_lock(path: Path, lock: Path) -> IO[bytes]:
    try:
        return lock.open("ab")
    except OSError as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None


def _give_up(handle: IO[bytes] | None, path: Path, lock: Path) -> None:
    """Removes the lock file, while it is still locked, unless another process has it."""
    if handle is None and not os.path.exists(lock):
        return
    with handle or _open_lock(path, lock) as held:  # no handle: the interrupt came just after the file was made
        if _lock(held.fileno(), lock):
            lock.unlink(missing_ok=True)


def _lock(handle: int, path: Path) -> bool:
    """Locks the open file at `path` for this process, also when it has it already; False when another one has it or
    has just given it up."""
    try:
        import fcntl
    except ImportError:  # Windows: there is no lock that a crash lifts and that lets the file be removed
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place only if the block succeeds; the old file survives a failure.

    Raises InputError when the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:  # it has its name before it is made, so that an interrupt finds it wherever it comes
        _make(path, temporary)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old one's place
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); free some space first") from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, it cannot be looked for either
            temporary.unlink(missing_ok=True)


def _make(path: Path, temporary: Path) -> None:
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None


def write_image(path: str | Path, frame_HWC: np.ndarray, alpha_HW: np.ndarray | None = None) -> None:
    """Write one uint8 RGB picture; the suffix picks the format (JPEG quality 95, no chroma subsampling), atomically.

    alpha_HW: transparency to add, uint8, for .png .webp .tif; the white that read_media put behind is taken out.
    Raises InputError for wrong pixels, an unknown suffix or a folder that is missing or cannot be written to.
    """
    path = Path(path)
    check_frames(np.asarray(frame_HWC)[None])
    if alpha_HW is not None:
        if path.suffix.lower() not in ALPHA_SUFFIXES:
            raise InputError(f"{path}: this format has no transparency; use one of {', '.join(ALPHA_SUFFIXES)}")
        part_HWC = np.maximum(alpha_HW, 1)[..., None] / 255.0
        colour_HWC = np.clip(np.rint(255 - (255.0 - frame_HWC) / part_HWC), 0, 255).astype(np.uint8)
        frame_HWC = np.dstack([np.where(alpha_HW[..., None] > 0, colour_HWC, frame_HWC), alpha_HW])
    if output_kind(path) != "image":
        raise InputError(f"{path}: one picture cannot be written as a video; use .png or .jpg")
    options: dict[str, Any] = {}
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options = {"quality": JPEG_QUALITY, "subsampling": 0}
    elif path.suffix.lower() == ".webp":
        options = {"lossless": True}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(frame_HWC)).save(temporary, **options)


def write_video(path: str | Path, frames_FHWC: np.ndarray, fps: Fraction | float, **options: Any) -> tuple[str, ...]:
    """Write a clip; see encode.write_video for the options. Returns notes on what was done with the audio."""
    from .encode import write_video as write

    return write(path, frames_FHWC, fps, **options)
