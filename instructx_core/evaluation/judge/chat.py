"""A model behind an address that speaks OpenAI's chat completions: OpenAI, Gemini's endpoint, vLLM, SGLang.

Place: question -> chat -> judge/client.py, bench/propose.py. The one place of the library that opens a network
connection, and only to the address that the user gave. A reply that cannot be read is asked for again, up to `tries`
times; then it is "unparsed". The openai client itself repeats what failed on the way (429, 5xx, time-outs).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from ...errors import InputError
from .question import Answer, ModelQuestion
from .replies import Unreadable

if TYPE_CHECKING:
    from openai import OpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Whom to ask and how. url: the base address, ending in /v1. key: name of the environment variable that holds it.

    name: of the judge in scores, default the model's. rpm: requests a minute at most. tries: askings for a reply that
    can be read. retries: of a request that failed. max_requests: of this run; the budget. structured: ask the server
    to hold to the schema of the reply; auto: where it can.
    """

    url: str
    model: str
    name: str | None = None
    key: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    concurrency: int = 4
    rpm: float | None = None
    tries: int = 3
    retries: int = 5
    timeout: float = 120.0
    max_requests: int | None = None
    max_tokens: int | None = None
    structured: str = "auto"

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--judge {self.url!r} is no address; give one like http://localhost:8000/v1")
        if not self.model.strip():
            raise InputError("the model to ask has no name; give the one that the server knows it by")
        if self.structured not in ("auto", "off"):
            raise InputError(f"structured is {self.structured!r}; use auto or off")
        for name, least in (("concurrency", 1), ("tries", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; use at least {least}")
        for name in ("rpm", "timeout", "max_requests", "max_tokens"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; it must be positive")
        if not 0.0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature:g}; use 0 or more")

    def note(self) -> dict[str, Any]:
        """What decides the scores; not how fast they are asked for."""
        names = ("model", "temperature", "max_tokens", "structured")
        return {name: getattr(self, name) for name in names}


class Pace:
    """At most `rpm` calls a minute, evenly, from any thread."""

    def __init__(self, rpm: float | None) -> None:
        self.gap, self.next, self.lock = 0.0 if rpm is None else 60.0 / rpm, 0.0, threading.Lock()

    def wait(self) -> None:
        with self.lock:
            now = time.monotonic()
            start, self.next = max(now, self.next), max(now, self.next) + self.gap
        if start > now:
            time.sleep(start - now)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. refused: the judge's or the server's reason; cut: at the limit of tokens."""

    text: str
    model: str
    finish: str
    refused: str | None
    retries: int
    seconds: float

    @property
    def cut(self) -> bool:
        return self.finish == "length"


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Answer]):
    """What became of one question. status: ok, unparsed, refused; answer: where it is ok. attempts: every reply."""

    status: str
    answer: Answer | None
    reason: str
    attempts: list[dict[str, Any]]


class ChatClient:
    """Asks questions, from any thread. what: of messages, "the judge"."""

    def __init__(self, settings: ClientSettings, what: str) -> None:
        self.settings, self.what = settings, what
        self.pace, self.lock, self.requests = Pace(settings.rpm), threading.Lock(), 0
        self.structured = settings.structured == "auto"
        self._client: OpenAI | None = None

    def ask(self, question: ModelQuestion[Answer]) -> Exchange[Answer]:
        """Until a reply can be read. Raises InputError where the server cannot be used at all."""
        attempts: list[dict[str, Any]] = []
        reason = ""
        for _ in range(self.settings.tries):
            reply = self._request(question)
            note = {"reply": reply.text, "model": reply.model, "finish": reply.finish}
            attempts.append({**note, "retries": reply.retries, "seconds": round(reply.seconds, 3)})
            if reply.refused is not None:
                attempts[-1]["refused"] = reply.refused
                return Exchange("refused", None, reply.refused, attempts)
            try:
                if reply.cut:
                    raise Unreadable(f"the reply was cut at {self.settings.max_tokens or 'the'} tokens")
                return Exchange("ok", question.read(reply.text), "", attempts)
            except Unreadable as error:
                reason = str(error)
                attempts[-1]["unreadable"] = reason
        return Exchange("unparsed", None, reason, attempts)

    def _request(self, question: ModelQuestion[Any]) -> Reply:
        """One reply. Raises InputError for an address, key or model that will not do, and for a spent budget."""
        import openai

        with self.lock:
            budget = self.settings.max_requests
            if budget is not None and self.requests >= budget:
                raise InputError(f"the budget of {budget} requests is spent; run again to go on from here")
            self.requests += 1
        start, structured = time.monotonic(), self.structured and question.schema is not None
        try:
            return self._send(question, structured, start)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if structured and not _filtered(error):
                self.structured = False  # a server that knows no schemas, or not this one: as text from here on
                return self._request(question)
            return Reply("", "", "error", f"the server refused the request: {_words(error)}", 0, _since(start))
        except openai.APIStatusError as error:
            if error.status_code == 413:
                return Reply("", "", "error", f"too large for the server: {_words(error)}", 0, _since(start))
            raise InputError(self._cannot(f"answers {error.status_code}: {_words(error)}")) from None
        except openai.APIConnectionError as error:
            raise InputError(self._cannot(f"does not answer ({error.__cause__ or error})")) from None
        except openai.APIError as error:  # a body that is no reply
            raise InputError(self._cannot(f"answers what is no chat completion ({error.message})")) from None

    def _send(self, question: ModelQuestion[Any], structured: bool, start: float) -> Reply:
        settings, extra = self.settings, dict[str, Any]()
        if structured:
            schema = {"name": question.name, "strict": True, "schema": question.schema}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        if settings.max_tokens is not None:
            extra["max_tokens"] = settings.max_tokens
        raw = self.client.chat.completions.with_raw_response.create(
            model=settings.model, messages=question.messages(), temperature=settings.temperature, **extra
        )
        try:
            answer: Any = raw.parse()
        except ValueError:  # no JSON, under its name
            answer = None
        choices = getattr(answer, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(choice, "message", None)  # the client checks no reply against its own types
        text = message_text(getattr(message, "content", None))
        if message is None or text is None:
            raise InputError(self._cannot("answers what is no chat completion"))
        finish, refused = getattr(choice, "finish_reason", None) or "", getattr(message, "refusal", None)
        if finish == "content_filter":
            refused = refused or "the server's content filter"
        words = None if refused is None else str(refused)
        model = str(getattr(answer, "model", None) or "")
        return Reply(text, model, str(finish), words, raw.retries_taken, _since(start))

    def _cannot(self, what: str) -> str:
        return f"{self.what} at {self.settings.url} {what}; what is done is kept, run again to go on"

    @property
    def client(self) -> OpenAI:
        with self.lock:
            if self._client is None:
                self._client = connect(self.settings, self.pace)
            return self._client


def message_text(content: object) -> str | None:
    """Of a message: text, nothing, or a list of parts, as some servers write it. None for what is none of these."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [part if isinstance(part, Mapping) else vars(part) if hasattr(part, "__dict__") else {} for part in content]
    return "".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))


def connect(settings: ClientSettings, pace: Pace) -> OpenAI:
    """The client; each of its requests waits for its turn, repeated ones as well. A server of one's own needs no key.

    Raises InputError without the openai package.
    """
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError:
        raise InputError("asking a model needs the openai package; pip install instructx[eval]") from None
    http = DefaultHttpxClient(event_hooks={"request": [lambda _: pace.wait()]})
    return OpenAI(
        base_url=settings.url,
        api_key=os.environ.get(settings.key) or "none",
        timeout=settings.timeout,
        max_retries=settings.retries,
        http_client=http,
    )


def _filtered(error: Any) -> bool:
    return getattr(error, "code", None) == "content_filter"


def _words(error: Any) -> str:
    """The server's own sentence, in one line."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or error.message).split())[:300]


def _since(start: float) -> float:
    return time.monotonic() - start
