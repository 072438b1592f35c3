"""Clips of any length: overlapping windows, each continuing the edit of the one before it (paper A.5).

    plan (which frames) -> hand-over (edited tail replaces the next head) -> one edit a window -> colour -> file

Below the edits: `plan`, `options` and `handover` are numpy only and shared with the ComfyUI node, `state` keeps the
finished windows of an edit from file to file, which is editing/in_windows.py. More in docs/long-video.md.
"""

from __future__ import annotations

from .handover import FADE, ColourMatch, WindowResult, edit_windows
from .plan import JOINS, SECONDS, SMOOTH, Window, plan_windows, window_frames, window_seed

__all__ = [
    "FADE",
    "JOINS",
    "SECONDS",
    "SMOOTH",
    "ColourMatch",
    "Window",
    "WindowResult",
    "edit_windows",
    "plan_windows",
    "window_frames",
    "window_seed",
]
