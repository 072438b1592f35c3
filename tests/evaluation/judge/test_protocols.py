"""How each benchmark's judge is asked: the paper's prompts to the letter, others' out of a checkout made by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.benchmarks.known import BENCHMARKS, protocol_of
from instructx_core.evaluation.judge.pictures import ShownPicture, Viewing, uniform
from instructx_core.evaluation.judge.replies import Unreadable
from instructx_core.evaluation.judge.run import JudgeCase
from instructx_core.evaluation.judge.vie import prompt
from instructx_core.media.files import write_image, write_video

ASKED = "A number from 1 to 5."
LINES = f"Prompt Compliance: {ASKED}\nVisual & Temporal {{0}}: {ASKED}\n**Detail**: {ASKED}"


def write_checkout(folder: Path) -> Path:
    (folder / "GEdit-Bench" / "viescore").mkdir(parents=True)
    (folder / "GEdit-Bench" / "viescore" / "vie_prompts.py").write_text(
        '_context_no_delimit = """CONTEXT"""\n_prompts_0shot_two_image_edit_rule = "RULE"\n'
        '_prompts_0shot_tie_rule_SC = "SC <instruction>"\n_prompts_0shot_rule_PQ = "PQ"\nraise SystemExit(3)\n'
    )
    (folder / "prompts.json").write_text(json.dumps({"add": f"ADD <edit_prompt>\n{LINES.format('Naturalness')}"}))
    kinds = ["Global_Style", "Background_Change", "Local_Change", "Local_Remove", "Local_Add"]
    kinds += ["Subtitle_Edit", "Creative_Edit", "Camera_Edit"]
    text = "".join(f'{kind} = """{kind} <edit_prompt>\n{LINES.format(kind)}"""\n' for kind in kinds)
    (folder / "qwen3vl_benchmark.py").write_text(f" # a space before the first line, as theirs\n{text}")
    text = "".join(
        f'{kind}_REFERENCE_PROMPT = """{kind} {{prompt}}\n{LINES.format(kind)}"""\n'
        for kind in ("SUBJECT", "BACKGROUND")
    )
    (folder / "eval_refvie_gemini.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkout(tmp_path_factory.mktemp("protocols"))
    write_video(folder / "before.mp4", np.zeros((9, 32, 48, 3), np.uint8), 10)
    write_video(folder / "after.mp4", np.full((5, 32, 48, 3), 255, np.uint8), 10)
    write_image(folder / "before.png", np.zeros((30, 40, 3), np.uint8))
    write_image(folder / "after.png", np.full((60, 90, 3), 255, np.uint8))
    return folder


def asked(name: str, task: str, media: Path, modality: Any, reference: bool = False, **viewing: Any) -> Any:
    end = "png" if modality == "image" else "mp4"
    picture = Locator("before.png") if reference else None
    item = EditRecord("a", task, modality, "do it", Locator(f"before.{end}"), reference=picture)
    benchmark = BENCHMARKS[name]
    view = Viewing(**viewing) if viewing else benchmark.viewing
    return protocol_of(name, media).questions(JudgeCase(item, "ours", media / f"after.{end}", media), view)


def shown(question: Any) -> list[tuple[str, tuple[int, int]]]:
    return [(part.label, part.size) for part in question.parts if isinstance(part, ShownPicture)]


def test_the_papers_prompts_are_the_papers() -> None:
    """Checked against Figures 20 and 21 word for word when they were written down; here that nothing changed since."""
    digests = [hashlib.sha256(" ".join(prompt(reference).split()).encode()).hexdigest() for reference in (False, True)]
    assert digests == DIGESTS


def test_vie_and_its_reference(media: Path) -> None:
    (question,) = asked("vie", "reference_add", media, "video", reference=True, frames=2)
    assert question.system == prompt(True) and question.parts[0] == "The user's instruction: do it"
    assert [label for label, _ in shown(question)] == [
        "The reference image",
        "The original video (first video) frame 1/2",
        "The original video (first video) frame 2/2",
        "The edited video (second video) frame 1/2",
        "The edited video (second video) frame 2/2",
    ]


def test_gedit(media: Path) -> None:
    semantics, quality = asked("gedit", "subject-add", media, "image")
    assert semantics.parts[0] == "CONTEXT\nRULE\nSC do it" and quality.parts[0] == "CONTEXT\nPQ"
    assert shown(semantics) == [("", (30, 40)), ("", (30, 40))], "the edited one at the source's size"
    assert shown(quality) == [("", (30, 40))] and semantics.system is None
    answers = [semantics.read('{"score": [8, 6]}')[0], quality.read('{"score": [5, 9]}')[0]]
    assert protocol_of("gedit", media).combine(answers) == {"semantics": 6.0, "quality": 5.0}


def test_imgedit(media: Path) -> None:
    (question,) = asked("imgedit", "add", media, "image")
    assert question.parts[0].startswith("ADD do it\n") and shown(question) == [("", (30, 40)), ("", (60, 90))]
    reply = "Brief reasoning: fine\nPrompt Compliance: 5\nVisual & Temporal Naturalness: 4\nDetail: 3"
    assert question.read(reply) == ({"Prompt Compliance": 5, "Visual & Temporal Naturalness": 4, "Detail": 3}, "fine")
    with pytest.raises(Unreadable):
        question.read("Prompt Compliance: 5")
    with pytest.raises(InputError, match="no prompt for 'remove'; there are add"):
        asked("imgedit", "remove", media, "image")


@pytest.mark.parametrize("video", ["frames", "native"])
def test_openve(media: Path, video: str) -> None:
    (question,) = asked("openve", "camera_edit", media, "video", video=video, frames=2)
    assert question.parts[0].startswith("Camera_Edit do it") and question.system is None
    labels = [
        "Before editing: frame 1/2",
        "Before editing: frame 2/2",
        "After editing: frame 1/2",
        "After editing: frame 2/2",
    ]
    assert [label for label, _ in shown(question)] == (labels if video == "frames" else ["", ""])


def test_refvie(media: Path) -> None:
    (question,) = asked("refvie", "subject", media, "video", reference=True, video="native")
    assert question.system is not None and question.system.startswith("SUBJECT do it")
    assert [part.mime for part in question.parts] == ["image/png", "video/mp4", "video/mp4"]
    with pytest.raises(InputError, match="has no reference picture"):
        asked("refvie", "subject", media, "video")


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("gedit", "vie_prompts.py", "x = 1", "has no text _context_no_delimit"),
        ("gedit", "vie_prompts.py", "x = ", "cannot be read as Python"),
        ("imgedit", "prompts.json", "[1]", "is no object of texts"),
        ("imgedit", "prompts.json", '{"add": "Rate it."}', "the prompt of add: asks for 0 scores"),
        ("openve", "qwen3vl_benchmark.py", 'Global_Style = "x"', "has no text Background_Change"),
        ("refvie", "other.py", "", "no eval_refvie_gemini.py in it; give --prompts a checkout of showlab/Kiwi-Edit"),
    ],
)
def test_another_checkout(name: str, file: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError) as caught:
        protocol_of(name, tmp_path)
    assert said in str(caught.value)


def test_prompts_that_were_not_given() -> None:
    with pytest.raises(InputError, match="give --prompts a checkout of PKU-YuanGroup/ImgEdit"):
        protocol_of("imgedit", None)
    protocol_of("vie", None)


def test_frames_are_uniform() -> None:
    assert uniform(81, 8)[0] == 0 and uniform(81, 8)[-1] == 80
    assert uniform(3, 8) == [0, 1, 2] and uniform(5, 1) == [0] and uniform(17, 5) == [0, 4, 8, 12, 16]


DIGESTS = [
    "6311b9d33c62a23faf3a8a6f96058abb2ede2750093b2698b284f94cc1d076ee",
    "6909c95cdf86e0c3acc7b12aef6bd5000a2e36076a630fa259916b15ba923348",
]
