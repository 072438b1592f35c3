"""Instruct: instructions for every pair that a candidate gives, from what is known of its subject.

Last stage but for export. Templates say only what describe.py measured, so they are true; several wordings are drawn by
the candidate's id. Roles are swapped: the clip is the source of remove and the target of all other pairs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..terms.candidate import Candidate, Reject
from ..terms.clip import read_clip
from ..terms.pairs import PAIRS
from ..terms.places import named_place
from ..terms.roles import Writer

REMOVE = (
    "Remove the {thing}{which}.",
    "Take the {thing}{which} out of the video.",
    "Erase the {thing}{which}.",
    "Delete the {thing}{which} and leave the rest as it is.",
)
ADD = (
    "Add {a} {new}{that}.",
    "Let {a} {new} appear{that}.",
    "Put {a} {new} into the video{that}.",
)
RECOLOUR = (
    "Change the colour of the {other} {noun}{which} to {colour}.",
    "Make the {other} {noun}{which} {colour}.",
    "Turn the {other} {noun}{which} {colour}.",
)
REFERENCE_SWAP = (
    "Replace the {other} with the object of the reference picture.",
    "Put the thing in the reference picture in the place of the {other}.",
)
REFERENCE = (
    "Add the object of the reference picture; it {moves}.",
    "Put the thing in the reference picture into the video, where it {moves}.",
)


@dataclass(frozen=True, slots=True)
class Instruct:
    """writer: gives the sentences their form. noun: what a thing is called whose kind nobody knows."""

    writer: Writer
    noun: str = "object"
    name: str = "instruct"

    @property
    def version(self) -> str:
        return f"2 {self.writer.name} {self.noun}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        words = _words(candidate, self.noun)
        if candidate.fact("subject", "others") and not words["which"] and not candidate.fact("subject", "phrase"):
            return Reject(self.name, "words cannot tell the subject from what else moves")
        texts = {"remove": _pick(candidate, "remove", REMOVE, words), "add": _pick(candidate, "add", ADD, words)}
        colour = candidate.fact("recolour", "colour")
        if colour:
            texts["change_color"] = _pick(candidate, "change_color", RECOLOUR, words | {"other": colour})
        if candidate.fact("reference", "frame") is not None:
            texts["reference_add"] = _pick(candidate, "reference_add", REFERENCE, words)
        texts = {
            task: self.writer.instruction(*(read_clip(folder, name) for name in PAIRS[task]), task, draft)
            for task, draft in texts.items()
        }
        return candidate.with_facts(self.name, texts=texts | self._swaps(candidate))

    def _swaps(self, candidate: Candidate) -> dict[str, str]:
        """Its words are the writer's already, who thought of what to put there."""
        if not candidate.facts.get("swap", {}).get("route"):
            return {}
        texts, other = {"swap": candidate.fact("swap", "text")}, candidate.fact("swap", "other")
        if candidate.fact("reference", "frame") is not None:
            texts["reference_swap"] = _pick(candidate, "reference_swap", REFERENCE_SWAP, {"other": other})
        return texts


def _words(candidate: Candidate, noun: str) -> dict[str, str]:
    colour, motion = candidate.fact("describe", "colour"), candidate.fact("describe", "motion")
    place, phrase = candidate.fact("describe", "place"), candidate.fact("subject", "phrase")
    named = named_place(phrase)
    thing = phrase or " ".join(filter(None, (colour, noun)))
    where = "in the middle" if place == "middle" else f"at the {place}"
    which = f" that moves {motion}" if motion and not named else ""
    if not which and not phrase and candidate.fact("subject", "others"):
        which = f" {where}"
    new = thing if not colour or colour in thing.split() else f"{colour} {thing}"
    return {
        "thing": thing,
        "noun": " ".join(word for word in phrase.split() if word != colour) or noun,
        "colour": colour,
        "which": which,
        "new": new,
        "that": f" that moves {motion}" if motion else "" if named else f" that moves {where}",
        "moves": f"moves {motion}" if motion else f"moves {where}",
        "a": "an" if new[0] in "aeiou" else "a",
    }


def _pick(candidate: Candidate, task: str, wordings: tuple[str, ...], words: dict[str, str]) -> str:
    number = int(hashlib.sha256(f"{candidate.id} {task}".encode()).hexdigest(), 16)
    return wordings[number % len(wordings)].format(**words)
