"""Who has a run: a lock on a file in its folder, which the system lifts when the process ends, however it ends.

Beside queue.py. Processes of one command, ranks of torchrun and commands that know nothing of each other are kept apart
by it alike.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..media.outputs import make_folder

logger = logging.getLogger("instructx")

LOCK = ".lock"
POLL = 2.0  # seconds between looks at what another process has


@contextmanager
def claim_folder(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder now. Where the disk knows no locks it always has."""
    with (make_folder(folder) / LOCK).open("a+b") as file:
        yield lock_file(file.fileno()) is not False


@contextmanager
def wait_for_folder(folder: Path) -> Iterator[None]:
    """As claim_folder, when nobody else has it."""
    with (make_folder(folder) / LOCK).open("a+b") as file:
        said = False
        while lock_file(file.fileno()) is False:
            if not said:
                logger.info("%s: waiting for another process, which prepares it", folder)
                said = True
            time.sleep(POLL)
        yield


def check_locks(folder: Path) -> None:
    """Raises InputError where several processes could not be kept apart."""
    with (make_folder(folder) / LOCK).open("a+b") as file:
        if lock_file(file.fileno()) is None:
            raise InputError(
                f"{folder}: its disk knows no locks, so that several processes would train the same run; run one, or "
                "use --runner ray, which hands runs out itself"
            )


def lock_file(handle: int) -> bool | None:
    """False when another process has it; None where there are no locks, as on some disks of networks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True
