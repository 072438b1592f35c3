"""Whether a sound is copied or encoded anew, and into what: by what the output's container can hold and players know.

Between tracks.py and feed.py. A plan is tried on a file in memory before it is told, so that nothing fails once the
pictures are edited.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import av
import av.codec
import av.error

from ..clip.container import open_container
from ..clip.known import CONTAINERS
from .layout import is_usual, native, places, usual_layout
from .packets import Encoding, copy_packets, new_stream
from .source import AudioSource, SoundSetup, SoundTrack
from .timeline import Target, silence

# Kinds of codecs that players know in a container; in Matroska all that it can hold.
KNOWN: dict[str, tuple[str, ...]] = {
    ".mp4": ("aac", "mp3", "ac3", "eac3", "alac"),
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_"),
}
LOSSLESS = {".mov": "pcm", ".mkv": "flac"}  # what a sound without loss is encoded to; all else becomes AAC
SAMPLES = {"u8": "s16", "s16": "s16", "s32": "s32", "s64": "s32", "flt": "flt", "dbl": "flt"}
PCM = {"s16": "pcm_s16le", "s32": "pcm_s32le", "flt": "pcm_f32le"}
BITS, BITS_A_CHANNEL = 128_000, 64_000  # of AAC, a second: at least, and for each channel
TRIAL_PACKETS = 40  # packets that are copied to see whether the container takes them


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one sound. encoding: None to copy it. note: says it."""

    track: SoundTrack
    encoding: Encoding | None
    note: str


def plan_sound(audio: AudioSource | None, suffix: str) -> tuple[list[Plan], list[str]]:
    """What becomes of each sound in a file of this suffix: plans, and a note on each that has none."""
    if audio is None:
        return [], []
    if suffix not in audio.planned:
        audio.planned[suffix] = _plan(audio, suffix)
    plans, notes = audio.planned[suffix]
    return [*plans], [*notes]


def _plan(audio: AudioSource, suffix: str) -> tuple[list[Plan], list[str]]:
    plans, notes = list[Plan](), list[str]()
    for track in audio.tracks:
        reason = why_not_copied(track, suffix) or _copying_fails(audio, track, suffix)
        plan = _encode(track, suffix, reason) if reason else Plan(track, None, f"{track.name} copied")
        if plan is None:
            notes.append(f"{track.name} left out: {reason}, and it cannot be encoded for it either")
        else:
            plans.append(plan)
    return plans, notes


def why_not_copied(track: SoundTrack, suffix: str) -> str:
    """Why the packets cannot go into the file as they are, by all that is known of them; "" where they may."""
    channels = track.setups[0].channels
    if track.codec not in container_codecs(suffix):
        return f"there is no standard for it in {suffix}"
    if not track.codec.startswith(KNOWN.get(suffix, ("",))):
        return f"few players know it in {suffix}"
    if len(track.setups) > 1:
        return "it changes in the middle, " + " then ".join(map(str, track.setups))
    if track.damaged:
        return "it is damaged"
    if not track.ordered:
        return "its packets have no usable times"
    if suffix == ".mkv" and track.codec.startswith("pcm_") and places(channels) != places(("",) * len(channels)):
        return ".mkv cannot say which of its channels is which"
    return ""


@lru_cache
def container_codecs(suffix: str) -> frozenset[str]:
    """Kinds of codecs that FFmpeg puts into such a file."""
    with av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as out:
        names = out.supported_codecs
    return frozenset(kind for name in names if (kind := _kind(name)))


def _kind(name: str) -> str:
    for mode in ("r", "w"):
        try:
            return av.codec.Codec(name, mode).canonical_name
        except ValueError:  # this PyAV reads it only, or writes it only
            continue
    return ""


def _copying_fails(audio: AudioSource, track: SoundTrack, suffix: str) -> str:
    """Copies the first packets into a file in memory; why that fails, "" where it does not."""
    try:
        with open_container(audio.path) as source, av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as out:
            stream = source.streams[track.stream]
            target = new_stream(out, stream, track, None)
            for _, packets in islice(
                copy_packets(source, stream, target, audio.video_start, float("inf")), TRIAL_PACKETS
            ):
                out.mux(packets)
    except (av.error.FFmpegError, ValueError) as error:
        return f"{suffix} cannot hold it as it is ({getattr(error, 'strerror', None) or error})"
    return ""


def _encode(track: SoundTrack, suffix: str, reason: str) -> Plan | None:
    """The plan to encode it; None where no encoder takes it."""
    for codec in dict.fromkeys((LOSSLESS.get(suffix, "aac") if track.lossless else "aac", "aac")):
        encoding = _encoding(track.setups, codec)
        if encoding is not None and _encoding_works(track, encoding, suffix):
            changes = "".join(f"; {text}" for text in _changes(track.setups, encoding.target))
            return Plan(track, encoding, f"{track.name} encoded anew as {codec.upper()}: {reason}{changes}")
    return None


def _encoding(setups: tuple[SoundSetup, ...], codec: str) -> Encoding | None:
    """One set-up that holds all: the highest rate, every loudspeaker; None where nobody can say which they are."""
    named = [places(setup.channels) for setup in setups]
    if not all(named):
        return None
    rate = max(setup.rate for setup in setups)
    layout, _ = usual_layout(_speakers(named))
    if codec == "aac":
        rates = av.codec.Codec("aac", "w").audio_rates or [48000]
        rate = max((r for r in rates if r <= rate), default=min(rates))
        channels = len(av.AudioLayout(layout).channels)
        return Encoding("aac", Target(rate, layout, "fltp"), max(BITS, BITS_A_CHANNEL * channels))
    if len(setups) == 1 and len(named[0]) <= 8:
        layout = setups[0].layout if is_usual(setups[0].layout) else native(named[0])
    samples = {SAMPLES[setup.sample.removesuffix("p")] for setup in setups}
    sample = "flt" if "flt" in samples else max(samples)
    if codec == "flac":
        return Encoding("flac", Target(rate, layout, "s16" if sample == "s16" else "s32"))
    return Encoding(PCM[sample], Target(rate, layout, sample))


def _speakers(named: Sequence[Sequence[str]]) -> set[str]:
    """All that is heard from anywhere; mono is heard from whatever there is."""
    wide = [names for names in named if len(names) > 1]
    return {name for names in wide or named for name in names}


def _encoding_works(track: SoundTrack, encoding: Encoding, suffix: str) -> bool:
    """Encodes a moment of silence into a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=CONTAINERS[suffix]) as out:
            stream = new_stream(out, None, track, encoding)
            for frame in (*silence(encoding.target, 0.25), None):
                out.mux(stream.encode(frame))
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _changes(setups: tuple[SoundSetup, ...], target: Target) -> list[str]:
    """What is not as it was, beside the codec."""
    changes = list[str]()
    for setup in setups:
        names = places(setup.channels)
        if names != setup.channels and len(names) > 2:
            changes.append(f"its {len(names)} channels without names are taken as {native(names)}")
        if setup.rate != target.rate:
            changes.append(f"{setup.rate} Hz made {target.rate}")
        if is_usual(setup.layout) and setup.layout != target.layout:
            whole = usual_layout(set(names))[1]
            changes.append(f"{setup.layout} {'put into' if whole else 'mixed down to'} {target.layout}")
    return changes
