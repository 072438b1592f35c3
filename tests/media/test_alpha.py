"""Transparency of clips: in whatever codec it lies, one that is to be seen is refused, one that is opaque is read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.media.files import read_media

# name of the file -> codec, pixel format, options
KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "vp8.webm": ("libvpx", "yuva420p", {"auto-alt-ref": "0", "b": "1M"}),
    "vp9.webm": ("libvpx-vp9", "yuva420p", {"b": "1M"}),
    "vp9.mkv": ("libvpx-vp9", "yuva420p", {"b": "1M"}),
    "prores.mov": ("prores_ks", "yuva444p10le", {"profile": "4444"}),
    "png.mov": ("png", "rgba", {}),
    "animation.mov": ("qtrle", "argb", {}),
    "utvideo.avi": ("utvideo", "gbrap", {}),
    "ffv1.mkv": ("ffv1", "yuva444p16le", {}),
}


def write(path: Path, codec: str, pixels: str, options: dict[str, str], alpha: list[int], **tags: str) -> Path:
    """Clips of gray 120; alpha: of the right half of each frame, the left one is opaque."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.metadata.update(tags)
        for index, level in enumerate(alpha):
            rgba = np.full((48, 64, 4), 120, np.uint8)
            rgba[..., 3] = 255
            rgba[:, 32:, 3] = level
            frame: Any = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", KINDS)
def test_transparency_is_seen_in_every_codec(tmp_path: Path, name: str) -> None:
    """In the last frame only, so that a look at the first is not enough; an opaque channel takes nothing away."""
    with pytest.raises(InputError, match=r"the clip has transparency .*export it without alpha"):
        read_media(write(tmp_path / name, *KINDS[name], alpha=[255, 255, 60]))
    media = read_media(write(tmp_path / name, *KINDS[name], alpha=[255, 255, 255]))
    assert len(media.frames_FHWC) == 3 and np.abs(media.frames_FHWC.astype(int) - 120).max() <= 3
    assert "its transparency is opaque everywhere and is left out" in media.notes


def test_transparency_is_seen_beside_a_tag_in_capitals(tmp_path: Path) -> None:
    """As in files of the usual command, ffmpeg -metadata:s:v alpha_mode=1: the tag hides the container's own field."""
    clip = write(tmp_path / "a.webm", *KINDS["vp9.webm"], alpha=[255, 60], alpha_mode="1")
    with av.open(str(clip)) as container:
        assert "ALPHA_MODE" in container.streams.video[0].metadata
    with pytest.raises(InputError, match=r"the clip has transparency"):
        read_media(clip)


def test_a_layer_of_h265_is_refused(tmp_path: Path) -> None:
    """FFmpeg shows such a clip without its transparency and says nothing. Message 165 of its header tells of it; x265
    in PyAV cannot write the layer, so the message is put beside the header of a plain clip."""
    with av.open(str(tmp_path / "plain.mp4"), "w") as out:
        stream: Any = out.add_stream("libx265", rate=10, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 120, np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    assert len(read_media(tmp_path / "plain.mp4").frames_FHWC) == 3
    with av.open(str(tmp_path / "plain.mp4")) as plain, av.open(str(tmp_path / "layered.mov"), "w") as out:
        source = plain.streams.video[0]
        target: Any = out.add_stream_from_template(source)
        header = bytearray(source.codec_context.extradata or b"")
        header[22] += 1  # arrays of units; the new one holds one unit of 9 bytes, of kind 39
        target.codec_context.extradata = bytes(header) + bytes.fromhex("a7 0001 0009 4e01 a504 0000 7f90 80")
        for packet in plain.demux(source):
            if packet.pts is not None:
                packet.stream = target
                out.mux(packet)
    with pytest.raises(InputError, match=r"transparency \(a layer of H.265\)"):
        read_media(tmp_path / "layered.mov")
