"""What films are like that give nothing: each has its reason, and nothing is left half-written."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from instructx_core.media.files import write_video
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.films import find_films
from instructx_core.synthesis.run import WORK, BadFilm, candidates_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.terms.candidate import STATE
from instructx_core.synthesis.terms.limits import Limits

GROUND_HWC = draw_film(2).without_FHWC[0]


def still(frames=48):
    return np.repeat(GROUND_HWC[None], frames, axis=0)


def pan():
    large_HWC = cv2.resize(draw_film(4).without_FHWC[0], None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
    return np.stack([large_HWC[20 : 20 + 112, 2 * step : 2 * step + 160] for step in range(48)])


def noise():
    return np.random.default_rng(0).integers(0, 256, (48, 112, 160, 3), np.uint8)


def filling():
    """A board that is carried through, of most of the picture's area."""
    frames_FHWC = still()
    for number, frame in enumerate(frames_FHWC):
        left = round(-108 + number * 268 / 47)
        frame[4:, max(0, left) : max(0, left + 108)] = (230, 20, 20)
    return frames_FHWC


def lettered():
    frames_FHWC = draw_film(2).frames_FHWC.copy()
    for frame in frames_FHWC:
        cv2.putText(frame, "ALL RIGHTS RESERVED", (6, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
        cv2.putText(frame, "A film by somebody", (6, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
    return frames_FHWC


def blurred():
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 5.0) for frame in draw_film(2).frames_FHWC])


@pytest.mark.parametrize(
    ("frames", "stage", "reason"),
    [
        (still, "gates", "nothing changes"),
        (lambda: still() // 16, "gates", "black frames"),
        (blurred, "gates", "not sharp"),
        (lettered, "gates", "letters in the picture"),
        (lambda: draw_film(2).frames_FHWC[:, :64], "gates", "the film is too small"),
        (pan, "subject", "no subject"),
        (noise, "camera", "the camera cannot be followed"),
        (filling, "camera", "the camera cannot be followed"),
    ],
)
def test_a_clip_that_gives_no_pair_says_why(tmp_path, frames, stage, reason):
    write_video(tmp_path / "film.mp4", frames(), FPS, crf=14)
    (candidate,) = candidates_of(find_films(tmp_path, tmp_path / "set"), tmp_path / "set", Setup(), 1)
    assert (candidate.reject.stage, candidate.reject.reason) == (stage, reason), candidate.reject
    assert candidate.reject.limit is None or candidate.reject.value != candidate.reject.limit


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(largest=0.02), "the subject is too large"),
        (Limits(smallest=0.3), "the subject is too small"),
        (Limits(outside=98.0), "it changed outside of the edit"),
        (Limits(visible=200.0), "the edit is hardly visible"),
    ],
)
def test_a_limit_rejects_with_its_measure(tmp_path, limits, reason):
    write_video(tmp_path / "film.mp4", draw_film(2).frames_FHWC, FPS, crf=14)
    (candidate,) = candidates_of(find_films(tmp_path, tmp_path / "set"), tmp_path / "set", Setup(limits), 1)
    assert candidate.reject.reason == reason
    assert candidate.reject.limit in (0.02, 0.3, 98.0, 200.0)
    (again,) = candidates_of(find_films(tmp_path, tmp_path / "set"), tmp_path / "set", Setup(), 1)
    assert again.reject is None, "with other limits the same set goes on"


def sound_only(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)


def torn(path):
    write_video(path, draw_film(2).frames_FHWC, FPS)
    path.write_bytes(path.read_bytes()[:2000])


def wide_range(path):
    """Tagged as PQ: HDR."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 112, "yuv420p"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 16, 9
        stream.codec_context.colorspace = 9
        for picture in draw_film(2).frames_FHWC:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"no film"), "cannot be read"),
        (sound_only, "no video stream"),
        (torn, "scenes is long enough"),
        (lambda path: write_video(path, still(1), FPS), "scenes is long enough"),
        (wide_range, "HDR"),
    ],
)
def test_a_film_that_cannot_be_read_says_why(tmp_path, make, words):
    (tmp_path / "films").mkdir()
    make(tmp_path / "films" / "film.mp4")
    (found,) = candidates_of(find_films(tmp_path / "films", tmp_path / "set"), tmp_path / "set", Setup(), 1)
    assert isinstance(found, BadFilm)
    assert words in found.reason
    assert not list((tmp_path / "set" / WORK).glob(f"*/{STATE}"))


def test_a_film_of_uneven_steps_keeps_its_time(tmp_path):
    """Every third frame is missing: the clip is as long as the film, and the subject moves as it did."""
    frames_FHWC, path = draw_film(5).frames_FHWC, tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "14"})
        stream.width, stream.height, stream.pix_fmt = 160, 112, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        for number, picture in enumerate(frames_FHWC):
            if number % 3 != 1:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    (candidate,) = candidates_of(find_films(tmp_path, tmp_path / "set"), tmp_path / "set", Setup(), 1)
    assert candidate.frames / candidate.fps == pytest.approx(3.0, abs=0.15)
