"""Where results go on the disks that people have: links, long names, no locks, pipes, and folders that are none."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.media.files import read_image, write_image, write_video
from instructx_core.media.names import no_windows_name
from instructx_core.media.outputs import NO_LOCKS, atomic_path, check_writable, claim_output, output_kind

RED, BLUE = (np.full((32, 32, 3), colour, np.uint8) for colour in ((250, 0, 0), (0, 0, 250)))


def litter(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def is_blue(path: Path) -> bool:
    return bool((read_image(path) == BLUE).all())


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    """As with any program that writes into the file; the hidden files lie where the target does."""
    store, shown = tmp_path / "store", tmp_path / "shown"
    store.mkdir(), shown.mkdir()
    if there:
        write_image(store / "v1.png", RED)
    (store / "latest").symlink_to("v1.png")
    (shown / "a.png").symlink_to("../store/latest")
    with claim_output(shown / "a.png"):
        assert litter(shown) == [] and litter(store) == [".v1.png.lock"]
        with pytest.raises(InputError, match="another process"), claim_output(store / "v1.png"):
            pass
        write_image(shown / "a.png", BLUE)
    assert (shown / "a.png").is_symlink() and not (store / "v1.png").is_symlink() and is_blue(store / "v1.png")
    assert litter(tmp_path) == []


def test_the_suffix_of_a_link_is_the_format(tmp_path: Path) -> None:
    """Stores of data name their files by content, without a suffix."""
    (tmp_path / "a.png").symlink_to("9f86d081")
    write_image(tmp_path / "a.png", BLUE)
    (tmp_path / "a.mkv").symlink_to("884c7d65")
    write_video(tmp_path / "a.mkv", np.stack([RED] * 3), 10)
    assert is_blue(tmp_path / "9f86d081") and (tmp_path / "884c7d65").read_bytes()[:4] == b"\x1a\x45\xdf\xa3"


def test_the_other_name_of_a_file_keeps_the_old_one(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RED)
    os.link(tmp_path / "a.png", tmp_path / "copy.png")
    write_image(tmp_path / "a.png", BLUE)
    assert is_blue(tmp_path / "a.png") and not is_blue(tmp_path / "copy.png")


@pytest.mark.parametrize("length", [200, 247, 248, 250, 251, 254, 255])
@pytest.mark.parametrize("letter", ["a", "\u65e5"])
def test_long_names(tmp_path: Path, length: int, letter: str) -> None:
    stem = letter * ((length - 4) // len(letter.encode()))
    path = tmp_path / (stem + "x" * (length - 4 - len(stem.encode())) + ".png")
    assert len(os.fsencode(path.name)) == length
    check_writable(path)
    killed = tmp_path / "killed"
    with claim_output(path), pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        killed = temporary
        raise ZeroDivisionError
    killed.write_bytes(b"of a killed one")
    with claim_output(path):
        assert not killed.exists()
        write_image(path, BLUE)
    assert is_blue(path) and litter(tmp_path) == []


def test_a_long_clip_of_a_long_name(random_pipe: Any, tmp_path: Path) -> None:
    """Its windows lie beside it as well."""
    from instructx_core.editing.edit import edit_file
    from instructx_core.editing.windows.options import WindowOptions

    write_video(tmp_path / "in.mp4", np.stack([RED[:, :16]] * 9), 8)
    output = tmp_path / ("a" * 251 + ".mp4")
    report = edit_file(
        random_pipe, tmp_path / "in.mp4", "x", output=output, steps=1, max_pixels=512, windows=WindowOptions(frames=5)
    )
    assert any("3 windows" in note or "2 windows" in note for note in report.notes) and output.is_file()
    assert litter(tmp_path) == []


def test_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop2.png")
    (tmp_path / "loop2.png").symlink_to("loop.png")
    (tmp_path / "to_folder.png").symlink_to("folder.png")
    (tmp_path / "to_nowhere.png").symlink_to("none/a.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "a" * 252 + ".png": "its name has 256 bytes, 255 are possible here",
        "file/a.png": "file is a file, not a folder",
        "file/deep/a.png": "deep is a file, not a folder",
        "none/a.png": "none does not exist; create it first",
        "to_nowhere.png": "none does not exist; create it first",
        "folder.png": "this is a folder",
        "to_folder.png": "this is a folder",
        "loop.png": "is a link that leads back to itself",
        "pipe.png": "this is a pipe or a device",
        "a" * 300 + "/a.png": "cannot be used (File name too long)",
    }.items():
        with pytest.raises(InputError) as caught:
            output_kind(tmp_path / name)
        assert words in str(caught.value) or (name == "file/deep/a.png" and "is a file" in str(caught.value)), name


def test_a_folder_that_takes_nothing_is_said_before_the_edit() -> None:
    """/proc: nobody may make a file there, not even root."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    with pytest.raises(InputError, match=r"/proc/a\.png: cannot write into its folder"):
        check_writable("/proc/a.png")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_between_two_windows_is_one_sentence(tmp_path: Path) -> None:
    """The state of a long edit is written by safetensors, whose errors are no errors of the system."""
    import resource

    from instructx_core.editing.windows.state import WindowProgress, WindowStore

    store = WindowStore(tmp_path / "a.mp4", {"x": 1})
    store.open()
    store.save(WindowProgress(1, RED[None]))
    before, limits = store.state.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written \(File too large\); free some space first"):
            store.save(WindowProgress(2, RED[None]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.state.read_bytes() == before and len(list(store.folder.iterdir())) == 1


def test_names_that_windows_has_not() -> None:
    for name in ("CON", "nul.png", "Aux.tar.png", "com1.mp4", "LPT9", "COM\u00b9.png", "prn .png", "conin$.png"):
        assert "for a device" in (no_windows_name(name) or ""), name
    for name in ("a.png.", "a.png ", "a. ."):
        assert "drops a dot or a space" in (no_windows_name(name) or ""), name
    for name in ("a:b.png", "what?.png", "a|b.png", "a\tb.png"):
        assert "has no" in (no_windows_name(name) or ""), name
    for name in ("console.png", "nulla.png", "com10.png", "a.con", ".png", "com.png", "\u65e5.png"):
        assert no_windows_name(name) is None, name


NO_FLOCK = """
#include <errno.h>
#include <stdlib.h>
int flock(int handle, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""

CLAIM = """
import os, sys
from pathlib import Path
from instructx_core.media.outputs import atomic_path, claim_output
part = Path(sys.argv[1]).with_name(".a.png.0123abcd.part.png")
part.write_bytes(b"of a process that may be at work")
for number in sys.argv[2:]:
    os.environ["FLOCK_ERRNO"] = number  # putenv: the C side sees it
    with claim_output(sys.argv[1]) as notes:
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_bytes(b"new")
    assert len(notes) == 1 and part.exists(), (number, notes)
    os.remove(sys.argv[1])
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="LD_PRELOAD and a C compiler")
def test_a_file_system_without_locks(tmp_path: Path) -> None:
    """As on NFS without its lock daemon, sshfs, some clusters: written, without the claim, and nothing is removed."""
    (tmp_path / "noflock.c").write_text(NO_FLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "noflock.so", "noflock.c"], cwd=tmp_path, check=True)
    numbers = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO]
    done = subprocess.run(
        [sys.executable, "-c", CLAIM, str(tmp_path / "a.png"), *map(str, numbers)],
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "noflock.so"), "FLOCK_ERRNO": "38"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".a.png.0123abcd.part.png"], "no lock file is left"


