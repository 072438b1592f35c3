"""What nodes say of their run: English for HTTP clients and the log, the artist's language for the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.comfyui


def test_the_page_speaks_the_language_of_the_settings(
    pack: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    notes = pack("nodes.parts.notes")
    finished = [notes.note("finished", done=2)]
    english, chinese = finished[0].text(), finished[0].text("zh")
    settings = tmp_path / "default" / "comfy.settings.json"
    settings.parent.mkdir()
    for stored, page in (
        (None, english), ('{"Comfy.Locale": "zh"}', chinese), ('{"Comfy.Locale": "fr"}', english), ("[", english),
        ('{"Comfy.Locale": 3}', english), ("[]", english),
    ):  # fmt: skip
        if stored is not None:
            settings.write_text(stored, encoding="utf-8")
        assert notes.notes_ui("InstructXLongVideo", finished) == {
            "text": [english], "instructx_notes": [page], "instructx_node": ["InstructXLongVideo"],
        }, stored  # fmt: skip
    with pytest.raises(KeyError):
        notes.note("finished")
    with pytest.raises(KeyError):
        notes.note("unknown")
