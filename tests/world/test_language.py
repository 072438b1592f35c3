"""What is said means one thing: unique names, clear typos, many wordings in both languages, held-out ones in test."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from time import process_time

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.world import (
    CASES,
    LANGUAGES,
    Manner,
    asked_pairs,
    caption,
    qa_pairs,
    sample,
    scene_sample,
    word_pieces,
)
from instructx_core.world.edits import DRAFTS, TASKS, Draft
from instructx_core.world.language import instruct
from instructx_core.world.language.lexicon import FILLERS, lines, sections, words
from instructx_core.world.language.manner import draw_speaker
from instructx_core.world.language.names import refer
from instructx_core.world.language.questions import is_idle
from instructx_core.world.language.typos import known_words, misspellings, with_typos
from instructx_core.world.scene.contents import Instruction, Scene, Thing
from instructx_core.world.scene.distance import area_of
from instructx_core.world.scene.draw import Redraw, Setting, draw_scene

KINDS = [section for section in sections("en") if section not in FILLERS]
RED, BLUE = Thing("circle", "red", 0, 10.0), Thing("star", "blue", 3, 10.0)


@cache
def drafts() -> tuple[Draft, ...]:
    found: list[Draft] = []
    for number in range(240):
        rng = np.random.default_rng(number)
        while len(found) <= number:
            try:
                found.append(DRAFTS[TASKS[number % len(TASKS)]](rng, Setting()))
            except Redraw:
                continue
    return tuple(found)


def said(number: int, split: str, manner: Manner | None = None) -> Instruction:
    draft = drafts()[number % len(drafts())]
    rng = np.random.default_rng((number, len(split)))
    return instruct(rng, draft.changes, draft.is_ordered, split, ("image", "video")[number % 2], manner)


def tokens(text: str, language: str) -> set[str]:
    text = re.sub(r"\{.*?\}", " ", text)
    return set(re.findall(r"[a-z']+" if language == "en" else "[\u4e00-\u9fff]", text.lower()))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_many_wordings_and_some_held_out(kind: str, language: str) -> None:
    found = sections(language)[kind]
    assert len({line.text for line in found}) == len(found) >= 15
    assert 0.15 < sum(line.held_out for line in found) / len(found) < 0.25
    for held_out in (True, False):
        assert lines(language, kind, ("imperative",), held_out)


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_lines_have_known_words(language: str) -> None:
    found = [line for section in sections(language).values() for line in section]
    known = set().union(*(tokens(line.text, language) for line in found if not line.held_out))
    for line in found:
        assert not line.held_out or tokens(line.text, language) <= known, line
    for section in FILLERS:
        for use in {line.use for line in sections(language)[section]}:
            assert lines(language, section, (use,), True) and lines(language, section, (use,), False), (section, use)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_means_two_things(language: str) -> None:
    vocabulary = words(language)
    for group in ("shapes", "colors", "sizes", "at", "places", "ground_colors"):
        counts = Counter(word for options in vocabulary[group].values() for word in options)
        assert set(counts.values()) == {1}, group
    assert sum(len(options) > 1 for options in vocabulary["shapes"].values()) >= 4


@pytest.mark.parametrize("split", ["train", "val"])
def test_held_out_lines_are_never_trained(split: str) -> None:
    held_out = {
        line.name for language in LANGUAGES for each in sections(language).values() for line in each if line.held_out
    }
    for number in range(5000):
        words_said = said(number, split)
        assert not words_said.held_out and not held_out & set(words_said.wording.split())


def test_test_split_shows_held_out_lines() -> None:
    found = [said(number, "test") for number in range(2000)]
    assert 0.3 < np.mean([each.held_out for each in found]) < 0.5
    shown = {name for each in found if each.held_out for name in each.wording.split()}
    wanted = {line.name for section in KINDS for line in sections("en")[section] if line.held_out}
    assert len(wanted & shown) > 0.9 * len(wanted)
    assert all(said(number, "test", Manner(held_out=True)).held_out for number in range(50))
    with pytest.raises(InputError, match="held-out"):
        said(0, "train", Manner(held_out=True))


def test_manners_all_occur_and_can_be_asked_for() -> None:
    found = [said(number, "train") for number in range(3000)]
    traits = Counter(trait for each in found for trait in set(each.traits))
    assert all(traits[trait] > 30 for trait in (*CASES, "british", "filler", "typo"))
    assert 0.25 < np.mean([each.language == "zh" for each in found]) < 0.35
    assert any(each.traits.count("typo") == 2 for each in found)
    for each in found:
        assert each.text == each.text.strip() and "{" not in each.text and "  " not in each.text
        assert each.text.isascii() == (each.language == "en")
        assert not re.search("[a-zA-Z]", each.text) or each.language == "en"
    for number in range(100):
        assert said(number, "train", Manner("en", case="upper")).text.isupper()
        assert said(number, "train", Manner("en", typos=2)).traits.count("typo") >= 1
        assert "filler" in said(number, "train", Manner("zh", has_fillers=True)).traits
        plain = said(number, "train", Manner("en", case="lower", is_british=False, typos=0, has_fillers=False))
        assert plain.traits == ("lower",)
    for wrong in (Manner("fr"), Manner(case="small"), Manner(typos=3)):
        with pytest.raises(InputError):
            said(0, "train", wrong)


def test_same_stream_same_words_and_another_manner_the_same_picture() -> None:
    assert said(7, "test") == said(7, "test")
    first, second = (sample("test", 3, task="swap", manner=Manner(language)) for language in LANGUAGES)
    assert np.array_equal(first.target_FHWC, second.target_FHWC) and first.instruction != second.instruction
    assert first.changes == second.changes and first.language != second.language


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_name_means_one_thing(language: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        scene, _ = draw_scene(rng, Setting(), counts=(1, 5))
        absent = Thing("heart", "pink", 1, 10.0)
        things = [*scene.things, *([] if ("pink", "heart") in scene.combinations else [absent])]
        phrases = []
        for thing in things:
            speakers = (draw_speaker(rng, "train", "image", Manner(language)) for _ in range(30))
            phrases.append({refer(speaker, scene, thing) for speaker in speakers})
        for number, mine in enumerate(phrases):
            for others in phrases[number + 1 :]:
                assert not mine & others


def test_words_that_name_alone_are_unique_in_the_scene() -> None:
    """Each name is read again, word by word: exactly one thing fits (none where the thing is absent)."""
    vocabulary = words("en")
    shapes = {word: key for key, options in vocabulary["shapes"].items() for word in options}
    colors = {word: key for key, options in vocabulary["colors"].items() for word in options}
    places = {word: key for key, options in vocabulary["places"].items() for word in options}
    rng = np.random.default_rng(6)
    order = ("top left", "top right", "bottom left", "bottom right", "center")
    for draft in drafts():
        for change in draft.changes:
            if change.thing is None:
                continue
            speaker = draw_speaker(rng, "train", "image", Manner("en"))
            text = refer(speaker, change.scene, change.thing, change.full)
            fits = {thing: thing for thing in change.scene.things}
            for table, key in ((shapes, "shape"), (colors, "color")):
                wanted = {table[word] for word in table if re.search(rf"\b{word}\b", text)}
                fits = {each: each for each in fits if not wanted or getattr(each, key) in wanted}
            spots = {order.index(places[word]) for word in places if re.search(rf"\b{word}\b", text)}
            fits = {each: each for each in fits if not spots or each.place in spots}
            is_extreme = re.search("est |small|little|large|big", text)
            if change.thing not in change.scene.things:
                assert not fits, text
            elif not is_extreme:
                assert list(fits) == [change.thing], text
            else:
                assert change.thing in fits, text
                areas = {each: area_of(each.shape) * each.radius**2 for each in fits}
                mine = areas.pop(change.thing)
                is_large = change.thing.size == "large"
                assert all(mine >= 1.5 * area if is_large else 1.5 * mine <= area for area in areas.values()), text


def test_no_typo_makes_another_known_word() -> None:
    rng, known = np.random.default_rng(8), known_words()
    reached: dict[str, str] = {}
    for word in sorted(known):
        for _ in range(40):
            wrong, count = with_typos(rng, word, 1)
            assert count == (wrong != word)
            if count:
                assert wrong not in known and reached.setdefault(wrong, word) == word
                assert wrong in misspellings(word)
    clear = set(reached.values())
    for group in ("shapes", "colors"):
        for options in words("en")[group].values():
            assert set(options[0].split()) <= clear


def test_one_scene_in_both_languages() -> None:
    scene = Scene("green stripes", (RED, BLUE))
    assert caption(scene) == "a red circle at the top left and a blue star at the bottom right on green stripes"
    assert caption(scene, "zh").startswith("\u5de6\u4e0a\u89d2\u6709\u4e00\u4e2a\u7ea2\u8272\u7684\u5706\u5f62")
    rng = np.random.default_rng(0)
    assert len({caption(scene, language, rng) for language in LANGUAGES for _ in range(40)}) > 20
    assert caption(replace(scene, look="outline")) == "outline drawing: " + caption(replace(scene, look="outline"))[17:]


def test_chinese_is_cut_into_words() -> None:
    vocabulary = words("zh")
    names = {word for group in ("shapes", "colors") for options in vocabulary[group].values() for word in options}
    for number in range(300):
        text = said(number, "train", Manner("zh")).text
        pieces = word_pieces(text)
        assert "".join(pieces) == text
        for piece in pieces:
            assert piece in names or sum(name in piece for name in names) <= 1, piece
    assert word_pieces("make it red") == ["make it red"]


def test_questions_have_one_answer() -> None:
    rng = np.random.default_rng(5)
    for index in range(100):
        scene = scene_sample("train", index)[2]
        for language in LANGUAGES:
            answers: dict[str, str] = {}
            for question, answer in qa_pairs(scene, rng, Manner(language)):
                assert question and answer and "{" not in question + answer
                assert language == "zh" or (question + answer).isascii()
                assert answers.setdefault(question, answer) == answer
    scene = Scene("plain navy", (Thing("circle", "red", 1, 10.0),))
    manner = Manner("en", case="lower", is_british=False, typos=0)
    pairs = dict(pair for _ in range(40) for pair in qa_pairs(scene, rng, manner))
    assert pairs["where is the red circle?"] == "top right"
    assert pairs["what color is at the top right?"] == "red" if "what color is at the top right?" in pairs else True
    assert pairs["is there a red circle?"] == "yes"


@pytest.mark.parametrize("language", LANGUAGES)
def test_instructions_are_asked_about(language: str) -> None:
    rng = np.random.default_rng(9)
    for draft in drafts():
        words_said = instruct(rng, draft.changes, draft.is_ordered, manner=Manner(language))
        pairs = asked_pairs(draft.changes, words_said, rng)
        assert len(pairs) >= 3 and all(words_said.text in question and answer for question, answer in pairs)
        assert all(map(is_idle, draft.changes)) == (draft.source == draft.target)
    scene = Scene("plain navy", (RED, BLUE))
    remove = next(draft for draft in drafts() if draft.sub_kind == "remove").changes[0]
    pairs = asked_pairs((replace(remove, scene=scene, thing=BLUE),), Instruction("remove it"), rng)
    assert [answer for _, answer in pairs] == ["remove the blue star at the bottom right", "bottom right", "remove"]


def test_a_sentence_takes_little_time() -> None:
    said(0, "train", Manner("en", typos=2))
    seconds = []
    for _ in range(5):
        started = process_time()
        for number in range(400):
            said(number, "train")
        seconds.append((process_time() - started) / 400)
    assert min(seconds) < 0.3e-3
