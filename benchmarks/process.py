"""What Linux says of this process: the memory that it holds, and the most that it has held."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20


def resident() -> int:
    """Bytes in memory now."""
    return _status("VmRSS")


def peak_resident() -> int:
    """The most bytes that were in memory since the start, or since clear_peak."""
    return _status("VmHWM")


def clear_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])
