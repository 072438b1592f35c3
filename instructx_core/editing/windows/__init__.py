"""Clips of any length: overlapping windows, each continuing the edit of the one before it (paper A.5).

    plan (which frames) -> hand-over (edited tail replaces the next head) -> one edit a window -> colour -> file

`plan`, `options`, `handover` are numpy only and shared with the ComfyUI node. `edit` goes from file to file with
constant memory: `feed` reads the source, `editor` edits one window, `state` keeps the finished ones. More in
docs/long-video.md.
"""

from __future__ import annotations

from .handover import FADE, Colour, WindowResult, edit_windows
from .plan import JOINS, SECONDS, SMOOTH, Window, plan_windows, window_frames, window_seed

__all__ = [
    "FADE",
    "JOINS",
    "SECONDS",
    "SMOOTH",
    "Colour",
    "Window",
    "WindowResult",
    "edit_windows",
    "plan_windows",
    "window_frames",
    "window_seed",
]
