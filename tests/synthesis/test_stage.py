"""Stages run once, again when they or what they build on changed, and a bad clip costs itself only."""

import dataclasses

from instructx_core.errors import InputError
from instructx_core.synthesis.funnel import Step, funnel
from instructx_core.synthesis.stage import run_stages
from instructx_core.synthesis.terms.candidate import STATE, Candidate, Reject, load, save


@dataclasses.dataclass(frozen=True)
class Counting:
    name: str
    version: str
    calls: list
    outcome: object = None

    def run(self, candidate, folder):
        self.calls.append(self.name)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or candidate.with_facts(self.name, seen=sorted(candidate.facts))


def start(tmp_path):
    candidate = Candidate("a", "film.mp4", 0.0, 3.0, 16.0, 48, 112, 160).with_facts("cut", version="1")
    save(candidate, tmp_path)
    return tmp_path


def test_what_is_done_is_not_done_again(tmp_path):
    calls, folder = [], start(tmp_path)
    stages = [Counting("one", "1", calls), Counting("two", "1", calls)]
    first = run_stages(folder, stages)
    written = (folder / STATE).stat().st_mtime_ns
    assert run_stages(folder, stages) == first == load(folder)
    assert calls == ["one", "two"]
    assert (folder / STATE).stat().st_mtime_ns == written


def test_a_new_version_runs_again_with_all_after_it(tmp_path):
    calls, folder = [], start(tmp_path)
    run_stages(folder, [Counting("one", "1", calls), Counting("two", "1", calls), Counting("three", "1", calls)])
    calls.clear()
    found = run_stages(
        folder, [Counting("one", "1", calls), Counting("two", "2", calls), Counting("three", "1", calls)]
    )
    assert calls == ["two", "three"]
    assert found.fact("two", "seen") == ["cut", "one"], "what a later stage found before is forgotten"


def test_a_rejection_ends_it_and_is_remembered(tmp_path):
    calls, folder = [], start(tmp_path)
    stages = [Counting("one", "1", calls), Counting("two", "1", calls, Reject("two", "dull", 1.0, 2.0))]
    stages.append(Counting("three", "1", calls))
    for _ in range(2):
        assert run_stages(folder, stages).reject == Reject("two", "dull", 1.0, 2.0)
    assert calls == ["one", "two"]
    looser = [stages[0], Counting("two", "2", calls), stages[2]]
    assert run_stages(folder, looser).reject is None


def test_bad_input_in_a_stage_rejects_that_clip(tmp_path):
    folder = start(tmp_path)
    found = run_stages(folder, [Counting("one", "1", [], InputError("clip.mp4: damaged"))])
    assert found.reject == Reject("one", "clip.mp4: damaged")


def test_the_funnel_adds_up(tmp_path):
    outcomes = [None, Reject("one", "dark"), Reject("two", "dull"), Reject("two", "dull")]
    candidates = []
    for number, outcome in enumerate(outcomes):
        (tmp_path / str(number)).mkdir()
        folder, stages = start(tmp_path / str(number)), []
        for name in ("one", "two"):
            is_it = outcome is not None and outcome.stage == name
            stages.append(Counting(name, "1", [], outcome if is_it else None))
        candidates.append(run_stages(folder, stages))
    assert funnel(candidates, ["one", "two"]) == [Step("one", 4, 3, {"dark": 1}), Step("two", 3, 1, {"dull": 2})]
