"""Several processes edit what the plain loop edits; one that is killed costs nothing that was made."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.benchmarks.box import draw_box
from instructx_core.evaluation.editors.processes import LEAST, edit_in_processes
from instructx_core.evaluation.editors.run import EditTask, edit_items
from instructx_core.evaluation.outputs import Output
from instructx_core.evaluation.run_folder import RunFolder


class Copies:
    """Copies the source; leaves the number of its process; fails on one item, dies on another."""

    name = "copies"

    def __init__(self, seen: Path, failing: str = "", deadly: str = "") -> None:
        self.seen, self.failing, self.deadly = seen, failing, deadly

    @property
    def settings(self) -> dict[str, Any]:
        return {"kind": "copies"}

    def edit(self, task: EditTask) -> None:
        (self.seen / str(os.getpid())).touch()
        if task.item.id == self.failing:
            raise InputError("this one is not liked")
        if task.item.id == self.deadly:
            os._exit(9)
        shutil.copyfile(task.source, task.output)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("box"))
    folder.prepare({"name": "box"})
    folder.write(draw_box(folder.path, {"add": LEAST, "remove": LEAST}))
    return folder


def facts(outputs: list[Output]) -> list[tuple[str, str | None, str | None]]:
    return [(output.id, output.output, output.error) for output in outputs]


def test_the_same_outputs_from_two_processes(drawn: RunFolder, tmp_path: Path) -> None:
    items = drawn.items()
    found = {}
    for kind in ("loop", "two"):
        run, seen = RunFolder(Path(shutil.copytree(drawn.path, tmp_path / kind))), tmp_path / f"seen-{kind}"
        seen.mkdir()
        make = partial(Copies, seen, failing=items[3].id)
        if kind == "loop":
            found[kind] = edit_items(run, make(), items)
        else:
            name, found[kind] = edit_in_processes(run, make, items, processes=2)
            assert name == "copies" and str(os.getpid()) not in {path.name for path in seen.iterdir()}
    assert facts(found["two"]) == facts(found["loop"])
    assert [output.id for output in found["two"] if output.error] == [items[3].id]


def test_a_killed_process_loses_nothing(drawn: RunFolder, tmp_path: Path) -> None:
    run, items = RunFolder(Path(shutil.copytree(drawn.path, tmp_path / "run"))), drawn.items()
    with pytest.raises(InputError, match=r"killed.*again"):
        edit_in_processes(run, partial(Copies, tmp_path, deadly=items[-1].id), items, processes=2)
    before = (run.path / "copies" / "outputs.jsonl").read_text().splitlines()
    assert len(before) > LEAST
    _, outputs = edit_in_processes(run, partial(Copies, tmp_path), items, processes=2)
    after = (run.path / "copies" / "outputs.jsonl").read_text().splitlines()
    assert not any(output.error for output in outputs) and after[: len(before)] == before


def test_few_items_are_edited_here(drawn: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    run = RunFolder(Path(shutil.copytree(drawn.path, tmp_path / "run")))
    edit_in_processes(run, partial(Copies, tmp_path / "seen"), run.items()[: LEAST + 1], processes=2)
    assert [path.name for path in (tmp_path / "seen").iterdir()] == [str(os.getpid())]