def test_the_report_says_that_nothing_is_claimed(
    random_pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    from instructx_core.editing.edit import edit_file

    def none(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    write_image(tmp_path / "in.png", RED)
    monkeypatch.setattr(fcntl, "flock", none)
    report = edit_file(random_pipe, tmp_path / "in.png", "x", output=tmp_path / "a.png", steps=1, max_pixels=1024)
    assert NO_LOCKS in report.notes and (tmp_path / "a.png").is_file()


def test_text_goes_to_a_terminal_of_ascii(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and instructions that it cannot show must not fail an edit that is done, nor a list."""
    from instructx_core.cli import main

    write_image(tmp_path / "caf\xe9.png", RED)
    (tmp_path / "jobs.jsonl").write_text('{"input": "\\udce9.png", "instruction": "x", "output": "\\u65e5.png"}\n')
    shown = io.BytesIO()
    for name in ("stdout", "stderr"):  # as Python opens them under PYTHONIOENCODING=ascii
        monkeypatch.setattr(sys, name, io.TextIOWrapper(shown, encoding="ascii", errors="strict", write_through=True))
    monkeypatch.chdir(tmp_path)
    options = ["--model", str(random_checkpoint), "--device", "cpu", "--steps", "1", "--size", "32x32"]
    given = ["--input", "caf\xe9.png", "--instruction", "blau wie \u65e5\xfc", "--output", "\u65e5.png"]
    assert main(["edit", *given, *options]) == 0
    assert main(["edit", "--jobs", "jobs.jsonl", *options]) == 1
    assert main(["edit", "--input", "\udce9.png", *given[2:], *options]) == 2
    text = shown.getvalue()
    assert rb"caf\xe9.png" in text and rb"\u65e5.png" in text and b"1 failed" in text and rb"error: \udce9" in text
    assert (tmp_path / "\u65e5.png").is_file()
