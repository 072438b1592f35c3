"""Texts of the nodes: every name and tooltip in English and Chinese, help pages for every node, nothing dead.

English is written by scripts/from_host.py; tests/comfyui/test_templates.py compares it with the nodes themselves.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "zh")
TEXTS = {
    language: json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}
SIGNATURES = json.loads((ROOT / "scripts" / "signatures.json").read_text(encoding="utf-8"))
NODES = sorted(name for name in SIGNATURES if name.startswith("InstructX"))
DOCS = ROOT / "web" / "docs"


def leaves(value: object, path: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {path: str(value)}
    return {key: text for name, child in value.items() for key, text in leaves(child, f"{path}/{name}").items()}


def test_same_entries_in_both_languages() -> None:
    assert leaves(TEXTS["en"]).keys() == leaves(TEXTS["zh"]).keys()
    assert sorted(TEXTS["en"]) == NODES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_has_text_that_the_frontend_prints_as_it_is(language: str) -> None:
    for path, text in leaves(TEXTS[language]).items():
        assert text.strip(), path
        assert not re.search(r"[{}@|]", text), f"{path}: vue-i18n reads {{}}, @ and | as its own syntax"


def test_notes_hold_the_same_values_in_both_languages() -> None:
    """locales/*/notes.json: what a node says of its run (nodes/parts/notes.py)."""
    english, chinese = (
        json.loads((ROOT / "locales" / language / "notes.json").read_text(encoding="utf-8")) for language in LANGUAGES
    )
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        values = re.findall(r"{(\w+)}", text)
        assert sorted(values) == sorted(re.findall(r"{(\w+)}", chinese[key])), key
        assert re.search(r"[\u4e00-\u9fff]", chinese[key]), f"{key} is not translated"
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").rglob("*.py"))
    assert [key for key in english if f'"{key}"' not in code] == [], "a sentence that no node says"


def test_chinese_is_chinese() -> None:
    for path, text in leaves(TEXTS["zh"]).items():
        if path.endswith(("tooltip", "description", "display_name")):
            assert re.search(r"[\u4e00-\u9fff]", text), f"{path} is not translated"


@pytest.mark.parametrize("node", NODES)
def test_inputs_and_outputs(node: str) -> None:
    texts, signature = TEXTS["en"][node], SIGNATURES[node]
    named = [entry["name"] for entry in signature["inputs"]]
    extra = {"view"} if node == "InstructXCompare" else set()  # the slider itself, in no workflow file
    assert set(texts["inputs"]) == set(named) | extra
    assert set(texts.get("outputs", {})) == {str(slot) for slot in range(len(signature["outputs"]))}


@pytest.mark.parametrize("node", NODES)
def test_help_page(node: str) -> None:
    for page in (DOCS / f"{node}.md", DOCS / node / "zh.md"):
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
        assert pictures, f"{page} shows no picture"
        for picture in pictures:  # the host serves all languages' pictures from docs/
            assert (DOCS / picture).stat().st_size < 60_000, picture
    english = (DOCS / f"{node}.md").read_text(encoding="utf-8")
    for entry in SIGNATURES[node]["inputs"]:
        name = re.sub(r"reference_[2-4]", "reference_1", entry["name"])
        assert re.search(rf"\| [^|]*\b{name}\b[^|]* \|", english), f"{node}.md does not explain {name}"


def test_no_dead_help_page() -> None:
    assert sorted(path.stem for path in DOCS.glob("*.md")) == NODES
    assert sorted(path.name for path in DOCS.iterdir() if path.is_dir()) == sorted([*NODES, "img"])
