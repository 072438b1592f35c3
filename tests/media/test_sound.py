"""Sound in and out: it stays with the pictures whatever its codec, container, time stamps and channels are.

Every clip is made without the code under test: a white picture wherever there is a tone (tests/support/sounds.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sounds import APART, FLASHES, RATE, flashes, seconds_of_sound, tones, write_clip

from instructx_core.errors import InputError
from instructx_core.media.files import read_media, write_video
from instructx_core.media.sound.plan import why_not_copied
from instructx_core.media.sound.source import AudioSource, SoundSetup, SoundTrack

SYNC = 0.02  # seconds
TIMES = [number / RATE for number in FLASHES]


def edited(source: Path, suffix: str) -> tuple[Path, tuple[str, ...]]:
    """The clip through reader and writer, and everything that is said of its sound."""
    media = read_media(source)
    output = source.with_name(f"{source.stem}_edited{suffix}")
    notes = write_video(output, media.frames_FHWC, media.fps or 0, audio=media.audio, preset="ultrafast")
    return output, tuple(note for note in (*media.notes, *notes) if note.startswith("audio"))


def assert_heard(output: Path, expected: list[float], track: int = 0, channel: int = 0) -> None:
    """Tones of the first channel lie where they should, seen from the pictures."""
    white, _ = flashes(output)
    assert white == pytest.approx(TIMES, abs=0.03)
    heard = list(tones(output, track).values())[channel]
    assert heard == pytest.approx([time + channel * APART for time in expected], abs=SYNC)


def track(codec: str, **options: Any) -> SoundTrack:
    setup = SoundSetup(48000, "stereo", ("FL", "FR"), "fltp")
    return SoundTrack(1, "audio", codec, False, (setup,), **options)


KINDS: dict[str, tuple[str, dict[str, Any], list[float]]] = {
    # file: codec, how it is written, where tones must be heard
    "opus.webm": ("libopus", {}, TIMES),
    "vorbis.webm": ("vorbis", {}, TIMES),
    "late_pictures.webm": ("libopus", {"pictures_at": 0.5}, TIMES),
    "late_pictures.mkv": ("eac3", {"pictures_at": 0.7}, TIMES),
    "late_sound.mkv": ("ac3", {"sound_at": 0.6}, TIMES[1:]),
    "late_sound.webm": ("libopus", {"sound_at": 0.6}, TIMES[1:]),
    "early.mp4": ("aac", {"sound_at": -0.3}, TIMES),
    "early.mov": ("pcm_s16le", {"sound_at": -0.3}, TIMES),
    "hole.mkv": ("mp2", {"hole": (0.5, 1.0)}, TIMES),
    "hole.webm": ("libopus", {"hole": (0.15, 0.9)}, TIMES[1:]),
    "stream.ts": ("mp2", {}, TIMES),
    "late_pictures.ts": ("ac3", {"pictures_at": 0.48}, TIMES),
    "flash.flv": ("libmp3lame", {"rate": 44100}, TIMES),
    "windows.asf": ("wmav2", {"rate": 44100}, TIMES),
    "camera.avi": ("pcm_s16le", {"rate": 44100}, TIMES),
    "no_durations.mkv": ("wavpack", {}, TIMES),  # nor does anyone say how long a packet is
    "telephone.mov": ("pcm_mulaw", {"rate": 8000, "layouts": ("mono",)}, TIMES),
}


@pytest.mark.parametrize("name", KINDS)
def test_sound_stays_with_the_pictures(tmp_path: Path, name: str) -> None:
    """Time stamps in milliseconds, samples or ticks, offsets, holes: copied or encoded anew, tones stay in place."""
    codec, options, expected = KINDS[name]
    source = write_clip(tmp_path / name, codec, **options)
    assert_heard(source, expected)
    begin = options.get("sound_at", 0.0) - options.get("pictures_at", 0.0)
    for suffix in (".mp4", ".mkv"):
        output, notes = edited(source, suffix)
        assert_heard(output, expected)
        assert any("copied" in note or "encoded anew" in note for note in notes)
        assert seconds_of_sound(output) >= 1.7 - max(begin, 0.0) - 0.1, "none of it is lost"
        if source.suffix not in (".mp4", ".mov"):  # where an edit list cuts what lies before, as in the source
            assert any("s before the first picture left out" in note for note in notes) == (begin < 0)


def test_silence_of_minutes_is_kept(tmp_path: Path) -> None:
    """A sound that begins late is silence before it, which is filled piece by piece; then it is where it was."""
    source = write_clip(tmp_path / "a.mkv", "mp2", rate=16000, layouts=("mono",), sound_at=200.2, pictures_at=200.0)
    audio = AudioSource(source, 0.0, (track("mp2", damaged=1),))
    write_video(tmp_path / "b.mp4", np.zeros((2020, 16, 16, 3), np.uint8), RATE, audio=audio, preset="ultrafast")
    assert tones(tmp_path / "b.mp4")["FL"] == pytest.approx([200.3, 201.1], abs=SYNC)
    assert seconds_of_sound(tmp_path / "b.mp4") > 201


LAYOUTS = [
    ("2.1", "5.1"), ("quad", "5.0"), ("5.0(side)", "5.0"), ("5.1", "5.1"), ("5.1(side)", "5.1"), ("6.0", "7.1"),
    ("6.1", "7.1"), ("7.1", "7.1"), ("7.1(wide)", "7.1"), ("7.1.4", "7.1"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "becomes"), LAYOUTS)
def test_every_layout_is_written(tmp_path: Path, layout: str, becomes: str) -> None:
    """As AAC in a layout that every player knows; each loudspeaker that it has is heard from its own place."""
    source = write_clip(tmp_path / "a.mov", layouts=(layout,))
    output, (note,) = edited(source, ".mp4")
    have, want = tones(output), tones(source)
    with av.open(str(output)) as container:
        assert container.streams.audio[0].layout.name == becomes
    if layout != becomes:
        assert f"{layout} put into {becomes}" in note or f"{layout} mixed down to {becomes}" in note
    for name in want.keys() & have.keys():
        assert min(abs(time - want[name][0]) for time in have[name]) < SYNC, name
    if "mixed down" not in note:
        assert sum(len(times) for times in have.values()) >= sum(len(times) for times in want.values())
    assert edited(source, ".mov")[1] == ("audio (pcm_s16le) copied",)


# Layouts that QuickTime has and FFmpeg's masks have not: number of the layout, its order.
APPLE = {"7.1": (0x00800008, "FL FR FC LFE SL SR BL BR"), "6.1": (0x007D0007, "FL FR FC LFE SL SR BC")}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("layout", APPLE)
def test_channels_in_another_order(tmp_path: Path, layout: str, suffix: str) -> None:
    """PyAV frees the list of such an order twice, which ends the process; each tone comes from its own place."""
    source = write_clip(tmp_path / "a.mov", layouts=(layout,))
    number, order = APPLE[layout]
    data = bytearray(source.read_bytes())
    place = data.index(b"chan") + 8
    data[place : place + 4] = number.to_bytes(4, "big")
    source.write_bytes(data)
    output, (note,) = edited(source, suffix)
    if suffix == ".mov":
        assert note == "audio (pcm_s16le) copied"
        return
    for name, times in tones(output).items():
        channel = order.split().index(name) if name in order else order.split().index("BC")
        assert times == pytest.approx([time + channel * APART for time in TIMES], abs=SYNC), name


def test_channels_without_places(tmp_path: Path) -> None:
    """Two are left and right, six are taken as 5.1 with a word, sixteen are left out of .mp4 with a word and copied."""
    two, notes = edited(write_clip(tmp_path / "2.avi", rate=44100), ".mp4")
    assert [*tones(two)] == ["FL", "FR"] and "taken" not in notes[0]
    six, notes = edited(write_clip(tmp_path / "6.mkv", layouts=("5.1",)), ".mp4")
    assert [*tones(six)] == ["FL", "FR", "FC", "LFE", "BL", "BR"]
    assert "6 channels without names are taken as" in notes[0]
    many = write_clip(tmp_path / "16.mov", layouts=("16C",))
    none, notes = edited(many, ".mp4")
    assert flashes(none)[0] and "left out" in notes[0] and ".mp4" in notes[0]
    assert edited(many, ".mkv")[1] == ("audio (pcm_s16le) copied",)


def test_rates_that_the_codec_does_not_have(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mov", "pcm_s24le", rate=192000)
    output, (note,) = edited(source, ".mp4")
    assert_heard(output, TIMES)
    assert "192000 Hz made 96000" in note


def test_all_sounds_are_kept(tmp_path: Path) -> None:
    """With their languages; none of them shifts the others."""
    source = write_clip(tmp_path / "a.mkv", "libopus", layouts=("stereo", "mono", "stereo"))
    for suffix, word in ((".mp4", "encoded anew as AAC"), (".mkv", "copied")):
        output, notes = edited(source, suffix)
        assert [note.split(" (")[0] for note in notes] == ["audio 1", "audio 2", "audio 3"]
        assert all(word in note for note in notes)
        for track in range(3):
            assert_heard(output, TIMES, track)


def test_a_plan_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the model runs, and not again when the clip is written, which opens the source and two files."""
    from instructx_core.media.sound import plan

    tried, copying_fails = list[str](), plan._copying_fails

    def counted(audio: AudioSource, track: SoundTrack, suffix: str) -> str:
        tried.append(suffix)
        return copying_fails(audio, track, suffix)

    monkeypatch.setattr(plan, "_copying_fails", counted)
    media = read_media(write_clip(tmp_path / "a.mov"))
    plan.plan_sound(media.audio, ".mov")[1].append("of the caller")
    notes = write_video(tmp_path / "b.mov", media.frames_FHWC, RATE, audio=media.audio, preset="ultrafast")
    assert tried == [".mov"] and notes == ("audio (pcm_s16le) copied",)
    plan.plan_sound(media.audio, ".mkv")
    assert tried == [".mov", ".mkv"]


