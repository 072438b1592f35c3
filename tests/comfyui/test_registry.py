"""comfy-cli on a clone of what is committed: `node validate` has nothing to say, `node pack` holds what it should."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

LIMIT = 25 * 2**20  # bytes; the tiny model is most of it


@pytest.fixture(scope="module")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of HEAD: comfy-cli packs what git tracks, and writes its zip into the folder."""
    folder = tmp_path_factory.mktemp("registry") / "pack"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(root), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def comfy_cli(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """comfy_cli("node", "pack") -> its output, tracking off and with a home of its own."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "DO_NOT_TRACK": "1", "NO_COLOR": "1", "COLUMNS": "200"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", *arguments]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("tracking", "disable")
    return run


def test_validate_is_clean(comfy_cli: Callable[..., str]) -> None:
    said = comfy_cli("node", "validate")
    print(said)
    assert "warning" not in said.lower() and "error" not in said.lower(), said


def test_zip_holds_the_pack(comfy_cli: Callable[..., str], clone: Path, hosting: ModuleType, root: Path) -> None:
    """The same files as the host lane installs, when everything is committed; never tests, training or CI."""
    comfy_cli("node", "pack")
    archive = clone / "node.zip"
    with zipfile.ZipFile(archive) as opened:
        names = {name for name in opened.namelist() if not name.endswith("/")}
    print(f"node.zip: {archive.stat().st_size / 2**20:.1f} MiB, {len(names)} files")
    assert archive.stat().st_size < LIMIT
    outside = ("tests/", "benchmarks/", "docs/", "scripts/", ".ci/", "instructx_core/training/")
    assert not [name for name in names if name.startswith(outside)]
    committed = subprocess.run(["git", "-C", str(root), "diff", "--quiet", "HEAD"]).returncode == 0
    if committed:
        assert names == set(hosting.pack_files())
