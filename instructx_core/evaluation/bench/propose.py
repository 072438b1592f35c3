"""Clips -> five instructions each, by an MLLM behind an address (A.1), resumably into proposals.jsonl.

Place: clips, judge/chat.py -> propose -> curation. The paper says that GPT-4o made five instructions a video and gives
no prompt; ours is prompts/propose.txt. Which kinds a clip is asked for follows Table 4: over all clips they are asked
for in its shares. Reference edits are asked for where pictures of things are given, one to a clip.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InputError, some
from ...media.base import IMAGE_SUFFIXES
from ...media.files import open_media
from ...media.images import OpenImage
from ...media.outputs import make_folder
from ..benchmarks.tasks import VIE_COUNTS
from ..editors.folder import CLIP_SUFFIXES
from ..judge.chat import ChatClient
from ..judge.pictures import ShownPicture, Unshowable, Viewing
from ..judge.question import ModelQuestion
from ..judge.replies import Unreadable, json_objects, without_thoughts
from ..lines import LineFile
from ..run_folder import plain_name
from ..threads import as_they_come
from .proposals import PROPOSALS, ClipProposals, Proposal, read_proposals

COUNT = 5  # instructions a clip (A.1)
PROMPT = Path(__file__).with_name("prompts") / "propose.txt"
KINDS = {
    "swap": "replace one thing or person by another",
    "color": "change the colour of one thing",
    "add": "add a thing, a person or an animal, and say where it is or what it does",
    "remove": "remove one thing or person",
    "style": "change the style of the whole video (a painter, an animation, a material, an age of film)",
    "tone": "change the tone of the whole video: weather, season, light or time of day",
    "hybrid": "two or three of the other kinds at once",
    "reference_swap": "replace a thing or person by the thing of the reference picture",
    "reference_add": "add the thing of the reference picture, and say where it is or what it does",
}
REFERENCE = """
The last picture is no part of the video: it is the reference picture. Instructions of the kinds reference_swap and reference_add name the thing in it and say "of the reference picture"; no other kind uses it.
"""  # noqa: E501
SCHEMA = {
    "type": "object",
    "properties": {
        "instructions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"kind": {"type": "string"}, "instruction": {"type": "string"}},
                "required": ["kind", "instruction"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["instructions"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class ClipTask:
    """A clip with the kinds that it is asked for. reference: where one of them needs a picture."""

    path: Path
    name: str
    kinds: tuple[str, ...]
    reference: Path | None


def find_clips(place: Path) -> dict[str, Path]:
    """name -> clip, of a file or of a folder and all below it. Raises InputError for none and for two of one name."""
    if place.is_file():
        return {plain_name(place.stem): place}
    if not place.is_dir():
        raise InputError(f"{place}: is no clip and no folder of clips; check the path")
    found: dict[str, Path] = {}
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place)
        if path.suffix.lower() in CLIP_SUFFIXES and path.is_file() and not any(p.startswith(".") for p in inside.parts):
            name = plain_name(inside.with_suffix("").as_posix())
            if name in found:
                raise InputError(f"{path} and {found[name].name} differ in their endings alone; rename one of them")
            found[name] = path
    if not found:
        raise InputError(f"{place}: no clip in it; use {', '.join(CLIP_SUFFIXES)}")
    return found


def find_references(place: Path | None) -> list[Path]:
    """Pictures of things, of a folder and all below it. Raises InputError for none."""
    if place is None:
        return []
    found = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise InputError(f"{place}: no picture in it; use {', '.join(IMAGE_SUFFIXES)}")
    return found


def kinds_of_clips(clips: int, with_reference: bool) -> Iterator[tuple[str, ...]]:
    """Kinds to ask each clip for: all along the list in the shares of Table 4, as near as whole numbers can be."""
    wanted = {task: n for task, n in VIE_COUNTS.items() if with_reference or not task.startswith("reference")}
    owed, total = dict.fromkeys(wanted, 0), sum(wanted.values())
    for _ in range(clips):
        kinds = []
        for _ in range(COUNT):
            owed = {task: owed[task] + n for task, n in wanted.items()}
            kinds.append(max(owed, key=lambda task: owed[task]))
            owed[kinds[-1]] -= total
        yield tuple(sorted(kinds, key=list(wanted).index))


def clip_tasks(clips: Mapping[str, Path], references: Sequence[Path]) -> list[ClipTask]:
    """What each clip is asked for; the clips that are asked for a reference edit take the pictures in turn."""
    found, shown = [], 0
    for (name, path), kinds in zip(clips.items(), kinds_of_clips(len(clips), bool(references)), strict=True):
        reference = None
        if any(kind.startswith("reference") for kind in kinds):
            reference, shown = references[shown % len(references)], shown + 1
        found.append(ClipTask(path, name, kinds, reference))
    return found


def question_of(task: ClipTask, viewing: Viewing) -> ModelQuestion[tuple[Proposal, ...]]:
    """Raises Unshowable for a clip or a reference that cannot be read."""
    words = PROMPT.read_text(encoding="utf-8")
    parts: list[str | ShownPicture] = [*viewing.clip(task.path, "The video")]
    if task.reference is not None:
        parts.append(viewing.picture(task.reference, "The reference picture"))
    kinds = "\n".join(f"{n}. {kind}: {KINDS[kind]}" for n, kind in enumerate(task.kinds, 1))
    filled = words.format(count=COUNT, kinds=kinds, reference=REFERENCE if task.reference is not None else "")
    read = partial(read_reply, with_reference=task.reference is not None)
    return ModelQuestion(words, filled, parts, read, SCHEMA, "instructions")


def read_reply(text: str, with_reference: bool) -> tuple[Proposal, ...]:
    """Exactly COUNT proposals of known kinds, no two alike. Raises Unreadable."""
    for values in json_objects(without_thoughts(text)):
        if isinstance(values.get("instructions"), list):
            return _checked(values["instructions"], with_reference)
    raise Unreadable("no JSON object with instructions")


def _checked(given: list[Any], with_reference: bool) -> tuple[Proposal, ...]:
    if len(given) != COUNT:
        raise Unreadable(f"{len(given)} instructions instead of {COUNT}")
    found, seen = [], dict[str, int]()
    for number, each in enumerate(given, 1):
        kind, text = (each.get("kind"), each.get("instruction")) if isinstance(each, dict) else (None, None)
        if not isinstance(kind, str) or kind not in VIE_COUNTS or (kind.startswith("reference") and not with_reference):
            raise Unreadable(f"instruction {number} is of the kind {kind!r:.60}")
        if not isinstance(text, str) or not text.strip():
            raise Unreadable(f"instruction {number} is {text!r:.60}, no text")
        same = seen.setdefault("".join(filter(str.isalnum, text.lower())), number)
        if same != number:
            raise Unreadable(f"instructions {same} and {number} are the same")
        found.append(Proposal(kind, " ".join(text.split())))
    return tuple(found)


def propose(folder: Path, tasks: Sequence[ClipTask], chat: ChatClient, viewing: Viewing) -> Iterator[ClipProposals]:
    """A line of every clip, added to folder/proposals.jsonl as it comes; what is proposed already is kept.

    Raises InputError where the model cannot be asked at all; then what came before is in the file.
    """
    file = LineFile(make_folder(folder) / PROPOSALS)
    with file.claim():
        file.start()
        done = {name: line for name, line in read_proposals(file.path).items() if line.status == "ok"}
        yield from (done[task.name] for task in tasks if task.name in done)
        todo = [task for task in tasks if task.name not in done]
        for line in as_they_come(partial(_proposed, folder, chat, viewing), todo, chat.settings.concurrency):
            file.add([line.as_json()])
            yield line


def _proposed(folder: Path, chat: ChatClient, viewing: Viewing, task: ClipTask) -> ClipProposals:
    clip, reference = relative(task.path, folder), None if task.reference is None else relative(task.reference, folder)
    try:
        question = question_of(task, viewing)
        size, seconds = look_of(task.path)
    except Unshowable as error:
        if error.path != task.path:
            raise
        return ClipProposals(clip, task.name, "unreadable", reason=str(error))
    exchange = chat.ask(question)
    return ClipProposals(
        clip,
        task.name,
        exchange.status,
        exchange.answer or (),
        exchange.reason,
        size,
        seconds,
        reference,
        exchange.attempts[-1]["model"] if exchange.attempts else "",
        hashlib.sha256(question.prompt.encode()).hexdigest(),
        exchange.attempts,
    )


def look_of(path: Path) -> tuple[tuple[int, int], float]:
    """(H, W) and seconds of a clip. Raises Unshowable for a picture."""
    with open_media(path) as media:
        if isinstance(media, OpenImage):
            raise Unshowable(path, InputError(f"{path}: is a picture; a benchmark of videos is made of clips"))
        scan = media.scan()
        return scan.size, round(float(scan.frames / scan.fps), 3)


def relative(path: Path, folder: Path) -> str:
    """As a path of folder's files, with / on every system."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # Windows: on another drive
        return path.absolute().as_posix()


def unlike_the_paper(lines: Sequence[ClipProposals]) -> list[str]:
    """What A.1 says of its clips (720P, 3 to 10 seconds) and these are not."""
    small = [line.name for line in lines if line.seconds and min(line.size) < 720]
    long = [line.name for line in lines if line.seconds and not 3 <= line.seconds <= 10]
    found = [(small, "below 720P"), (long, "not of 3 to 10 seconds")]
    return [f"{len(names)} clips are {what}, unlike the paper's: {some(names)}" for names, what in found if names]
