"""Proposals for clips by a model behind a local server: what is asked, what is taken, asked again, kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, completion, serve

from instructx_core.errors import InputError
from instructx_core.evaluation.bench.proposals import PROPOSALS, ClipProposals, read_proposals
from instructx_core.evaluation.bench.propose import clip_tasks, find_clips, find_references, kinds_of_clips, propose
from instructx_core.evaluation.benchmarks.tasks import VIE_COUNTS
from instructx_core.evaluation.judge.chat import ChatClient, ClientSettings
from instructx_core.evaluation.judge.pictures import Viewing

pytest.importorskip("openai")


def run(
    server: JudgeServer, clips: Path, out: Path, things: Path | None = None, **settings: Any
) -> list[ClipProposals]:
    chat = ChatClient(ClientSettings(url=server.url, model="m", **{"concurrency": 1, **settings}), "the model")
    tasks = clip_tasks(find_clips(clips), find_references(things))
    return list(propose(out, tasks, chat, Viewing(frames=3, side=32)))


def test_five_instructions_a_clip(clips: Path, tmp_path: Path, proposing: Callable[..., str]) -> None:
    with serve(proposing) as server:
        lines = run(server, clips, tmp_path / "out", concurrency=3)
        assert len(server.seen) == 3
        assert len(run(server, clips, tmp_path / "out")) == 3 and len(server.seen) == 3, "nothing is asked twice"
    assert {line.status for line in lines} == {"ok"} and {len(line.proposals) for line in lines} == {5}
    kept = read_proposals(tmp_path / "out" / PROPOSALS)
    assert kept["a"].clip == "../clips/a.mp4" and kept["a"].size == (36, 64) and kept["a"].seconds == 3.0
    assert kept["a"].identity(0) == "a-1" and len(kept) == 3 and kept["a"].model == "judge-2026-01-01"
    system, user = server.seen[0]["messages"]
    assert system["content"].startswith("You write the editing instructions") and "{" in system["content"][-80:]
    assert [part["type"] for part in user["content"]] == ["text", "image_url"] * 3
    assert server.seen[0]["response_format"]["json_schema"]["name"] == "instructions"
    assert all("reference" not in each.task for line in lines for each in line.proposals)


def test_reference_edits_come_with_a_picture(
    clips: Path, pictures: Path, tmp_path: Path, proposing: Callable[..., str]
) -> None:
    with serve(proposing) as server:
        lines = run(server, clips, tmp_path / "out", pictures)
    with_picture = [line for line in lines if line.reference]
    assert with_picture and {line.reference for line in with_picture} == {"../things/dog.png"}
    for line in lines:
        assert any(each.task.startswith("reference") for each in line.proposals) == (line.reference is not None)
    shown = [len(request["messages"][1]["content"]) for request in server.seen]
    assert shown == [6 if line.reference is None else 8 for line in lines]
    assert any("reference picture" in request["messages"][0]["content"] for request in server.seen)


def test_kinds_are_asked_for_in_the_shares_of_table_4() -> None:
    asked = Counter(kind for kinds in kinds_of_clips(28, True) for kind in kinds)
    assert dict(asked) == VIE_COUNTS, "28 clips of five are the 140"
    few = Counter(kind for kinds in kinds_of_clips(12, False) for kind in kinds)
    assert set(few) == {task for task in VIE_COUNTS if "reference" not in task}
    for kind, count in few.items():
        assert abs(count - 60 * VIE_COUNTS[kind] / 120) < 1


def rows(*texts: str, kind: Any = "add") -> str:
    return json.dumps({"instructions": [{"kind": kind, "instruction": text} for text in texts]})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("I would add a dog.", "no JSON object with instructions"),
        (rows("a", "b", "c", "d"), "4 instructions instead of 5"),
        (rows("a", "b", "c", "d", "e", "f"), "6 instructions instead of 5"),
        (rows("Add a dog.", "b", "add a DOG", "d", "e"), "instructions 1 and 3 are the same"),
        (rows("a", "b", "", "d", "e"), "instruction 3 is '', no text"),
        (rows("a", "b", "c", "d", "e", kind="paint"), "is of the kind 'paint'"),
        (rows("a", "b", "c", "d", "e", kind=["add"]), "is of the kind ['add']"),
        (rows("a", "b", "c", "d", "e", kind="reference_add"), "is of the kind 'reference_add'"),
        (lambda request: (200, completion(rows("a", "b", "c")[:40], finish="length")), "the reply was cut"),
    ],
    ids=["prose", "few", "many", "same", "empty", "kind", "kinds", "no reference", "cut"],
)
def test_what_cannot_be_used_is_asked_again_and_then_unparsed(
    clips: Path, tmp_path: Path, proposing: Callable[..., str], bad: Any, said: str
) -> None:
    clip = clips / "a.mp4"
    with serve(bad, bad, bad, bad, proposing) as server:
        (line,) = run(server, clip, tmp_path)
        assert (line.status, line.proposals, len(server.seen)) == ("unparsed", (), 3) and said in line.reason
        assert len(line.attempts) == 3
        (line,) = run(server, clip, tmp_path)
        assert line.status == "ok" and len(server.seen) == 5, "the next run asks again"
    assert said in line.attempts[0]["unreadable"]
    assert read_proposals(tmp_path / PROPOSALS)["a"].status == "ok"


def test_prose_around_it_and_failures_on_the_way(clips: Path, tmp_path: Path, proposing: Callable[..., str]) -> None:
    def wordy(request: dict[str, Any]) -> str:
        return f"Sure! Here they are:\n```json\n{proposing(request)}\n```\nHave fun."

    slow = (429, {"error": {"message": "slow down"}})
    with serve(slow, "cut", (500, "oops"), wordy) as server:
        (line,) = run(server, clips / "a.mp4", tmp_path)
    assert line.status == "ok" and len(server.seen) == 4 and line.attempts[0]["retries"] == 3


def test_a_refusal_and_a_damaged_clip_are_lines(clips: Path, tmp_path: Path, proposing: Callable[..., str]) -> None:
    (clips / "a.mp4").write_bytes(b"")
    with serve((200, completion(None, refusal="no")), proposing) as server:
        lines = {line.name: line for line in run(server, clips, tmp_path)}
    assert len(server.seen) == 2 and lines["a"].status == "unreadable" and "a.mp4" in lines["a"].reason
    assert sorted(line.status for line in lines.values()) == ["ok", "refused", "unreadable"]


def test_a_server_that_goes_away_loses_nothing(clips: Path, tmp_path: Path, proposing: Callable[..., str]) -> None:
    with serve(proposing, (503, "down")) as server, pytest.raises(InputError, match=r"the model at .* answers 503"):
        run(server, clips, tmp_path, retries=0)
    with serve(proposing) as server:
        assert len(run(server, clips, tmp_path)) == 3 and len(server.seen) == 2


def test_what_cannot_be_clips(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for place, said in ((tmp_path / "none", "no clip in it"), (tmp_path / "nowhere", "is no clip and no folder")):
        with pytest.raises(InputError, match=said):
            find_clips(place)
    with pytest.raises(InputError, match="no picture in it"):
        find_references(tmp_path / "none")
    (clips / "a.gif").write_bytes(b"")
    with pytest.raises(InputError, match="differ in their endings alone"):
        find_clips(clips)
    file = tmp_path / PROPOSALS
    for line, said in (
        ({"clip": "a", "name": "a"}, "no 'status'"),
        ({"clip": "a", "name": "a", "status": "fine"}, "status is 'fine'"),
        ({"clip": "a", "name": "a", "status": "ok", "proposals": [{"task": "add"}]}, "holds what is no proposal"),
        ({"clip": "a", "name": "a", "status": "ok", "proposals": [{"task": "x", "instruction": "y"}]}, "no proposal"),
    ):
        file.write_text(json.dumps(line) + "\n")
        with pytest.raises(InputError, match=f"line 1: .*{said}"):
            read_proposals(file)
