"""The judge client against a local server: what is kept, what is asked again, what ends the run, what is recorded."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, completion, scores, serve

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.judge.chat import ClientSettings
from instructx_core.evaluation.judge.client import ModelJudge
from instructx_core.evaluation.judge.pictures import Viewing
from instructx_core.evaluation.judge.run import TRANSCRIPTS, JudgeCase, judge_outputs
from instructx_core.evaluation.judge.vie import Vie
from instructx_core.evaluation.outputs import Output, OutputFile
from instructx_core.evaluation.report.contents import read_report
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.evaluation.scores import SCORES, Score
from instructx_core.media.files import write_image, write_video

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    ramp_FHWC = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None] * 12, (20, 32, 48, 3))
    write_video(folder / "before.mp4", ramp_FHWC, 10)
    write_video(folder / "after.mp4", 255 - ramp_FHWC, 10)
    write_image(folder / "reference.png", np.full((40, 30, 3), 90, np.uint8))
    return folder


def case(media: Path, reference: bool = False) -> JudgeCase:
    item = EditRecord(
        "a",
        "add",
        "video",
        "make it blue",
        Locator("before.mp4"),
        reference=Locator("reference.png") if reference else None,
    )
    return JudgeCase(item, "ours", media / "after.mp4", media)


def asked(server: JudgeServer, media: Path, viewing: Viewing | None = None, **settings: Any) -> tuple[Score, Any]:
    client = ClientSettings(url=server.url, model="judge", **{"timeout": 5.0, **settings})
    return ModelJudge(client, Vie(), viewing or Viewing()).judge(case(media))


def test_a_good_reply(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    with serve(scores()) as server:
        score, transcript = asked(server, media, key="MY_KEY")
    assert score.status == "ok" and score.reason == "it is blue" and score.transcript == "a/ours/judge/0"
    assert score.dimensions == {"instruction": 8.0, "quality": 7.0, "preservation": 9.0}
    (request,) = server.seen
    assert request["path"] == "/v1/chat/completions" and request["key"] == "Bearer s3cret"
    assert (request["model"], request["temperature"]) == ("judge", 0.0)
    assert request["messages"][0]["content"].startswith("# **Role**")
    content = request["messages"][1]["content"]
    assert content[0]["text"] == "The user's instruction: make it blue"
    assert content[1]["text"] == "The original video (first video) frame 1/8"
    assert sum(part["type"] == "image_url" for part in content) == 16
    text = json.dumps(transcript)
    assert "s3cret" not in text and "base64" not in text
    (question,) = transcript["questions"]
    assert question["attempts"][0]["reply"] == scores() and question["attempts"][0]["model"] == "judge-2026-01-01"
    assert question["sent"][1] == {**question["sent"][1], "size": [32, 48], "mime": "image/png"}
    assert transcript["settings"]["frames"] == 8 and transcript["settings"]["temperature"] == 0.0


@pytest.mark.parametrize("failure", [(429, {"error": {"message": "slow down"}}), (500, "oops"), "cut"])
def test_what_fails_on_the_way_is_repeated(media: Path, failure: Any) -> None:
    with serve(failure, failure, scores()) as server:
        score, transcript = asked(server, media)
    assert score.status == "ok" and len(server.seen) == 3
    assert transcript["questions"][0]["attempts"][0]["retries"] == 2


def test_a_slow_server_is_not_waited_for_without_end(media: Path) -> None:
    with serve(3.0, scores()) as server, pytest.raises(InputError, match=r"does not answer .*run again to go on"):
        asked(server, media, timeout=0.3, retries=0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("I think that it is quite good.", "no JSON object"),
        ("编辑效果很好,我给八分。", "no JSON object"),
        (scores(instruct=12), "out of 1 to 10"),
        (lambda request: (200, completion(scores()[:60], finish="length")), "the reply was cut"),
    ],
    ids=["prose", "language", "range", "cut"],
)
def test_what_cannot_be_read_is_asked_again_and_then_unparsed(
    media: Path, bad: str | Callable[[Any], Any], said: str
) -> None:
    with serve(bad, bad, scores()) as server:
        score, transcript = asked(server, media)
    assert score.status == "ok" and said in transcript["questions"][0]["attempts"][1]["unreadable"]
    with serve(bad) as server:
        score, transcript = asked(server, media)
    assert (score.status, dict(score.dimensions), len(server.seen)) == ("unparsed", {}, 3)
    assert said in score.reason and len(transcript["questions"][0]["attempts"]) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        (200, completion(None, refusal="I can't look at this.")),
        (200, completion("", finish="content_filter")),
        (400, {"error": {"message": "violates the policy", "code": "content_filter"}}),
        (413, {"error": {"message": "too many pictures"}}),
    ],
)
def test_a_refusal_is_a_line_of_its_own(media: Path, refusal: tuple[int, Any]) -> None:
    with serve(refusal) as server:
        score, transcript = asked(server, media)
    assert score.status == "refused" and score.reason and len(server.seen) == 1
    assert transcript["questions"][0]["attempts"][0]["refused"] == score.reason


def test_a_server_without_schemas_is_asked_as_text(media: Path) -> None:
    def answer(request: dict[str, Any]) -> Any:
        if "response_format" in request:
            return 400, {"error": {"message": "response_format is not supported"}}
        return scores()

    with serve(answer) as server:
        client = ClientSettings(url=server.url, model="judge")
        judge = ModelJudge(client, Vie(), Viewing(frames=2))
        for _ in range(2):
            score, transcript = judge.judge(case(media))
            assert score.status == "ok" and transcript is not None and not transcript["settings"]["structured"]
    assert ["response_format" in request for request in server.seen] == [True, False, False]
    schema = server.seen[0]["response_format"]["json_schema"]["schema"]
    assert "instruct follow score" in schema["required"] and "similarity score" not in schema["required"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": {"message": "wrong key"}}), "answers 401: wrong key"),
        ((404, {"error": {"message": "no model judge"}}), "answers 404: no model judge"),
        ((200, "<html>hello</html>"), "answers what is no chat completion"),
        ((200, {"hello": 1}), "answers what is no chat completion"),
        ((200, {**completion(""), "choices": {"0": "yes"}}), "answers what is no chat completion"),
        ((200, {**completion(""), "choices": [{"text": "8"}]}), "answers what is no chat completion"),
        ((200, {**completion(""), "choices": [{"message": {"content": {"score": 8}}}]}), "what is no chat completion"),
        ((500, "oops"), "answers 500"),
    ],
)
def test_a_server_that_will_not_do_ends_the_run(media: Path, answer: Any, said: str) -> None:
    with serve(answer) as server, pytest.raises(InputError, match=said):
        asked(server, media, retries=0)


def test_a_message_in_parts_is_read(media: Path) -> None:
    body = completion(None)
    body["choices"][0]["message"]["content"] = [
        {"type": "text", "text": scores()[:30]},
        {"type": "text", "text": scores()[30:]},
    ]
    body["model"] = None
    with serve((200, body)) as server:
        assert asked(server, media)[0].status == "ok"


def test_nobody_there(media: Path) -> None:
    with serve("") as server:
        url = server.url
    with pytest.raises(InputError, match="does not answer"):
        ModelJudge(ClientSettings(url=url, model="judge", retries=0), Vie(), Viewing()).judge(case(media))


def test_a_reference_is_shown_and_asked_for(media: Path) -> None:
    with serve(scores(**{"similarity score": 6})) as server:
        client = ClientSettings(url=server.url, model="judge")
        score, _ = ModelJudge(client, Vie(), Viewing(frames=3, side=24)).judge(case(media, reference=True))
    assert score.dimensions["similarity"] == 6
    (request,) = server.seen
    assert "reference base instruct editing" in request["messages"][0]["content"]
    labels = [part["text"] for part in request["messages"][1]["content"] if part["type"] == "text"]
    assert labels[1:3] == ["The reference image", "The original video (first video) frame 1/3"]


def test_clips_as_files(media: Path) -> None:
    with serve(scores()) as server:
        asked(server, media, viewing=Viewing(video="native"))
    kinds = [part["type"] for part in server.seen[0]["messages"][1]["content"]]
    assert kinds == ["text", "text", "video_url", "text", "video_url"]


def test_an_output_that_is_no_picture_is_missing(media: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    with serve(scores()) as server:
        judge = ModelJudge(ClientSettings(url=server.url, model="judge"), Vie(), Viewing())
        score, transcript = judge.judge(dataclasses.replace(case(media), output=broken))
        assert score.status == "missing" and "broken.mp4" in score.reason and transcript is None
        lost = dataclasses.replace(case(media), folder=tmp_path)
        with pytest.raises(InputError, match=r"before\.mp4"):  # a source that is not there is no fault of the output
            judge.judge(lost)
    assert not server.seen


@pytest.fixture
def run(media: Path, tmp_path: Path) -> RunFolder:
    """Six outputs of one editor."""
    items = [
        dataclasses.replace(case(media).item, id=f"i{n}", source=Locator(str(media / "before.mp4"))) for n in range(6)
    ]
    folder = RunFolder(tmp_path)
    folder.prepare({"name": "vie"})
    folder.write(items)
    (tmp_path / "ours").mkdir()
    file = OutputFile(tmp_path / "ours")
    file.start()
    file.add(Output(item.id, "ours", str(media / "after.mp4")) for item in items)
    return folder


def judge_of(server: JudgeServer, **settings: Any) -> ModelJudge:
    return ModelJudge(ClientSettings(url=server.url, model="judge", **settings), Vie(), Viewing(frames=2))


def test_several_at_once_and_every_sample(run: RunFolder) -> None:
    three = threading.Barrier(3)

    def together(_: Any) -> str:
        three.wait(timeout=60)  # raises where fewer come at a time
        return scores()

    with serve(together) as server:
        found = judge_outputs(run, judge_of(server, concurrency=3), ["ours"], run.items(), samples=2)
    assert len(found) == len(server.seen) == 12 and {s.key for s in found} == {
        (f"i{n}", "ours", "judge", sample) for n in range(6) for sample in (0, 1)
    }
    assert server.most_under_way == 3
    lines = [json.loads(line) for line in (run.path / TRANSCRIPTS).read_text().splitlines()]
    assert {line["id"] for line in lines} == {score.transcript for score in found}


def test_an_output_that_was_made_anew_is_judged_anew(run: RunFolder, media: Path) -> None:
    items, output = run.items(), run.path / "ours" / "i0.mp4"
    with serve(scores()) as server:

        def asked() -> int:
            judge_outputs(run, judge_of(server), ["ours"], items)
            return len(server.seen)

        assert asked() == asked() == 6
        shutil.copyfile(media / "after.mp4", output)
        OutputFile(run.path / "ours").add([Output("i0", "ours", "i0.mp4")])
        assert asked() == 6, "the same bytes in another place"
        shutil.copyfile(media / "before.mp4", output)
        assert read_report(run.path).left_out == {"ours": 1}
        assert asked() == 7 and read_report(run.path).left_out == {}


def test_another_model_under_the_judges_name_is_refused(run: RunFolder) -> None:
    """As a server of one's own after an exchanged checkpoint, or a name like gpt-4o after an update."""
    items, other = run.items(), {**completion(scores()), "model": "judge-2026-06-01"}
    with serve(scores()) as server:
        judge_outputs(run, judge_of(server), ["ours"], items[:1])
    kept = (run.path / SCORES).read_bytes()
    said = "now answers as judge-2026-06-01, its scores here are of judge-2026-01-01"
    with serve((200, other)) as server:
        with pytest.raises(InputError, match=said):
            judge_outputs(run, judge_of(server), ["ours"], items)
        assert (run.path / SCORES).read_bytes() == kept
        found = judge_outputs(run, judge_of(server, name="june"), ["ours"], items)
        assert {score.status for score in found} == {"ok"} and len(found) == 6


