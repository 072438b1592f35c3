"""What is measured on the procedural world: groups of samples, the rows of the table of targets, aims and floors.

Place: world (samples), photos -> groups -> world, which runs them. The rows and numbers are fixed before any model of
this world was trained. A group has one or more parts (sub-kinds that stand apart); a part's samples have numbers, and a
run with fewer samples takes the first ones of each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from ..world import Manner, Sample, Size
from ..world.benchmark import CLIPS, IMAGES, ZERO_SHOT, ZERO_SHOT_START, BenchmarkSet
from .photos import PhotoSet

USUAL = Manner(held_out=False)  # as training says it: English and Chinese, any case, some typos and fillers
PLAIN = Manner("en", False, "sentence", False, 0, False)
MANNERS = {"usual": USUAL, "plain": PLAIN, "test": Manner()}
NOOPS_START = 3_000_000  # number of the first, far from the balanced set
WORDS = {
    "held-out wordings": Manner("en", held_out=True),
    "upper case": Manner("en", case="upper"),
    "two typos": Manner("en", typos=2),
    "fillers": Manner("en", has_fillers=True),
}
LOCAL = ("add", "remove", "color", "swap")


@dataclass(frozen=True, slots=True)
class Part:
    """Samples under one name. modality says which count of the run they shrink with."""

    name: str
    samples: Sequence[Sample]
    modality: str = "image"


@dataclass(frozen=True, slots=True)
class Group:
    """name: for --groups; parts: at least one."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One line of the table. measure: how its figure comes from the groups it needs, see world.py."""

    title: str
    aim: float
    floor: float
    needs: tuple[str, ...]  # groups
    measure: str
    unit: str = "%"


ROWS = (
    TargetRow("images, mean of kinds", 95, 90, ("images",), "mean"),
    TargetRow("no kind of images below", 85, 75, ("images",), "lowest kind"),
    TargetRow("clips, mean of kinds", 92, 86, ("clips",), "mean"),
    TargetRow("with a reference", 90, 82, ("images", "clips"), "reference"),
    TargetRow("zero-shot style and segmentation on clips, lowest sub-kind", 80, 60, ("zero-shot",), "lowest sub-kind"),
    TargetRow("held-out wordings, any case, typos, fillers", 92, 85, ("words",), "mean"),
    TargetRow("Chinese", 90, 80, ("chinese",), "mean"),
    TargetRow("no-ops left alone", 95, 85, ("no-ops",), "mean"),
    TargetRow("96x96 and 128x128", 85, 70, ("sizes",), "mean"),
    TargetRow("real photos, tone and style, 128x128", 90, 75, ("photos",), "photos"),
    TargetRow("real photos as grounds: add, remove, recolour, swap", 80, 60, ("grounds",), "photos"),
    TargetRow("VAE round trip of real photos at 128x128", 28, 26, ("vae",), "psnr", "dB"),
)
GROUPS = tuple(dict.fromkeys(name for row in ROWS for name in row.needs))  # names, in the order of the table


@dataclass(frozen=True, slots=True)
class SampleLook:
    """How the groups that may look otherwise are drawn: those in PLASTIC; None is the group's own."""

    size: Size = (64, 64)
    finish: str | None = None
    manner: str | None = None  # one of MANNERS


PLASTIC = ("images", "clips", "zero-shot", "no-ops")


def build_groups(names: Sequence[str], look: SampleLook) -> dict[str, Group]:
    """The groups of those names but "vae", which has no edits. Raises InputError where the look can't be theirs."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown or not names:
        raise InputError(f"groups {', '.join(unknown) or '(none)'} are unknown; use some of {', '.join(GROUPS)}")
    if look.manner not in (None, *MANNERS):
        raise InputError(f"manner {look.manner!r} is unknown; use one of {', '.join(MANNERS)}")
    fixed = [name for name in names if name not in PLASTIC]
    if look != SampleLook() and fixed:
        raise InputError(
            f"size, finish and manner of {', '.join(fixed)} are fixed; choose --groups from {', '.join(PLASTIC)}"
        )
    return {name: Group(name, _parts(name, look)) for name in names if name != "vae"}


def _parts(name: str, look: SampleLook) -> tuple[Part, ...]:
    manner = MANNERS[look.manner or "usual"]
    drawn = BenchmarkSet("image", IMAGES, look.size, look.finish, manner)
    clips = replace(drawn, modality="video", count=CLIPS)
    some = replace(drawn, count=96)
    if name == "images":
        return (Part("images", drawn),)
    if name == "clips":
        return (Part("clips", clips, "video"),)
    if name == "zero-shot":
        return tuple(
            Part(task, replace(clips, count=count, task=task, start=ZERO_SHOT_START[task]), "video")
            for task, count in ZERO_SHOT.items()
        )
    if name == "words":  # the pictures of the first images, said otherwise
        return tuple(Part(how, replace(some, manner=wording)) for how, wording in WORDS.items())
    if name == "chinese":
        return (Part("chinese", replace(drawn, count=192, manner=Manner("zh"))),)
    if name == "no-ops":
        return (Part("no-ops", replace(drawn, count=150, task="noop", start=NOOPS_START)),)
    if name == "sizes":
        return tuple(Part(f"{side}x{side}", replace(some, size=(side, side))) for side in (96, 128))
    tasks = ("tone", "style") if name == "photos" else LOCAL
    return (Part(name, PhotoSet(tasks, 200, manner)),)
