"""Any other editor: a command line of the user's, started once an item.

    --command "my-editor --video {source} --prompt {instruction} --out {output} --seed {seed}"

Place: items -> command -> outputs. The line is split once, as a shell does, and the parts are filled in after that, so
that no instruction can become a command; no shell runs it. What it must say is {source}, {instruction} and {output}.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...digests import file_digest, model_files_digest
from ...errors import InputError
from .run import EditTask

NAMES = ("source", "instruction", "output", "reference", "mask", "seed", "id", "task")
OPTIONAL = ("reference", "mask")  # what not every item has
NEEDED = ("source", "instruction", "output")
SCRIPTS = (".py", ".sh", ".bat", ".toml", ".yaml", ".yml", ".json")  # what a program is made of, not what it writes
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
FIELD = re.compile(r"\{(\w+)\}")


class Command:
    """timeout: seconds an item may take. An argument that holds {reference} or {mask} is left out, with a flag before
    it, of items that have none."""

    def __init__(self, line: str, name: str, timeout: float = 3600.0) -> None:
        self.name, self.line, self.timeout = name, line, timeout
        if not 0.0 < timeout < math.inf:
            raise InputError(f"--timeout {timeout:g}: give the seconds that an item may take, more than 0")
        try:
            self.parts = shlex.split(line)
        except ValueError as error:
            raise InputError(f"--command {line!r}: cannot be split ({error}); check the quotes") from None
        used = set(FIELD.findall(line))
        unknown, missing = sorted(used - set(NAMES)), [field for field in NEEDED if field not in used]
        if unknown:
            known = ", ".join(f"{{{field}}}" for field in NAMES)
            raise InputError(f"--command: {{{unknown[0]}}} is unknown; use {known}")
        if missing:
            raise InputError(f"--command: says nothing of {', '.join(f'{{{field}}}' for field in missing)}")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"kind": "command", "command": self.line, "files": self.files()}

    def files(self) -> dict[str, str]:
        """Part of the line -> digest, of the program, and of scripts, configurations and weights that it names: an
        exchanged one is another editor. Whatever else they read is unknown here."""
        program = shutil.which(self.parts[0])
        named = [(self.parts[0], Path(program))] if program else []
        named += [(part, Path(part)) for part in self.parts[1:] if "{" not in part]
        named += [(part, Path(part.partition("=")[2])) for part in self.parts[1:] if "=" in part and "{" not in part]
        found = dict[str, str]()
        for part, path in named:
            if os.path.isfile(path) and (part == self.parts[0] or path.suffix.lower() in (*SCRIPTS, *WEIGHTS)):
                found[part] = _content(path)
            elif os.path.isdir(path) and (files := sorted(f for f in path.rglob("*") if f.suffix.lower() in WEIGHTS)):
                found[part] = model_files_digest(files)[:16]
        return found

    def edit(self, task: EditTask) -> None:
        if task.reference is not None and "{reference}" not in self.line:
            raise InputError("the item has a reference picture, and --command no {reference}")
        arguments = self.arguments(task)
        try:
            code, errors = run_program(arguments, self.timeout)
        except OSError as error:
            raise InputError(f"{arguments[0]}: cannot be started ({error.strerror}); check --command") from None
        except subprocess.TimeoutExpired:
            raise InputError(f"{arguments[0]}: took more than {self.timeout:g} s and was stopped") from None
        if code != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            raise InputError(f"{arguments[0]}: ended with {code}: {lines[-1] if lines else 'no message'}")

    def arguments(self, task: EditTask) -> list[str]:
        """The line for one item."""
        values = {
            "source": str(task.source.absolute()),
            "instruction": task.item.instruction,
            "output": str(task.output.absolute()),
            "seed": str(task.seed),
            "id": task.item.id,
            "task": task.item.task,
        }
        files = {"reference": task.reference, "mask": task.mask}
        values |= {name: str(path.absolute()) for name, path in files.items() if path is not None}
        found = list[str]()
        for part in self.parts:
            if any(f"{{{name}}}" in part and name not in values for name in OPTIONAL):
                if found and found[-1].startswith("-") and FIELD.fullmatch(part):
                    found.pop()
                continue
            found.append(FIELD.sub(lambda match: values[match[1]], part))
        return found


def run_program(arguments: Sequence[str], timeout: float) -> tuple[int, bytes]:
    """Exit code and stderr of a program; what it has started itself ends with it at the time-out, and at an interrupt.

    Raises OSError where it cannot be started, TimeoutExpired.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes, start_new_session=True) as process:
        try:
            errors = process.communicate(timeout=timeout)[1]
        except BaseException:
            if os.name == "nt":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, errors


def _content(path: Path) -> str:
    """Digest of a file; of one of more than 1 GiB its ends count, as everywhere for weights."""
    return (file_digest(path) if path.suffix in SCRIPTS else model_files_digest([path]))[:16]