def test_a_spent_budget_loses_nothing(run: RunFolder) -> None:
    with serve(scores()) as server:
        with pytest.raises(InputError, match=r"budget of 4 requests is spent; run again"):
            judge_outputs(run, judge_of(server, concurrency=2, max_requests=4), ["ours"], run.items())
        found = judge_outputs(run, judge_of(server, concurrency=2), ["ours"], run.items())
    assert len(found) == len(server.seen) == 6


def test_a_server_that_dies_loses_nothing(run: RunFolder) -> None:
    dead = (503, {"error": {"message": "going down"}})
    with serve(scores(), scores(), dead) as server, pytest.raises(InputError, match="answers 503"):
        judge_outputs(run, judge_of(server, concurrency=1, retries=0), ["ours"], run.items())
    with serve(scores()) as server:
        assert len(judge_outputs(run, judge_of(server), ["ours"], run.items())) == 6
    assert len(server.seen) == 4


def test_requests_a_minute(run: RunFolder) -> None:
    with serve(scores()) as server:
        start = time.monotonic()
        judge_outputs(run, judge_of(server, concurrency=6, rpm=1200), ["ours"], run.items())
        assert time.monotonic() - start >= 5 * 60 / 1200


def test_repeated_requests_count_among_those_of_a_minute(media: Path) -> None:
    slow = (429, {"error": {"message": "slow down"}})
    with serve(slow, slow, slow, scores()) as server:
        start = time.monotonic()
        score, _ = asked(server, media, rpm=120)
        assert time.monotonic() - start >= 3 * 60 / 120
    assert score.status == "ok" and len(server.seen) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "is no address"),
        ({"tries": 0}, "tries is 0"),
        ({"rpm": 0.0}, "rpm is 0"),
        ({"rpm": float("nan")}, "rpm is nan"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"model": " "}, "the model to ask has no name"),
        ({"structured": "yes"}, "use auto or off"),
        ({"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ClientSettings(**{"url": "http://x/v1", "model": "m", **settings})
