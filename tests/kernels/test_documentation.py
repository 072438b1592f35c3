"""What docs/kernels.md says and is easily wrong: the sentence stands there, and what it speaks of is so.

Each test reads its sentence or number from the page and holds it against the code, the emulator or the stand-in driver.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import torch

from instructx_core.kernels import Session, select, selftest, trial
from instructx_core.kernels import driver as driver_module
from instructx_core.kernels.errors import Refusal
from instructx_core.kernels.operands import Inputs
from instructx_core.kernels.trial import Trial

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
import checks

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8").split())
CPU = torch.device("cpu")


def says(sentence: str) -> None:
    assert " ".join(sentence.split()) in PAGE, f"docs/kernels.md no longer says: {sentence}"


def numbers(pattern: str) -> tuple[float, ...]:
    """Groups of the one place of the page where the pattern stands."""
    (found,) = re.findall(pattern, PAGE)
    return tuple(float(group.replace(",", "")) for group in ([found] if isinstance(found, str) else found))


# --- before a kernel runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [True, False])
def test_no_model_comes_to_an_untested_kernel(on_stand_in, stand_in, monkeypatch: pytest.MonkeyPatch, passes) -> None:
    says("On a card no model's attention comes to our kernels before they passed a self-test there")
    before: list[list[str]] = []

    def run(device: torch.device) -> dict[str, Trial]:
        before.append(stand_in.launches())
        error = 0.001 if passes else 1.0
        return {path: Trial({"random/64": error}) for path in ("exact", "int8")}

    monkeypatch.setattr(select.trial, "run_trials", run)
    q = torch.randn(1, 2048, 1, 64).to(torch.bfloat16)
    Session("int8").attend(Inputs.of(q, q, q))
    assert before == [[]] and bool(stand_in.launches()) == passes


def test_an_op_called_directly_is_not_tested(on_stand_in, stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    says("who calls an op of `torch.ops.instructx` or `instructx kernels bench` directly runs them untested")

    def run(device: torch.device) -> dict[str, Trial]:
        raise AssertionError("tested")

    monkeypatch.setattr(select.trial, "run_trials", run)
    q = torch.zeros(1, 16, 1, 64, dtype=torch.bfloat16)
    torch.ops.instructx.attention(q, q, q, 0.125, None, None, None)
    assert any("attention_bf16_d64" in line for line in stand_in.launches())


def test_what_the_self_test_covers_and_allows() -> None:
    exact, half, int8 = numbers(r"Relative error at most ([\d.]+) % \(exact; ([\d.]+) % in fp16\), ([\d.]+) % \(int8\)")
    assert selftest.LIMITS == pytest.approx({"exact": exact / 100, "int8": int8 / 100})
    assert selftest.HALF_LIMITS == pytest.approx({"exact": half / 100, "int8": int8 / 100})
    assert selftest.LSE_LIMITS == dict(zip(("exact", "int8"), numbers(r"; LSE (\S+) and (\S+)\. It runs"), strict=True))
    assert numbers(r"is ended after (\d+) s") == (trial.SECONDS,)
    says("batch 2, two segments, a key bias, Wan's norm and RoPE fused into the int8 path, 5000 tokens; output and LSE")
    cases = selftest.CASES
    assert {case.head_dim for case in cases} == {64, 128}
    assert {case.dtype for case in cases} == {torch.bfloat16, torch.float16}
    assert {case.kind for case in cases} == {"random", "offset", "outlier"}
    for covered in ("batch", "keys2", "biased", "fused"):
        assert len({getattr(case, covered) for case in cases}) > 1, covered
    assert max(case.tokens for case in cases) == 5000
    assert any(case.fused and case.of("int8") for case in cases)


# --- races ---------------------------------------------------------------------------------------------------------

RACES = {  # of tests/kernels/csrc/probes.cu: kind of probe_races -> what the page calls it
    1: "Accesses to shared memory are checked for races between threads, of one warp too",
    2: "those to global memory also between blocks",
    3: "those to global memory also between blocks",
}


@pytest.mark.parametrize("kind", RACES)
def test_races_that_the_emulator_sees(emulated, load_helper, _emulator_library: Path, kind: int) -> None:
    says(RACES[kind])
    layouts = load_helper("instructx_test_layouts", "kernels/csrc/test_layouts.py")
    emu = layouts.Emulator(_emulator_library)
    args = layouts.ProbeArgs(0, (out := torch.zeros(256, dtype=torch.int32)).data_ptr(), kind)
    with pytest.raises(layouts.Finding, match="race"):
        emu.launch("probe_races", args, (2, 1, 1), 256, threads=64)
    assert out.shape == (256,)


# --- numbers -------------------------------------------------------------------------------------------------------


def test_bounds_are_those_of_the_tests() -> None:
    """Of output and LSE, which int8 gives from quantised logits."""
    assert numbers(r"exact relative L1 error (\S+), LSE (\S+) of its size \(of 1 where that is smaller\)") == (
        checks.EXACT_ERROR,
        checks.LSE_ERROR,
    )
    assert numbers(r"int8 (\S+), cosine (\S+), LSE (\S+) \(its logits are quantised") == (
        checks.INT8_ERROR,
        checks.INT8_COSINE,
        checks.INT8_LSE_ERROR,
    )


def test_what_is_expected_of_an_a100_is_what_the_table_counts() -> None:
    """More instructions than its tensor cores leave time for: int8 is bound by them, and little is expected."""
    wide, narrow = numbers(r"int8's loop needs ([\d.]+) times \(D = 128\) or ([\d.]+) times \(D = 64\)")
    for dim, claimed in ((128, wide), (64, narrow)):
        (share,) = numbers(rf"\| `attention_int8_d{dim}` \| sm_80 A100 (?:\| [\d.]+ ){{5}}\| ([\d.]+) \|")
        assert share > 1 and abs(share - claimed) <= 0.051, (dim, share)
    says("| A100 | not measured; expected little |")


# --- graphs and memory ---------------------------------------------------------------------------------------------


def test_a_capture_before_the_first_call_is_refused(on_stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    says("The first call outside of a capture judges the card and loads every kernel; a capture before that takes the")
    says("no graph has been captured on a card yet")
    card = torch.device("cuda", 0)
    on_stand_in.device_type = "cuda"
    monkeypatch.setattr(on_stand_in, "uuid", lambda index: None)
    monkeypatch.setattr(on_stand_in, "load_all", lambda device: loaded.append(device))
    monkeypatch.setattr(select.bench, "quick", lambda device, paths: {})
    passed = {path: Trial({"random/64": 0.001}) for path in ("exact", "int8")}
    judged: list[torch.device] = []
    loaded: list[torch.device] = []
    monkeypatch.setattr(select.trial, "run_trials", lambda device: judged.append(device) or passed)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(Refusal, match="run once without"):
        select.verdict(card)
    assert not judged and not loaded
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    select.verdict(card)
    assert judged == loaded == [card]


def test_a_launch_allocates_nothing_and_waits_for_nothing() -> None:
    says(
        "Launches enqueue on torch's current stream and device, allocate nothing but torch tensors and wait for nothing"
    )
    tree = ast.parse(Path(driver_module.__file__).read_text(encoding="utf-8"))
    called = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    functions = {name for name in called if re.fullmatch(r"cu[A-Z]\w+", name)}
    assert "cuLaunchKernel" in functions
    assert not [name for name in functions if re.search("Synchronize|MemAlloc|Memcpy|Wait|EventQuery", name)]


def test_no_memory_switches_nothing_off(on_stand_in, stand_in, good, monkeypatch, caplog) -> None:
    says("No memory, operands that a kernel cannot take and a graph's capture concern one call: it falls back, the")
    monkeypatch.setattr(select, "verdict", lambda device, again=False: good)
    session, q = Session("int8", "Wan"), torch.randn(1, 2048, 1, 64).to(torch.bfloat16)
    stand_in.break_("cuLaunchKernel")
    stand_in.lib.stand_in_code(2)  # CUDA_ERROR_OUT_OF_MEMORY
    for _ in range(2):
        session.attend(Inputs.of(q, q, q))
    stand_in.break_("")
    session.attend(Inputs.of(q, q, q))
    assert sorted((route.path, count) for route, count in session.calls().items()) == [("host", 2), ("int8", 1)]
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1, "the first one warns"
    assert not good.problems
