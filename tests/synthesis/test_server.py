"""An MLLM behind a local server as writer and judge: what it is shown and asked, and what its answers become."""

import json

import numpy as np
import pytest
from judge_server import scores, serve

from instructx_core.errors import InputError
from instructx_core.media.files import write_video
from instructx_core.synthesis.models.server import ServerJudge, ServerWriter
from instructx_core.synthesis.terms.roles import Unplayable

pytest.importorskip("openai")
FRAMES = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)


def pictures(request):
    return sum(part["type"] == "image_url" for part in request["messages"][-1]["content"])


def test_it_names_things_without_their_articles():
    with serve(json.dumps({"things": ["A man in a red coat.", "the dog"]})) as server:
        assert list(ServerWriter(server.url, "mllm").things(FRAMES)) == ["man in a red coat", "dog"]
    assert pictures(server.seen[0]) == 4


def test_it_writes_instructions_of_both_sides_and_a_draft():
    with serve('Here: {"instruction": "Take the dog away."}') as server:
        text = ServerWriter(server.url, "mllm").instruction(FRAMES, FRAMES, "remove", "Remove the dog.")
    assert text == "Take the dog away."
    assert pictures(server.seen[0]) == 8
    assert "Remove the dog." in server.seen[0]["messages"][-1]["content"][0]["text"]


def test_it_thinks_of_a_swap():
    said = {"other": "a fox", "edit": "replace the dog by a fox", "back": "Replace the fox by the dog."}
    with serve(json.dumps(said)) as server:
        words = ServerWriter(server.url, "mllm").swap(FRAMES, "dog", "key")
    assert (words.edit, words.other, words.back) == (said["edit"], said["other"], said["back"])


def test_it_judges_pairs_by_the_papers_questions(tmp_path):
    for name in ("source", "target"):
        write_video(tmp_path / f"{name}.mp4", FRAMES, 8)
    with serve(scores()) as server:
        found = ServerJudge(server.url, "mllm").judge(tmp_path / "source.mp4", tmp_path / "target.mp4", "make it blue")
    assert found == {"instruction": 8.0, "quality": 7.0, "preservation": 9.0}


def test_an_answer_that_cannot_be_read_is_the_clips_and_a_server_that_is_gone_the_runs():
    with serve("I cannot say.") as server, pytest.raises(InputError, match="no answer that can be read") as said:
        ServerWriter(server.url, "mllm").things(FRAMES)
    assert not isinstance(said.value, Unplayable)
    with serve((401, {"error": {"message": "no such key"}})) as server, pytest.raises(Unplayable, match="no such key"):
        ServerWriter(server.url, "mllm").things(FRAMES)
