"""The three questions of the paper's A.3 (Fig. 11) with their scales, word for word, for clips; for images as well."""

from __future__ import annotations

from dataclasses import dataclass

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True, slots=True)
class Question:
    """key: as in scores.jsonl. scale: (scores, what they mean), lowest first."""

    key: str
    title: str
    text: str
    scale: tuple[tuple[str, str], ...]


INTRODUCTION = (
    "You are an evaluator for instructional {kind} editing tasks. Your job is to assess how well the edited {kind} "
    "fulfills the user's specific instructions. Based on the original {kind} and its corresponding editing prompt, "
    "please evaluate the three instructional editing scores. Each dimension is rated on a scale from 1 to 5."
)


def introduction(kind: str) -> str:
    """kind: "video", "image", or "video or image" for a form of both."""
    return INTRODUCTION.format(kind=kind)


def questions(kind: str) -> tuple[Question, ...]:
    """As introduction()."""
    coherent = f"maintain coherence with the original {kind} context"
    kept = f"maintains coherence with the original {kind} context"
    return (
        Question(
            "instruction",
            "Instruct follow",
            "Does the edit precisely follow the given instruction?",
            (
                ("1", "Edit does not follow the instruction."),
                ("2-3", "Edit follows the instruction partially."),
                ("4-5", "Edit follows the instruction fully."),
            ),
        ),
        Question(
            "preservation",
            "Preservation",
            f"Does the edit maintain coherence with the original {kind} context?",
            (
                ("1", f"Edit result {kind} does not {coherent}."),
                ("2-4", f"Edit result {kind} {kept} partially."),
                ("5", f"Edit result {kind} {kept} fully."),
            ),
        ),
        Question(
            "quality",
            "Quality",
            f"Is the edit result {kind} visually seamless and natural-looking?",
            (
                ("1", f"Edit result {kind} is not visually seamless, not natural-looking."),
                ("2-4", f"Edit result {kind} is visually seamless partially, natural-looking partially."),
                ("5", f"Edit result {kind} is visually seamless, natural-looking fully."),
            ),
        ),
    )
