"""Runs a graph of this folder on a ComfyUI server and saves its files; needs Python's standard library only.

python client.py try_image.json --output results [--url http://127.0.0.1:8188 --url http://127.0.0.1:8189]
python client.py paper_video.json --upload 5.file=clip.mp4 --set 6.instruction="make it snow" --output results
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any


class Refused(RuntimeError):
    """The server refused the graph, or a node failed."""


class Client:
    """One server, by its address."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise Refused(f"{url} is no http address; give one like http://127.0.0.1:8188")
        self.url = url.rstrip("/")

    def request(self, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{path}: {error.code} {error.read().decode(errors='replace')}") from error
        except urllib.error.URLError as error:
            raise Refused(f"no ComfyUI answers at {self.url} ({error.reason}); start it, or give --url") from error

    def upload(self, path: Path) -> str:
        """Puts a picture or clip into the server's input folder; the name that Load Image and Load Video take."""
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        answer = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={mark}"))
        return "/".join(part for part in (answer["subfolder"], answer["name"]) if part)

    def run(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Queues a graph, waits, and returns its outputs by node."""
        body = json.dumps({"prompt": graph, "client_id": uuid.uuid4().hex}).encode()
        answer = json.loads(self.request("/prompt", body))
        prompt = answer["prompt_id"]
        if answer.get("node_errors"):  # the host would run the rest of the graph
            self.request("/queue", json.dumps({"delete": [prompt]}).encode())
            raise Refused(f"/prompt: {json.dumps(answer['node_errors'])}")
        while (entry := self.finished(prompt)) is None:
            if prompt not in self.jobs() and self.finished(prompt) is None:
                raise Refused(
                    "the server no longer has this job (restarted, or removed from its queue); queue it again"
                )
            time.sleep(0.5)
        if entry["status"]["status_str"] != "success":
            messages = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
            raise Refused(messages[0]["exception_message"].strip() if messages else "interrupted")
        return entry["outputs"]

    def finished(self, prompt: str) -> dict[str, Any] | None:
        """The history entry of a job that has ended, well or not."""
        return json.loads(self.request(f"/history/{prompt}")).get(prompt)

    def jobs(self) -> list[str]:
        """Ids of the jobs that are running or queued."""
        queue = json.loads(self.request("/queue"))
        return [job[1] for job in queue["queue_running"] + queue["queue_pending"]]

    def save(self, outputs: dict[str, Any], folder: Path) -> list[Path]:
        """Saves the files of type output (previews are left out)."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = []
        for ui in outputs.values():
            for record in (r for values in ui.values() if isinstance(values, list) for r in values):
                if isinstance(record, dict) and record.get("type") == "output":
                    saved.append(folder / record["filename"])
                    saved[-1].write_bytes(self.request("/view?" + urllib.parse.urlencode(record)))
        return saved


def idlest(urls: list[str]) -> Client:
    """The server with the shortest queue; those that do not answer are passed over unless none does."""
    counts, refused = [], []
    for number, client in enumerate(map(Client, urls)):
        try:
            counts.append((len(client.jobs()), number, client))
        except Refused as error:
            refused.append(error)
    if not counts:
        raise refused[0]
    return min(counts)[2]


def assignment(text: str) -> tuple[str, str, str]:
    """NODE.INPUT=VALUE -> its parts."""
    target, _, value = text.partition("=")
    node, _, name = target.partition(".")
    if not (node and name and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NODE.INPUT=VALUE, like 6.instruction='make it snow'")
    return node, name, value


def apply(graph: dict[str, Any], node: str, name: str, value: Any) -> None:
    """Sets a widget of the graph, in the type it has there."""
    if node not in graph or name not in graph[node]["inputs"] or isinstance(graph[node]["inputs"][name], list):
        raise Refused(f"the graph has no input {node}.{name} to set; its nodes and inputs are in the JSON file")
    old = graph[node]["inputs"][name]
    number = isinstance(old, int | float) and not isinstance(old, bool)
    graph[node]["inputs"][name] = json.loads(value) if number or isinstance(old, bool) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path, help="API-format graph")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the files")
    parser.add_argument("--url", action="append", help="a ComfyUI server; of several, the one with the shortest queue")
    parser.add_argument("--set", type=assignment, action="append", default=[], metavar="NODE.INPUT=VALUE")
    parser.add_argument("--upload", type=assignment, action="append", default=[], metavar="NODE.INPUT=FILE")
    given = parser.parse_args()
    try:
        client, graph = (
            idlest(given.url or ["http://127.0.0.1:8188"]),
            json.loads(given.graph.read_text(encoding="utf-8")),
        )
        for node, name, value in given.set:
            apply(graph, node, name, value)
        for node, name, file in given.upload:
            apply(graph, node, name, client.upload(Path(file)))
        for path in client.save(client.run(graph), given.output):
            sys.stdout.write(f"{path}\n")
    except (Refused, OSError, json.JSONDecodeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
