"""Who has a run: a lock on a file in its folder, which the system lifts when the process ends (file_lock.py).

Beside queue.py. Processes of one command, ranks of torchrun and commands that know nothing of each other are kept apart
by it alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..file_lock import Lock, file_lock
from ..media.outputs import make_folder

logger = logging.getLogger("instructx")

LOCK = ".lock"
POLL = 2.0  # seconds between looks at what another process has


@contextmanager
def claim_folder(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder now. Where the disk knows no locks it always has."""
    with file_lock(make_folder(folder) / LOCK) as lock:
        yield lock is not Lock.THEIRS


@contextmanager
def wait_for_folder(folder: Path) -> Iterator[None]:
    """As claim_folder, when nobody else has it."""
    path = make_folder(folder) / LOCK
    with file_lock(path) as lock:
        if lock is not Lock.THEIRS:
            yield
            return
    logger.info("%s: waiting for another process, which prepares it", folder)
    with file_lock(path, float("inf")):
        yield


def check_locks(folder: Path) -> None:
    """Raises InputError where several processes could not be kept apart."""
    with file_lock(make_folder(folder) / LOCK) as lock:
        if lock is Lock.UNKNOWN:
            raise InputError(
                f"{folder}: its disk knows no locks, so that several processes would train the same run; run one, or "
                "use --runner ray, which hands runs out itself"
            )
