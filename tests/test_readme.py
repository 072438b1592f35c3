"""Commands and names of README.md, docs/commands.md and docs/library.md exist: verbs, options, files, names."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

import instructx_core
from instructx_core.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
LIBRARY = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def _options(verb: str) -> set[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[verb][0], "instructx_core").add_arguments(parser)
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    actions = [*parser._actions, *(each for sub in below for part in sub.choices.values() for each in part._actions)]
    return {option for action in actions for option in action.option_strings}


def test_commands_exist() -> None:
    commands = re.findall(r"instructx (demo|edit|eval|train|info)\b([^\n|`]*)", README + COMMANDS)
    assert len(commands) > 10
    for verb, rest in commands:
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in _options(verb), f"instructx {verb} has no {option}"


def test_every_verb_is_listed() -> None:
    for verb in VERBS:
        assert f"`instructx {verb}" in COMMANDS


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 120, "what a newcomer needs; the rest is in docs/"


def test_ci_finds_the_test_line() -> None:
    block = README.split("<!-- test line -->")[1].split("<!-- end -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("python3 ")]
    assert len(lines) == 1 and lines[0].endswith("&& .venv/bin/pytest -n auto")


def test_public_names_of_the_library_snippet() -> None:
    for name in ("edit_file", "load_pipeline", "InstructXPipeline", "InstructXConfig", "preset", "InputError"):
        assert getattr(instructx_core, name) is not None
    for line in re.findall(r"^from instructx_core import (.+)$", LIBRARY, re.MULTILINE):
        assert all(hasattr(instructx_core, name.strip()) for name in line.split(","))
    with pytest.raises(AttributeError):
        _ = instructx_core.no_such_name


@pytest.mark.usefixtures("shipped")
def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
