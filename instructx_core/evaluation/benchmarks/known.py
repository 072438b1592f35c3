"""Every benchmark by its name: what reads it, where its authors' scripts look for outputs, and who judges it how.

A new benchmark is an adapter beside this file and a line of BENCHMARKS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...data.record import EditRecord
from ...errors import InputError
from ..judge.by_lines import ImgEdit, OpenVE, RefVIE
from ..judge.gedit import GEdit
from ..judge.pictures import Viewing
from ..judge.question import JudgeProtocol
from ..judge.vie import Vie
from .gedit import gedit_layout, read_gedit
from .imgedit import imgedit_layout, read_imgedit
from .openve import openve_layout, read_openve, read_refvie, refvie_layout
from .reading import Download
from .vie import read_vie, vie_layout

IMGEDIT = "PKU-YuanGroup/ImgEdit"
PICTURES = Viewing(side=None)  # as they are, which is what the authors' scripts send


@dataclass(frozen=True, slots=True)
class KnownBenchmark:
    """layout: an item -> where its output lies below a folder of one editor. prompts: the repository that holds the
    judge's prompts, None where they are the paper's and ship with this package."""

    title: str
    read: Callable[[Download], list[EditRecord]]
    layout: Callable[[EditRecord], str]
    protocol: Callable[[Path], JudgeProtocol]
    prompts: str | None
    viewing: Viewing = field(default_factory=Viewing)


BENCHMARKS = {
    "vie": KnownBenchmark("VIE-Bench", read_vie, vie_layout, lambda _: Vie(), None),
    "gedit": KnownBenchmark("GEdit-Bench", read_gedit, gedit_layout, GEdit, "stepfun-ai/Step1X-Edit", PICTURES),
    "imgedit": KnownBenchmark(
        "ImgEdit-Bench", read_imgedit, imgedit_layout, ImgEdit, "PKU-YuanGroup/ImgEdit", PICTURES
    ),
    "openve": KnownBenchmark("OpenVE-Bench", read_openve, openve_layout, OpenVE, "OpenVE-Team/OpenVE-3M"),
    "refvie": KnownBenchmark("RefVIE-Bench", read_refvie, refvie_layout, RefVIE, "showlab/Kiwi-Edit"),
}


def benchmark_named(name: str) -> KnownBenchmark:
    """Raises InputError for a name that is none."""
    if name == "box":  # drawn, and otherwise as VIE-Bench
        return BENCHMARKS["vie"]
    if name not in BENCHMARKS:
        raise InputError(f"benchmark {name!r} is unknown; use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def protocol_of(name: str, prompts: Path | None) -> JudgeProtocol:
    """How its judge is asked. Raises InputError where its prompts are needed and were not given."""
    benchmark = benchmark_named(name)
    if benchmark.prompts is not None and prompts is None:
        raise InputError(
            f"{benchmark.title} is judged by its authors' prompts; give --prompts a checkout of {benchmark.prompts}"
        )
    return benchmark.protocol(prompts or Path())
