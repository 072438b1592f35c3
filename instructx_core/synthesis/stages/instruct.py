"""Instruct: instructions for every pair that a candidate gives, from what is known of its subject.

Last stage but for export. Templates say only what describe.py measured, so they are true; several wordings are drawn by
the candidate's id. Roles are swapped: the clip is the source of remove and the target of all other pairs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..candidate import Candidate, Reject

REMOVE = (
    "Remove the {thing}{which}.",
    "Take the {thing}{which} out of the video.",
    "Erase the {thing}{which}.",
    "Delete the {thing}{which} and leave the rest as it is.",
)
ADD = (
    "Add {a} {thing} that {moves}.",
    "Let {a} {thing} appear that {moves}.",
    "Put {a} {thing} into the video; it {moves}.",
)
RECOLOUR = (
    "Change the colour of the {other} {noun}{which} to {colour}.",
    "Make the {other} {noun}{which} {colour}.",
    "Turn the {other} {noun}{which} {colour}.",
)
REFERENCE = (
    "Add the object of the reference picture; it {moves}.",
    "Put the thing in the reference picture into the video, where it {moves}.",
)


@dataclass(frozen=True, slots=True)
class Instruct:
    name: str = "instruct"
    version: str = "1"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        words = _words(candidate)
        if candidate.fact("subject", "others") and not words["which"]:
            return Reject(self.name, "words cannot tell the subject from what else moves")
        texts = {"remove": _pick(candidate, "remove", REMOVE, words), "add": _pick(candidate, "add", ADD, words)}
        colour = candidate.fact("recolour", "colour")
        if colour:
            texts["change_color"] = _pick(candidate, "change_color", RECOLOUR, words | {"other": colour})
        if candidate.fact("reference", "frame") is not None:
            texts["reference_add"] = _pick(candidate, "reference_add", REFERENCE, words)
        return candidate.with_facts(self.name, texts=texts)


def _words(candidate: Candidate) -> dict[str, str]:
    colour, motion = candidate.fact("describe", "colour"), candidate.fact("describe", "motion")
    place, noun = candidate.fact("describe", "place"), candidate.fact("subject", "phrase") or "object"
    thing = noun if candidate.fact("subject", "phrase") else " ".join(filter(None, (colour, noun)))
    where = "in the middle" if place == "middle" else f"at the {place}"
    which = f" that moves {motion}" if motion else ""
    if not which and candidate.fact("subject", "others"):
        which = f" {where}"
    moves = f"moves {motion}" if motion else f"moves {where}"
    return {
        "thing": thing,
        "noun": noun,
        "colour": colour,
        "which": which,
        "moves": moves,
        "a": "an" if thing[0] in "aeiou" else "a",
    }


def _pick(candidate: Candidate, task: str, wordings: tuple[str, ...], words: dict[str, str]) -> str:
    number = int(hashlib.sha256(f"{candidate.id} {task}".encode()).hexdigest(), 16)
    return wordings[number % len(wordings)].format(**words)
