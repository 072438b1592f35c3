"""Tests mirror the rooms: who looks for the tests of `formats/layouts` finds them in `tests/formats/layouts`."""

from __future__ import annotations

from pathlib import Path

from sources import ROOT, SOURCES

TESTS = ROOT / "tests"

# Rooms without tests under their own name, and where they are tested.
ELSEWHERE = {
    "__init__": "test_imports.py",
    "__main__": "commands",
    "cli": "commands",
    "connector": "encoder",
    "errors": "commands/test_bad_input.py",
    "fields": "editing/test_request.py",
    "formats/forms": "formats/test_convert.py",
    "nodes/parts": "nodes",
    "pages": "evaluation/study/test_form.py",
    "version": "commands/test_cli.py",
}
# Folders and files of tests that are about more than one room.
ACROSS = {
    "comfyui": "the pack on a real host",
    "golden": "recorded numbers",
    "reliability": "what breaks, interrupts and runs twice",
    "support": "helpers of the tests",
    "test_benchmarks": "benchmarks/",
    "test_compile": "torch.compile",
    "test_file_names": "docstrings and documents",
    "test_imported_names": "what is imported is there",
    "test_imports": "who imports whom",
    "test_locales": "locales/, web/",
    "test_mirror": "this file",
    "test_one_way": "imports without circles",
    "test_parity_docs": "docs/parity.md",
    "test_parity_edits": "Kiwi-Edit's own numbers of whole edits",
    "test_parity_kiwi": "Kiwi-Edit's own numbers",
    "test_readme": "README.md",
    "test_shipped": "the shipped model",
    "test_sizes": "bytes of a clone and of the node pack",
    "test_style": "what a parser checks of every file",
    "test_workflows": "workflows/, scripts/",
}


def rooms() -> set[str]:
    return {source.room for source in SOURCES.values()}


def has_tests(room: str) -> bool:
    folder = TESTS / room
    return any(folder.rglob("test_*.py")) or (TESTS / Path(room).parent / f"test_{Path(room).name}.py").is_file()


def test_every_room_has_tests_under_its_name() -> None:
    missing = sorted(room for room in rooms() - ELSEWHERE.keys() if not has_tests(room))
    assert not missing, f"no tests/ROOM/ and no tests/test_ROOM.py for: {', '.join(missing)}"
    assert not [room for room in ELSEWHERE if room not in rooms() or not (TESTS / ELSEWHERE[room]).exists()]


def test_every_folder_and_file_of_tests_is_of_a_room() -> None:
    found = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.iterdir())}
    found |= {path.stem for path in TESTS.glob("test_*.py")}
    top = {room.split("/")[0] for room in rooms()}
    names = top | {f"test_{room}" for room in top} | ACROSS.keys() | {"__pycache__"}
    assert not found - names, f"of which room? {', '.join(sorted(found - names))}"
    assert not ACROSS.keys() - found, "entries of ACROSS without tests"


def test_folders_below_a_room_are_folders_of_the_room() -> None:
    for folder in sorted(path.parent for path in TESTS.glob("*/*/test_*.py")):
        room = folder.relative_to(TESTS).as_posix()
        if room.split("/")[0] not in ACROSS:
            assert (ROOT / "instructx_core" / room).is_dir(), f"tests/{room} mirrors nothing"
