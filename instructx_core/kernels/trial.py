"""The self-test in a process of its own: a kernel that faults ends that process, not the host with the artist's work.

Place in the data flow: `select.py` asks `run_trials` the first time it meets a card; the child is this Python on the
card that the driver's uuid names, importing torch and this package alone. Its CUDA context is gone when the call ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import selftest
from .errors import KernelError
from .loader import runtime, sources_digest

logger = logging.getLogger("instructx")

SECONDS = 180.0  # torch's import, the first compilation and the tests; a card that needs longer is not used
PATHS = ("exact", "int8")
_MARK = "instructx-trial "
_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass
class Trial:
    """What became of one path: errors by case, or why there are none. lasting: it would be the same tomorrow."""

    errors: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    lasting: bool = True


def run_trials(device: torch.device, seconds: float = SECONDS, cases: Sequence[str] = ()) -> dict[str, Trial]:
    """Tests "exact" and "int8" in a child, and the rest in another where one fault ended the first.

    cases: names of selftest.CASES, none: all. Raises KernelError where no child can be started.
    """
    logger.info("attention: testing the kernels on %s (once, some seconds, in a process of its own)", device)
    found: dict[str, Trial] = {}
    while left := [path for path in PATHS if path not in found]:
        found |= _child(device, left, seconds, cases)
    return found


def _child(device: torch.device, paths: list[str], seconds: float, cases: Sequence[str]) -> dict[str, Trial]:
    """What one child told of these paths: of at least the first one."""
    environment = dict(os.environ)
    if device.type == "cuda":
        index = runtime().index(device)
        environment["CUDA_VISIBLE_DEVICES"] = runtime().driver.visible_name(runtime().handle(index))
    request = {"paths": paths, "cases": list(cases), "seconds": seconds, "kind": device.type}
    child = subprocess.Popen(
        [*_python(), "-c", _program(runtime().boot), json.dumps(request)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    late = False
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
        out, err = _end(child)
    except BaseException:
        _end(child)
        raise
    lines = [line.removeprefix(_MARK) for line in out.decode(errors="replace").splitlines() if line.startswith(_MARK)]
    messages = [json.loads(line) for line in lines]
    words = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    last = next((line for line in reversed(words) if "rror:" in line), words[-1])[:200]
    return _read(
        messages, paths, f"no result after {seconds:.0f} s" if late else f"code {child.returncode}: {last}", late
    )


def _read(messages: list[dict], paths: list[str], end: str, late: bool) -> dict[str, Trial]:
    """Lines of the child -> what became of each path it began. end: how it ended, if not by telling everything."""
    if not messages:
        return {path: Trial(problem=f"the self-test's process did not start ({end})", lasting=False) for path in paths}
    if messages[0]["sources"] != sources_digest():
        problem = "the self-test's process found other kernel sources than this one"
        return {path: Trial(problem=problem, lasting=False) for path in paths}
    found = {line["path"]: Trial(**line["result"]) for line in messages if "result" in line}
    for line in messages:
        if "begins" in line and line["begins"] not in found:
            problem = f"the self-test ended its process ({end}); please report it"
            found[line["begins"]] = Trial(problem=problem, lasting=not late)
    # It came as far as its first line and no further.
    return found or {path: Trial(problem=f"the self-test did not begin ({end})", lasting=False) for path in paths}


def _end(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kills it and takes what it said. A process stuck in its driver is left behind rather than waited for."""
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.communicate(timeout=10)
    return b"", b"the process could not be ended"


def _python() -> list[str]:
    """This Python with its flags. Raises KernelError in a program that embeds one: it would start itself."""
    name = Path(sys.executable or "").name.lower()
    if getattr(sys, "frozen", False) or not name.startswith(("python", "pypy")):
        raise KernelError(f"no Python to test the kernels with: this program is {name or 'unknown'}")
    return [sys.executable, *(["-I"] if sys.flags.isolated else ["-s"] if sys.flags.no_user_site else [])]


def _program(boot: str) -> str:
    """The same search path, so the same torch; then the folder of this package, whatever the host calls it."""
    return (
        f"import sys; sys.path[:] = {sys.path!r}\nimport torch\nsys.path.insert(0, {_ROOT!r})\n"
        f"{boot}\nfrom instructx_core.kernels import trial\ntrial.main()"
    )


# --- in the child ----------------------------------------------------------------------------------------------------


def main() -> None:
    """argv: the request. Says one line when it begins a path and one when it ends it."""
    request = json.loads(sys.argv[1])
    faulthandler.dump_traceback_later(request["seconds"], exit=True)  # should the parent be gone
    device = torch.device(request["kind"], 0)
    _send(sources=sources_digest())
    torch.zeros(1, device=device)  # the context: no memory for it is no fault of a kernel
    chosen = [case for case in selftest.CASES if case.name in request["cases"]] or selftest.CASES
    for path in request["paths"]:
        _send(begins=path)
        _send(path=path, result=vars(_try(path, device, chosen)))


def _try(path: str, device: torch.device, cases: Sequence[selftest.Case]) -> Trial:
    """A fault of the card is no exception here that could be caught: it ends the process, which says it all."""
    try:
        with torch.no_grad():
            return Trial(selftest.attention_errors(path, device, cases))
    except torch.OutOfMemoryError:
        return Trial(problem="the self-test found too little memory", lasting=False)
    except KernelError as error:
        return Trial(problem=str(error), lasting=False)


def _send(**line: object) -> None:
    sys.stdout.write(f"{_MARK}{json.dumps(line)}\n")
    sys.stdout.flush()
