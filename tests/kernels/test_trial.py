"""The self-test in a process of its own: what it tells, and that a fault there leaves this process as it was."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
import torch

from instructx_core.kernels import loader, select, selftest, trial
from instructx_core.kernels.errors import KernelError
from instructx_core.kernels.trial import Trial

CPU = torch.device("cpu")


def test_a_fault_ends_the_child_and_names_the_kernel(
    emulated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exact kernel passes, the int8 one aborts its process; this one goes on, and remembers."""
    emulated.boot += "\nlib.stand_in_fault(b'attention_int8_d64 abort')"
    real = trial.run_trials
    monkeypatch.setattr(trial, "run_trials", lambda device: real(device, cases=("random/64",)))
    with caplog.at_level(logging.WARNING, "instructx"):
        found = select.verdict(CPU)
    assert list(found.problems) == ["int8"] and "ended its process (code -6" in found.problems["int8"]
    assert 0 < found.errors["exact"] < 0.004 and found.errors["int8"] == float("inf")
    assert "int8 is not used" in caplog.text
    select._verdicts.clear()  # another process
    assert select.known_verdict(CPU) == found


def test_a_child_that_hangs_is_ended(on_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    on_stand_in.boot = "import time; time.sleep(60)"
    ended: list[int] = []
    real = trial._end
    monkeypatch.setattr(trial, "_end", lambda child: (ended.append(child.pid), real(child))[1])
    found = trial.run_trials(CPU, seconds=0.3)
    assert all("did not start (no result after 0 s)" in tried.problem and not tried.lasting for tried in found.values())
    (pid,) = ended
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


SOURCES = {"sources": loader.sources_digest()}


@pytest.mark.parametrize(
    ("said", "late", "want"),
    [
        (
            [],
            False,
            {p: Trial({}, "the self-test's process did not start (END)", False) for p in ("exact", "int8")},
        ),
        ([SOURCES], True, {p: Trial({}, "the self-test did not begin (END)", False) for p in ("exact", "int8")}),
        (
            [SOURCES, {"begins": "exact"}],
            True,
            {"exact": Trial({}, "the self-test ended its process (END); please report it", False)},
        ),
        (
            [
                SOURCES,
                {"begins": "exact"},
                {"path": "exact", "result": vars(Trial({"a": 1.0}))},
                {"begins": "int8"},
            ],
            False,
            {
                "exact": Trial({"a": 1.0}),
                "int8": Trial({}, "the self-test ended its process (END); please report it"),
            },
        ),
    ],
)
def test_what_a_child_told(said: list[dict], late: bool, want: dict[str, Trial]) -> None:
    assert trial._read(said, ["exact", "int8"], "END", late) == want


def test_other_sources_in_the_child_are_noticed() -> None:
    (found,) = trial._read([{"sources": "others"}, {"begins": "int8"}], ["int8"], "END", False).values()
    assert "other kernel sources" in found.problem and not found.lasting


def test_a_program_that_embeds_python_does_not_start_itself(on_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/ComfyUI/ComfyUI.exe")
    with pytest.raises(KernelError, match=r"no Python to test the kernels with: this program is comfyui\.exe"):
        select.verdict(CPU)


def test_the_child_finds_the_same_packages_whatever_its_folder(
    on_stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ComfyUI's portable Python, which reads no PYTHONPATH: the search path goes along."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "of the host")])
    compile(trial._program("pass"), "child", "exec")
    assert repr(str(tmp_path / "of the host")) in trial._program("")


def test_the_cases_cover_what_runs() -> None:
    for path in selftest.LIMITS:
        cases = [case for case in selftest.CASES if case.of(path)]
        for dim in (64, 128):
            here = [case for case in cases if case.head_dim == dim]
            assert any(case.batch > 1 and case.keys2 for case in here) and any(case.tokens == 5000 for case in here)
            assert any(case.fused for case in here) == (path == "int8")
        assert {case.dtype for case in cases} == {torch.bfloat16, torch.float16}
    assert any(case.biased for case in selftest.CASES if case.of("exact"))
