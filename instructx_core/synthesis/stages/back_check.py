"""Back-check: a judge looks at every pair as at an edit by a model, and what it does not believe is left out.

Last stage, where the cast has a judge. The scores stay in the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..terms.candidate import Candidate, Reject
from ..terms.limits import Limits
from ..terms.pairs import PAIRS
from ..terms.roles import PairJudge


@dataclass(frozen=True, slots=True)
class BackCheck:
    """A clip of whose pairs none is left is rejected, with the best of their scores."""

    judge: PairJudge
    limits: Limits
    gpus: float = 0.0
    name: str = "back-check"

    @property
    def version(self) -> str:
        return f"1 {self.judge.name} judged={self.limits.judged:g}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        scores, kept = dict[str, dict[str, float]](), dict[str, str]()
        for task, text in candidate.fact("instruct", "texts").items():
            source, target = PAIRS[task]
            scores[task] = self.judge.judge(folder / source, folder / target, text)
            if min(scores[task].values()) >= self.limits.judged:
                kept[task] = text
        best = max(min(found.values()) for found in scores.values())
        if not kept:
            return Reject(self.name, "the judge believes no pair", best, self.limits.judged)
        return candidate.with_facts(self.name, scores=scores, texts=kept, by=self.judge.name)
