"""Runs edits in processes of its own and breaks them: killed, without disk, without memory, two at one output.

Called by test_processes.py with a folder and a number of kills; prints one JSON object. The model is loaded once and
every edit runs in a fork, so that fifty of them take seconds. A fork needs torch on one thread (OMP_NUM_THREADS=1).
A child that does not end in time is an error that shows where it stood.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import tiny  # noqa: E402

from instructx_core.editing import edit, one  # noqa: E402
from instructx_core.errors import InputError  # noqa: E402
from instructx_core.media.files import write_image, write_video  # noqa: E402

OLD = b"the old file"
PATIENCE = 120.0  # seconds; an edit takes a tenth of one


class Place:
    """A folder with a source clip and picture, the pipeline, and the bytes that a complete edit writes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pipe = folder, tiny.pipeline()
        frames = tiny.clip(5, 48, 64).numpy()
        self.source = {"clip.mp4": folder / "in.mp4", "image.png": folder / "in.png"}
        write_video(self.source["clip.mp4"], frames, 10)
        write_image(self.source["image.png"], frames[0])
        self.inputs = sorted(path.name for path in folder.iterdir())
        self.new: dict[str, bytes] = {}
        for name in self.source:
            self.edit(name)
            self.new[name] = (folder / name).read_bytes()

    def edit(self, name: str, **options: Any) -> Any:
        return edit.edit_file(
            self.pipe, self.source[name], "x", output=self.folder / name, steps=2, max_pixels=48 * 64, **options
        )

    def reset(self) -> None:
        for name in self.source:
            (self.folder / name).write_bytes(OLD)

    def state(self, name: str) -> str:
        """'old' or 'new' where the output is one of the two, else 'broken'."""
        data = (self.folder / name).read_bytes()
        return "old" if data == OLD else "new" if data == self.new[name] else "broken"

    def litter(self) -> list[str]:
        return sorted({path.name for path in self.folder.iterdir()} - set(self.inputs) - set(self.source))


def fork(work: Callable[[], Any]) -> int:
    """The process id of a child that runs `work` and ends with its `outcome`."""
    # A decoder that this process left behind waits for its threads when it is collected, and a child has none of them.
    gc.collect()
    gc.freeze()  # for good: the next time only what is new has to be looked at
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child can take it
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return child
    try:
        try:
            code = outcome(work)
        except KeyboardInterrupt:  # over at the end of this block, and with it what its traceback held open
            code = 130
        os._exit(code)
    except KeyboardInterrupt:  # after the work: a child that got away would never end
        os._exit(130)


def outcome(work: Callable[[], Any]) -> int:
    """0; 2 for an InputError, which is told on stderr; 1 for any other error."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        work()
    except InputError as error:
        os.write(2, f"{error}\n".encode())
        return 2
    except Exception:  # noqa: BLE001 whatever it is, the child must not go on as its parent
        traceback.print_exc()
        return 1
    return 0


def wait(child: int) -> int:
    """Its exit code; minus the signal that killed it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    stuck(child)


def await_byte(child: int, pipe: int) -> None:
    """Until the child has written into the pipe."""
    if not select.select([pipe], [], [], PATIENCE)[0]:
        stuck(child)
    os.read(pipe, 1)


def stuck(child: int) -> NoReturn:
    os.kill(child, signal.SIGABRT)  # faulthandler writes the stacks of its threads
    os.waitpid(child, 0)
    raise TimeoutError(f"a child had neither ended nor written after {PATIENCE:.0f} s; its stacks are above")


