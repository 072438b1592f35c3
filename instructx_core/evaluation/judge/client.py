"""A judge behind an address: an MLLM that is asked a benchmark's questions about each output.

Place: protocol -> questions -> chat -> scores. What was sent and every reply go into the transcript.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..scores import Score
from .chat import ChatClient, ClientSettings
from .pictures import Unshowable, Viewing
from .question import JudgeProtocol
from .run import JudgeCase


class ModelJudge:
    """An MLLM that is asked a benchmark's questions (judge/run.py::Judge)."""

    def __init__(self, settings: ClientSettings, protocol: JudgeProtocol, viewing: Viewing) -> None:
        self.settings_of_client, self.protocol, self.viewing = settings, protocol, viewing
        self.chat = ChatClient(settings, "the judge")

    @property
    def name(self) -> str:
        return self.settings_of_client.name or self.settings_of_client.model

    @property
    def concurrency(self) -> int:
        return self.settings_of_client.concurrency

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the scores; scores of two settings are never mixed under one name."""
        view = {"frames": self.viewing.frames, "side": self.viewing.side, "video": self.viewing.video}
        return {"protocol": self.protocol.name, **self.settings_of_client.note(), **view}

    def judge(self, case: JudgeCase) -> tuple[Score, Mapping[str, Any] | None]:
        """Raises InputError where the server cannot be used at all."""
        base = (case.item.id, case.editor, self.name)
        try:
            questions = self.protocol.questions(case, self.viewing)
        except Unshowable as error:
            if error.path != case.output:
                raise
            # an output that is no picture is as if there were none
            return Score(*base, {}, "missing", str(error), sample=case.sample), None
        identity = "/".join([*base, str(case.sample)])
        answers, reasons, asked = list[dict[str, float]](), list[str](), list[dict[str, Any]]()
        status = "ok"
        for question in questions:
            exchange = self.chat.ask(question)
            asked.append({**question.note(), "attempts": exchange.attempts})
            if exchange.answer is None:
                status, reasons = exchange.status, [exchange.reason]
                break
            answers.append(exchange.answer[0])
            reasons.append(exchange.answer[1])
        names = ("item", "editor", "judge")
        transcript = {"id": identity, **dict(zip(names, base, strict=True)), "sample": case.sample}
        transcript |= {"settings": {**self.settings, "structured": self.chat.structured}, "questions": asked}
        if status != "ok":
            return Score(*base, {}, status, reasons[0], identity, case.sample), transcript
        why = "\n".join(reason for reason in reasons if reason)
        return Score(*base, self.protocol.combine(answers), "ok", why, identity, case.sample), transcript
