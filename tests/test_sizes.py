"""What a clone and the node pack weigh: pictures at display size, the zip as README says.

History keeps every version of a file, so pictures that are made anew often have to be small each time.
"""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg"}
MIB = 2**20


def tracked() -> dict[str, int]:
    """Name -> bytes of every file that git has and the tree holds."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    paths = {name: ROOT / name for name in listed.stdout.split("\0") if name}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


def test_pictures_are_at_display_size() -> None:
    sizes = {name: size for name, size in tracked().items() if Path(name).suffix.lower() in PICTURES}
    assert len(sizes) > 20
    heavy = {name: size for name, size in sizes.items() if size > 150_000}
    assert not heavy, "WebP or a palette, at the width that a page shows"
    assert sum(sizes.values()) < 1.6 * MIB


def test_the_tree_is_small() -> None:
    sizes = tracked()
    assert sum(sizes.values()) < 32 * MIB
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    assert sum(sizes.values()) - weights < 8 * MIB, "everything but the tiny model"


def test_the_zip_is_as_readme_says(load_helper: Callable[[str, str], ModuleType]) -> None:
    """Its files as `comfy node pack` takes them, compressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in load_helper("instructx_test_host", "comfyui/host.py").pack_files():
            archive.write(ROOT / name, name)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = float(re.search(r"is a zip of (\d+) MiB", readme)[1])
    assert abs(len(packed.getvalue()) / MIB - said) <= 1
