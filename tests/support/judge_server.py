"""A judge of the tests: a local HTTP server that speaks chat completions and answers as it is told.

`answers` are given one request after the other, the last one for ever: text, a (status, body) pair, "cut" for a body
that breaks off, a number of seconds to wait before the next one, or a function of the request.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Any


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.seen, self.lock = list(answers), list[dict[str, Any]](), threading.Lock()
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def next(self, request: dict[str, Any]) -> Answer:
        with self.lock:
            self.seen.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            self.answer(server.next({**body, "path": self.path, "key": self.headers.get("Authorization")}), body)
        finally:
            with server.lock:
                server.under_way -= 1

    def answer(self, answer: Answer, request: dict[str, Any]) -> None:
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        if isinstance(answer, float):
            time.sleep(answer)
            answer = self.server.next(request)
        if isinstance(answer, str) and answer != "cut":
            answer = (200, completion(answer))
        broken = answer == "cut"
        status, body = (200, completion("{}")) if broken else answer
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if broken else data)
        self.close_connection = True


def completion(text: str | None, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "judge-2026-01-01", "choices": [choice]}


def scores(instruct: Any = 8, quality: Any = 7, preservation: Any = 9, **more: Any) -> str:
    return json.dumps(
        {
            "instruction": "make it blue",
            "instruct follow score": instruct,
            "quality score": quality,
            "preservation score": preservation,
            "reason": "it is blue",
            **more,
        }
    )


@contextmanager
def serve(*answers: Answer) -> Iterator[JudgeServer]:
    server = JudgeServer(list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
