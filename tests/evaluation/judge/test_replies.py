"""Replies of judges: whole ones are read whatever stands around them, nothing is guessed of the others."""

from __future__ import annotations

import pytest

from instructx_core.evaluation.judge.replies import Unreadable, json_scores, line_scores, list_scores

KEYS = {"instruct follow score": "instruction", "quality score": "quality"}
GOOD = '{"instruction": "x", "instruct follow score": 8, "quality score": 7, "reason": "fine"}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here is my verdict:\n```json\n{GOOD}\n```\nI hope {{this}} helps.",
        GOOD.replace("instruct follow score", "Instruct_Follow_Score (1-10)"),
        GOOD.replace(": 8", ': "8"').replace(": 7", ': "7/10"'),
        GOOD.replace(": 8", ": 8.0"),
        GOOD.replace('"fine"}', '"fine",}'),  # json-repair's
        GOOD.replace('"', "'"),
        f'{{"note": "no scores here"}}\n{GOOD}',
        f"{GOOD}\nAs JSON once more: {GOOD}",
        GOOD.replace(": 8", ': 8, "instruct follow score": 8'),
        f"<think>\nPerhaps {GOOD.replace(': 8', ': 3')}? No.\n</think>\n\n{GOOD}",
        f"Perhaps {GOOD.replace(': 8', ': 3')}? No.</think>{GOOD}",  # the server's template has opened it
    ],
)
def test_json_is_found(text: str) -> None:
    scores, reason = json_scores(text, KEYS, 1, 10)
    assert scores == {"instruction": 8.0, "quality": 7.0} and reason == "fine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON object"),
        ("I am sorry, I cannot help with that.", "no JSON object"),
        ("编辑很好,我给八分。", "no JSON object"),
        ('{"指令得分": 8, "质量得分": 7}', "no JSON object"),
        (GOOD.replace(": 8", ": 11"), "out of 1 to 10"),
        (GOOD.replace(": 8", ": 0"), "out of 1 to 10"),
        (GOOD.replace(": 8", ": true"), "no number"),
        (GOOD.replace(": 8", ": null"), "no number"),
        (GOOD.replace(": 8", ": NaN"), "no number"),
        (GOOD.replace(": 8", ': "eight"'), "no number"),
        (GOOD.replace(": 8", ': "4/5"'), "no number of 1 to 10"),
        (GOOD.replace(": 8", ": [8, 9]"), "no number"),
        (GOOD.replace(', "quality score": 7', ""), "no JSON object"),
        (GOOD[: GOOD.index("7") + 1], "no JSON object"),  # cut: "7" may have been the half of a longer number
        ("[8, 7]", "no JSON object"),
        (f"At first: {GOOD}, then: {GOOD.replace(': 8', ': 3')}", "several JSON objects with different scores"),
        (GOOD.replace(": 8", ': 8, "instruct follow score": 3'), "is there twice with different values"),
        ('{"a":' * 100_000, "no JSON object"),
        (f"<think>Perhaps {GOOD}? Let me look", "no JSON object"),
        (f"<think>Perhaps {GOOD}</think>It is hard to say.", "no JSON object"),
    ],
)
def test_nothing_is_guessed(text: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        json_scores(text, KEYS, 1, 10)


def test_viescore() -> None:
    names = ("editing", "overediting")
    assert list_scores('{"score": [7, 10], "reasoning": "good"}', names, 0, 10) == (
        {"editing": 7.0, "overediting": 10.0},
        "good",
    )
    assert list_scores('||V^=^V||\n{"score": [0, 0], "reasoning": ""}\n||V^=^V||', names, 0, 10)[0]["editing"] == 0
    for text in ('{"score": [7]}', '{"score": 7}', '{"score": [7, 11]}', "[7, 10]", "7"):
        with pytest.raises(Unreadable):
            list_scores(text, names, 0, 10)


LINES = "Brief reasoning: it is fine: 9 of 10.\nPrompt Compliance: 4\nVisual & Temporal Naturalness: 3\n"
NAMES = ("Prompt Compliance", "Visual & Temporal Naturalness")


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES.replace(": 4", ": 4.0").replace(": 3", ": 3/5"),  # both of which ImgEdit's own parser leaves out
        "**Brief reasoning:** it is fine: 9 of 10.\n- **Prompt Compliance:** 4\n* " + NAMES[1] + ": **3**.",
        LINES.upper(),
        LINES + "Prompt Compliance: 4",
    ],
)
def test_lines(text: str) -> None:
    scores, reason = line_scores(text, NAMES, 1, 5)
    assert list(scores.values()) == [4.0, 3.0] and reason.lower() == "it is fine: 9 of 10."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINES.replace(": 3", ": three"), "no line 'Visual & Temporal Naturalness'"),
        (LINES.replace(": 4", ": 6"), "out of 1 to 5"),
        (LINES.replace(": 4", ": 4/10"), "no number of 1 to 5"),
        (LINES + "Prompt Compliance: 2", "several scores of 'Prompt Compliance'"),
        ("Prompt Compliance: 4", "no line 'Visual"),
        ("", "no line"),
    ],
)
def test_lines_that_are_no_scores(text: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        line_scores(text, NAMES, 1, 5)
