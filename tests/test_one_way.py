"""Imports go one way, between files, folders and rooms: nothing is entered, left and entered again.

Which rooms a room may import is in test_imports.py.
"""

from __future__ import annotations

from sources import MODULES, SOURCES, Source, room_of


def circles(asks: dict[str, set[str]]) -> list[str]:
    """What is left when all is taken away, again and again, that asks for nothing that is still there."""
    left = dict(asks)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def place_of(source: Source) -> str:
    """The folder of a file; a file of the core beside its folders stands for itself."""
    folder = source.name.rpartition("/")[0]
    return source.name if folder == "instructx_core" else folder


def test_folders_go_one_way() -> None:
    """A folder below another one too: it lies above or below the files beside it, never among them."""
    asks: dict[str, set[str]] = {}
    for source in SOURCES.values():
        place = place_of(source)
        found = {place_of(MODULES[each.module]) for each in source.imports if each.module in MODULES}
        asks.setdefault(place, set()).update(found - {place})
    assert circles(asks) == []


def test_rooms_go_one_way() -> None:
    asks: dict[str, set[str]] = {}
    for source in SOURCES.values():
        found = {room_of(each.module) for each in source.imports if each.module in MODULES}
        asks.setdefault(source.room, set()).update(found - {source.room})
    assert circles(asks) == []


def test_no_files_import_each_other() -> None:
    """Imports of files go one way too, those inside of functions included: what two files share lies below both."""
    asks: dict[str, set[str]] = {}
    for module, source in MODULES.items():
        found = {imported.module for imported in source.imports if not imported.typing}
        asks[module] = {other for other in found if other in MODULES and not module.startswith(f"{other}.")} - {module}
    assert circles(asks) == []
