"""What is known of clips by a name or a number: the containers that are written, the curves of HDR.

Below all of media; nothing here opens a file.
"""

from __future__ import annotations

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # of clips that are written: FFmpeg's names
HDR_TRANSFER = {16: "PQ", 18: "HLG"}  # transfer curves of ITU-T H.273