class Calls:
    """Counts calls and returns, C's included, and at the `last` one sends this process a signal: a point of a kill that
    does not depend on how busy the machine is."""

    def __init__(self, last: int = 0, stop: signal.Signals = signal.SIGKILL) -> None:
        self.count, self.last, self.stop = 0, last, stop

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), self.stop)

    def of(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            sys.setprofile(self)
            try:
                return work(*arguments, **options)
            finally:
                sys.setprofile(None)

        return counted


def points(calls: int, count: int) -> list[int]:
    """Of `calls`: `count` of them evenly over all, the first included, and `count` over the last hundred."""
    last = min(calls, 100)
    return [1 + (calls - 1) * i // count for i in range(count)] + [calls - last * i // count for i in range(count)]


def killed(place: Place, seeds: int) -> dict[str, Any]:
    """SIGKILL and SIGINT at points of an edit and of its writing; then at random times, which may be within a call."""
    seen = {"old": 0, "new": 0, "broken": 0, "litter after SIGINT": 0, "codes": [], "killed when new": 0}
    original, known = one.write_like, set[str]()  # known: what was left by those that could not clear up

    def end(child: int, stop: signal.Signals) -> None:
        code, state = wait(child), place.state("clip.mp4")
        seen["codes"].append(code)
        seen[state] += 1
        seen["killed when new"] += state == "new" and code != 0
        left = {name for name in place.litter() if ".part" in name}
        seen["litter after SIGINT"] += stop == signal.SIGINT and not left <= known
        known.clear()
        known.update(left)
        place.reset()

    def edit() -> None:
        place.edit("clip.mp4")

    started = time.perf_counter()
    edit()
    total = time.perf_counter() - started
    whole, writing = Calls(), Calls()
    one.write_like = writing.of(original)
    edit()
    one.write_like = original
    whole.of(edit)()
    place.reset()
    quarter = max(1, seeds // 8)  # four lists of twice as many
    for stop in (signal.SIGKILL, signal.SIGINT):
        for point in points(whole.count, quarter):
            end(fork(Calls(point, stop).of(edit)), stop)
        for point in points(writing.count, quarter):
            one.write_like = Calls(point, stop).of(original)
            end(fork(edit), stop)
        one.write_like = original
    for seed in range(quarter):
        child, stop = fork(edit), (signal.SIGKILL, signal.SIGINT)[seed % 2]
        time.sleep(random.Random(seed).uniform(0, total))
        os.kill(child, stop)
        end(child, stop)
    edit()
    return {**seen, "end": place.state("clip.mp4"), "litter at the end": place.litter()}


def full_disk(place: Place) -> list[Any]:
    """No file may grow beyond a limit, as on a full disk: exit code and state for several limits."""
    results = []
    for name, data in place.new.items():
        for limit in (0, len(data) // 2, len(data) - 1):
            place.reset()

            def work(name: str = name, limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                place.edit(name)

            code = wait(fork(work))
            results.append([name, limit, code, place.state(name), place.litter()])
    return results


def one_output(place: Place) -> dict[str, Any]:
    """A second edit of the same output while a first one runs; and again after the first was killed."""
    place.reset()
    ready, tell = os.pipe()

    def slow() -> None:
        place.edit("image.png", progress=lambda done, steps: os.write(tell, b"r") and time.sleep(2 * PATIENCE))

    first = fork(slow)
    await_byte(first, ready)
    second = wait(fork(lambda: place.edit("image.png")))
    untouched = place.state("image.png")
    os.kill(first, signal.SIGKILL)
    wait(first)
    third = wait(fork(lambda: place.edit("image.png")))
    return {"second": second, "untouched": untouched, "third": third, "after": place.state("image.png"),
            "litter": place.litter()}  # fmt: skip


def short_memory(place: Place) -> dict[str, Any]:
    """An edit of 512x512 pixels in an address space that hardly grows: tiles, or one sentence; told on stderr."""
    write_image(place.folder / "in.png", np.full((512, 512, 3), 90, np.uint8))
    place.reset()
    pages = int(Path("/proc/self/statm").read_text().split()[0])

    def work() -> None:
        limit = pages * os.sysconf("SC_PAGE_SIZE") + (48 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        options = {"output": place.folder / "image.png", "steps": 1, "max_pixels": 512 * 512}
        report = edit.edit_file(place.pipe, place.source["image.png"], "x", **options)
        os.write(2, "\n".join(report.notes).encode())

    code = wait(fork(work))
    return {"code": code, "kept": (place.folder / "image.png").read_bytes() == OLD, "litter": place.litter()}


def main() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without
    faulthandler.enable()
    # tqdm's own lock is shared between processes, and each child starts a thread under it: one killed there would stop
    # all others for ever.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    place = Place(Path(sys.argv[1]))
    results = {
        "killed": killed(place, int(sys.argv[2])),
        "full_disk": full_disk(place),
        "one_output": one_output(place),
    }
    print("memory", file=sys.stderr, flush=True)
    print(json.dumps({**results, "short_memory": short_memory(place)}))


if __name__ == "__main__":
    main()
