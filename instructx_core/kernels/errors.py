"""The one error of the kernels: it carries the reason that the report shows, and never reaches the user as an error.

Whatever raises it (no NVRTC, an old driver, a failed self-test, an unsupported shape) makes the caller fall back.
"""

from __future__ import annotations


class KernelError(RuntimeError):
    """Our kernels cannot be used here; the message is the reason, one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split())[:600])


class Refusal(KernelError):
    """This one call cannot run (its shapes, a graph capture, memory); the kernel itself is as good as before."""
