"""Any other editor: a command line of the user's, started once an item.

    --command "my-editor --video {source} --prompt {instruction} --out {output} --seed {seed}"

Place: items -> command -> outputs. The line is split once, as a shell does, and the parts are filled in after that, so
that no instruction can become a command; no shell runs it. What it must say is {source}, {instruction} and {output}.
"""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from .run import EditTask

NAMES = ("source", "instruction", "output", "reference", "seed", "id", "task")
NEEDED = ("source", "instruction", "output")
FIELD = re.compile(r"\{(\w+)\}")


class Command:
    """timeout: seconds an item may take. An argument that holds {reference} is left out, with a flag before it, of
    items that have none."""

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
        return {"kind": "command", "command": self.line}

    def edit(self, task: EditTask) -> None:
        if task.reference is not None and "{reference}" not in self.line:
            raise InputError("the item has a reference picture, and --command no {reference}")
        arguments = self.arguments(task)
        try:
            done = subprocess.run(arguments, capture_output=True, timeout=self.timeout, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise InputError(f"{arguments[0]}: cannot be started ({error.strerror}); check --command") from None
        except subprocess.TimeoutExpired:
            raise InputError(f"{arguments[0]}: took more than {self.timeout:g} s and was stopped") from None
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise InputError(f"{arguments[0]}: ended with {done.returncode}: {lines[-1] if lines else 'no message'}")

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
        if task.reference is not None:
            values["reference"] = str(task.reference.absolute())
        found = list[str]()
        for part in self.parts:
            if "{reference}" in part and task.reference is None:
                if found and found[-1].startswith("-") and part == "{reference}":
                    found.pop()
                continue
            found.append(FIELD.sub(lambda match: values[match[1]], part))
        return found
