"""Calls from several threads at once, their results as they come: what waits for a server.

Place: judge/run.py, bench/propose.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def as_they_come(call: Callable[[Thing], Result], things: Iterable[Thing], at_once: int) -> Iterator[Result]:
    """The first error ends it, once what is under way has come in."""
    if at_once == 1:
        yield from map(call, things)
        return
    waiting, error = iter(things), None
    with ThreadPoolExecutor(at_once) as pool:
        running: set[Future[Result]] = set()
        while True:
            while error is None and len(running) < at_once:
                try:
                    running.add(pool.submit(call, next(waiting)))
                except StopIteration:
                    break
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                if future.exception() is not None:
                    error = error or future.exception()
                else:
                    yield future.result()
    if error is not None:
        raise error