def test_what_can_be_copied() -> None:
    """Matroska takes all that it can hold, DTS too; nothing else is said to be impossible than what is."""
    known = {av.codec.Codec(name, "r").canonical_name for name in ("dca", "truehd", "opus", "vorbis", "mp2", "wavpack")}
    assert known == {"dts", "truehd", "opus", "vorbis", "mp2", "wavpack"}
    assert not [name for name in known if why_not_copied(track(name), ".mkv")]
    assert "few players know it in .mp4" in why_not_copied(track("opus"), ".mp4")
    assert "no standard for it in .mov" in why_not_copied(track("vorbis"), ".mov")
    assert not [name for name in ("pcm_s16be", "pcm_f32le", "alac", "eac3") if why_not_copied(track(name), ".mov")]
    assert why_not_copied(track("aac", damaged=1), ".mp4") == "it is damaged"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_sound_without_a_decoder_is_left_out(tmp_path: Path, suffix: str) -> None:
    """As in films of new telephones, whose first sound is spatial; the second one is kept."""
    source = write_clip(tmp_path / "a.mov", layouts=("stereo", "mono"))
    data = source.read_bytes()
    source.write_bytes(data.replace(b"sowt", b"apac", 1))
    output, notes = edited(source, suffix)
    assert notes[0] == "audio 1 left out: this FFmpeg knows no decoder for it" and notes[1].startswith("audio 2 (pcm")
    assert_heard(output, TIMES)
    source.write_bytes(data.replace(b"sowt", b"apac"))
    output, notes = edited(source, suffix)
    assert len(notes) == 2 and all("left out" in note for note in notes)
    assert flashes(output)[0] == pytest.approx(TIMES, abs=0.01)


