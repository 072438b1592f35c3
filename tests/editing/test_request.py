"""An edit as it is asked for: refusals, a key that follows content, one form for library, jobs and CLI."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from instructx_core.editing.edit import edit_file
from instructx_core.editing.options import option_types, read_request
from instructx_core.editing.paste import KeepOutside
from instructx_core.editing.request import PLACES, EditOptions, EditRequest
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.errors import InputError
from instructx_core.fields import field_types


def request(**change: Any) -> EditRequest:
    return EditRequest(**{"source": Path("in.png"), "instruction": "x", "output": Path("out.png"), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": " \n"}, "instruction is empty"),
        ({"instruction": "a\ud800"}, "half a character"),
        ({"instruction": "\u200b."}, "no letter and no digit"),
        ({"seed": -1}, r"seed is -1; it must lie between 0 and 2\^63 - 1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"steps": 0}, "steps is 0; use at least 1"),
        ({"max_pixels": 0}, "the size is 0 pixels"),
        ({"max_frames": 0}, "max_frames is 0; use at least 1"),
        ({"windows": WindowOptions(), "max_frames": 5}, "both given"),
    ],
)
def test_what_no_file_could_make_right_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(**change)


def test_wrong_groups() -> None:
    with pytest.raises(InputError, match="feather is -1"):
        KeepOutside(feather=-1)
    with pytest.raises(InputError, match="context is 'all'; use one of window, first"):
        WindowOptions(context="all")
    with pytest.raises(InputError, match="joins is 'none'; use one of smooth, plain"):
        WindowOptions(joins="none")
    with pytest.raises(InputError, match="a window of 9 frames and 5 s; give one of the two"):
        WindowOptions(frames=9, seconds=5)

    for change, message in (
        ({"frames": 0}, "a window of 0 frames; use at least 1"),
        ({"seconds": -1.0}, "a window of -1 s; use more than 0"),
        ({"overlap": 0}, "an overlap of 0 frames; use at least 1"),
        ({"edit_fps": 0.0}, "edit_fps is 0; use more than 0, e.g. 16, or leave it out"),
    ):
        with pytest.raises(InputError, match=message):
            WindowOptions(**change)


GIVEN: dict[type, dict[str, Any]] = {
    EditRequest: {"source": Path("in.png"), "instruction": "x", "output": Path("out.png")},
    KeepOutside: {},
    WindowOptions: {},
}
FIELDS = [(kind, field.name) for kind in GIVEN for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_another_type_is_refused_in_every_field(kind: type, name: str) -> None:
    """Of any field: a number is no text, a text no number, True no number, and nothing is iterated letter by letter."""
    taken = field_types(kind)[name]
    values = ("4", b"4", 4, 1.5, Path("4"), [4], ["4"], {"4": 4}, None, WindowOptions(), KeepOutside())
    others = [value for value in values if not isinstance(value, taken)]
    others += [("4",)] + ([] if bool in taken else [True])  # of a tuple of paths each is looked at
    for value in others:
        with pytest.raises(InputError, match=rf"\b(instruction|reference|{name})\b.* (is|of type) "):
            kind(**{**GIVEN[kind], name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_numbers_are_finite(value: float) -> None:
    for make, name in ((request, "guidance"), (WindowOptions, "seconds")):
        with pytest.raises(InputError, match=f"{name} is .*, not a finite number; see "):
            make(**{name: value})
    with pytest.raises(InputError, match=r"guidance is .*, not a finite number; see instructx edit --help"):
        read_request({**LINE, "guidance": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": "a.png"}, "references is 'a.png', a str; give a list of paths"),
        ({"references": b"a.png"}, "references is b'a.png', a bytes; give a list of paths"),
        ({"references": Path("a.png")}, "a [A-Za-z]*Path; give a list of paths"),
        ({"references": [3]}, "a reference is 3, a int; give the path of a file"),
        ({"source": None}, "source is None, a NoneType; give the path of a file"),
        ({"output": 3}, "output is 3, a int; give the path of a file"),
        ({"steps": "4"}, "steps is '4', a str, not int or None; see EditRequest"),
        ({"seed": 1.5}, "seed is 1.5, a float, not int; see EditRequest"),
        ({"keep_outside": "auto"}, "keep_outside is 'auto', a str, not KeepOutside or None"),
        ({"windows": "5s"}, "windows is '5s', a str, not WindowOptions or None"),
    ],
)
def test_edit_file_refuses_other_types(change: dict[str, Any], message: str) -> None:
    """Before it asks anything of the model or of a file."""
    with pytest.raises(InputError, match=message):
        edit_file(None, **{"source": "in.png", "instruction": "x", "output": "out.png", **change})  # type: ignore[arg-type]


def test_keywords_of_edit_file_are_the_options() -> None:
    fields = {name: hint for name, hint in get_type_hints(EditRequest).items() if name not in PLACES}
    assert get_type_hints(EditOptions) == fields


def test_the_key_follows_content(tmp_path: Path) -> None:
    for name in ("in.png", "same.png", "mask.png", "cup.png"):
        (tmp_path / name).write_bytes(b"mask" if name == "mask.png" else b"picture")
    plain = request(source=tmp_path / "in.png", output=tmp_path / "out.png")
    keep = KeepOutside(tmp_path / "mask.png")
    windows = WindowOptions(overlap=2)
    others = [
        dataclasses.replace(plain, output=tmp_path / "out.jpg"),
        dataclasses.replace(plain, instruction="y"),
        dataclasses.replace(plain, references=(tmp_path / "cup.png",)),
        dataclasses.replace(plain, steps=3),
        dataclasses.replace(plain, guidance=2.0),
        dataclasses.replace(plain, seed=1),
        dataclasses.replace(plain, max_pixels=64),
        dataclasses.replace(plain, max_frames=9),
        dataclasses.replace(plain, partial=True),
        dataclasses.replace(plain, need_sound=True),
        dataclasses.replace(plain, keep_outside=keep),
        dataclasses.replace(plain, keep_outside=KeepOutside(feather=2)),
        dataclasses.replace(plain, windows=windows),
    ]
    keys = [each.content_key("model") for each in (plain, *others)]
    assert len(set(keys)) == len(keys) and plain.content_key("other") not in keys
    moved = dataclasses.replace(plain, source=tmp_path / "same.png", output=tmp_path / "elsewhere.png")
    assert moved.content_key("model") == keys[0], "names do not count"
    restarted = dataclasses.replace(plain, windows=dataclasses.replace(windows, restart=True))
    assert restarted.content_key("model") == keys[-1], "a restart makes the same result"
    (tmp_path / "mask.png").write_bytes(b"changed")
    assert others[10].content_key("model") != keys[11]
    (tmp_path / "in.png").unlink()
    with pytest.raises(InputError, match="no such file"):
        plain.content_key("model")


LINE = {"input": "in.mp4", "instruction": "x", "output": "out.mp4"}


def test_every_option_has_a_plain_form() -> None:
    """Each field of the request and of its groups is an option, or written by one of the three forms."""
    assert option_types() == {
        "steps": (int,), "guidance": (int, float), "seed": (int,), "max_frames": (int,), "partial": (bool,),
        "feather": (int,), "overlap": (int,), "context": (str,), "match_colour": (bool,), "joins": (str,),
        "restart": (bool,), "need_sound": (bool,), "edit_fps": (int, float), "size": (str,), "window": (str,),
        "keep_outside": (str,),
    }  # fmt: skip


def test_plain_values_make_the_request() -> None:
    values = {
        **LINE, "reference": ["cup.png", "/abs/hat.png"], "steps": 3, "guidance": 2, "seed": 7, "size": "64x48",
        "partial": True, "keep_outside": "mask.png", "feather": 4, "window": "5s", "overlap": 2, "context": "first",
        "match_colour": True, "joins": "plain", "edit_fps": 16, "restart": True,
    }  # fmt: skip
    assert read_request(values, Path("lists")) == EditRequest(
        source=Path("lists/in.mp4"),
        instruction="x",
        output=Path("lists/out.mp4"),
        references=(Path("lists/cup.png"), Path("/abs/hat.png")),
        steps=3,
        guidance=2,
        seed=7,
        max_pixels=64 * 48,
        partial=True,
        keep_outside=KeepOutside(Path("lists/mask.png"), 4),
        windows=WindowOptions(
            seconds=5.0, overlap=2, context="first", match_colour=True, joins="plain", edit_fps=16, restart=True
        ),
    )
    assert read_request(LINE) == request(source=Path("in.mp4"), output=Path("out.mp4"))
    assert read_request({**LINE, "reference": "cup.png"}).references == (Path("cup.png"),)
    assert read_request({**LINE, "keep_outside": "auto"}).keep_outside == KeepOutside()
    assert read_request({**LINE, "window": "81"}).windows == WindowOptions(frames=81)
    assert read_request({**LINE, "match_colour": True}).windows == WindowOptions(match_colour=True)
    assert read_request({**LINE, "match_colour": False}).windows is None, "a switch that is off asks for nothing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": 3}, "input is 3; it must be a string"),
        ({"input": ""}, "^input is empty; give the path of a file"),
        ({"output": ""}, "^output is empty; give the path of a file"),
        ({"reference": ["a.png", ""]}, "^reference is empty; give the path of a file"),
        ({"keep_outside": ""}, "^keep_outside is empty; give the path of a file"),
        ({"instruction": None}, "instruction is None; it must be a string"),
        ({"reference": [1]}, r"reference is \[1\]; give a path or a list of paths"),
        ({"colour": 1}, "colour is no option of a job; use steps, guidance"),
        ({"steps": "two"}, "steps is 'two', a str, not int"),
        ({"steps": True}, "steps is True, a bool, not int"),
        ({"guidance": "2"}, "guidance is '2', a str, not int or float"),
        ({"partial": 1}, "partial is 1, a int, not bool"),
        ({"size": "8x"}, "--size '8x' is not a size"),
        ({"size": "0x8"}, "--size '0x8' is not a size"),
        ({"window": "5m"}, "--window '5m' is no length"),
        ({"feather": 3}, "--feather needs --keep-outside"),
        ({"context": "all"}, "context is 'all'"),
        ({"window": "9", "max_frames": 9}, "both given"),
    ],
)
def test_wrong_plain_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_request({**LINE, **change})