def test_pictures_without_a_decoder_are_no_damage(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mov")
    data = source.read_bytes()
    assert b"mp4v" in data and b"\x20\x11" in data[data.index(b"esds") :], "named twice: by the box, by a number in it"
    source.write_bytes(data.replace(b"mp4v", b"xyzw").replace(b"\x20\x11", b"\xfd\x11"))
    with pytest.raises(InputError, match=r"a\.mov: this FFmpeg has no decoder for its pictures; export it as H\.264"):
        read_media(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mp2"), ("a.mov", "aac"), ("a.mkv", "flac")])
def test_bad_packets_are_silent(tmp_path: Path, name: str, codec: str, suffix: str) -> None:
    """Some in the middle: what follows stays in place, and it is said; all: the pictures are written without."""
    source = write_clip(tmp_path / name, codec)
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        spoiled = [bytes(packet) for packet in packets if 0.6 < packet.pts * packet.time_base < 0.8]
        every = [bytes(packet) for packet in packets]
    data = source.read_bytes()
    for payload in spoiled:
        data = data.replace(payload, b"\xff" * len(payload))
    source.write_bytes(data)
    output, notes = edited(source, suffix)
    assert_heard(output, TIMES)
    assert re.search(r"\d+ packets? cannot be decoded, the first at 0\.[56]\d s", notes[0])
    assert "encoded anew" in notes[1]
    for payload in every:
        data = data.replace(payload, b"\xff" * len(payload))
    source.write_bytes(data)
    output, notes = edited(source, suffix)
    assert flashes(output)[0] == pytest.approx(TIMES, abs=0.01)
    assert notes == (f"audio ({codec}) left out: none of it can be heard",)


def test_two_sounds_at_one_time_are_said(tmp_path: Path) -> None:
    """A packet that has the time of another: one of the two cannot be heard."""
    source, wrong = write_clip(tmp_path / "a.mkv", "mp2"), tmp_path / "b.mkv"
    with av.open(str(source)) as container, av.open(str(wrong), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in container.streams]
        packets = [packet for packet in container.demux() if packet.size]
        for packet in packets:
            if packet.stream.type == "audio" and 0.5 < packet.pts * packet.time_base < 0.52:
                packet.pts = packet.dts = packet.pts + round(0.1 / packet.time_base)
        for packet in sorted(packets, key=lambda packet: packet.dts):
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    output, notes = edited(wrong, ".mp4")
    assert "audio (mp2): 0.02 s have the time of other sound; one of the two is heard" in notes
    assert_heard(output, TIMES)
    assert not any("have the time of" in note for note in edited(source, ".mp4")[1])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("rate", "layout"), [(48000, "mono"), (32000, "stereo"), (44100, "mono")])
def test_a_set_up_that_changes(tmp_path: Path, rate: int, layout: str, suffix: str) -> None:
    """Two broadcasts one after the other: one set-up that holds both, in sync before and after."""
    first = write_clip(tmp_path / "1.ts", "mp2")
    second = write_clip(tmp_path / "2.ts", "mp2", rate=rate, layouts=(layout,), sound_at=1.72, pictures_at=1.72)
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    output, notes = edited(both, suffix)
    have, (white, _) = next(iter(tones(output).values())), flashes(output)
    assert have == pytest.approx(white, abs=0.03) and len(white) == 4
    assert any("48000 Hz stereo then" in note or "few players" in note for note in notes)
    with av.open(str(output)) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.layout.name) == (48000, "stereo")


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from instructx_core.errors import InputError
from instructx_core.media.files import read_media, write_video
media = read_media(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    write_video(sys.argv[2], media.frames_FHWC, media.fps, audio=media.audio)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk_is_not_taken_for_a_bad_sound(tmp_path: Path) -> None:
    """Where it is the sound that does not fit, the file is refused, not written with half of it."""
    source, output = write_clip(tmp_path / "a.mov", layouts=("5.1",)), tmp_path / "b.mov"
    assert source.stat().st_size > 600_000
    done = subprocess.run([sys.executable, "-c", FULL, str(source), str(output)], capture_output=True, text=True)
    assert "b.mov: cannot be written" in done.stdout and not output.exists(), done.stdout + done.stderr
