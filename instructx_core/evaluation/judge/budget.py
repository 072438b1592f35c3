"""What judging would cost, counted without sending anything: requests, pictures, estimated tokens.

Place: outputs -> budget. Tokens are an estimate: four letters a token of text, and OpenAI's rule for pictures (85, and
170 for each tile of 512x512); other models count otherwise. Retries and replies that must be asked again come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...data.record import EditRecord
from ..run_folder import RunFolder
from ..scores import SCORES, read_scores
from .client import ModelJudge
from .pictures import Unshowable
from .run import JudgeCase, sort_cases

LOOKED_AT = 20  # outputs of an editor whose pictures are made, evenly; the rest is taken to be like them


def estimate(
    run: RunFolder, judge: ModelJudge, editors: Sequence[str], items: Iterable[EditRecord], samples: int = 1
) -> str:
    """A line an editor, and of all of them."""
    wanted, lines, total = list(items), list[str](), [0, 0, 0, 0]
    scores = run.path / SCORES
    done = {score.key: score for score in read_scores(scores)} if scores.exists() else {}
    for editor in editors:
        cases, known = sort_cases(run, judge.name, [editor], wanted, samples, done)
        missing = sum(score.status == "missing" for score in known)
        requests, pictures, tokens = _counted(judge, cases)
        numbers = [len(cases), requests, pictures, tokens]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        without = f", {missing} without an output" if missing else ""
        lines.append(f"{editor}: {_words(numbers)}{without}")
    return "\n".join([*lines, f"in all: {_words(total)}"])


def _counted(judge: ModelJudge, cases: Sequence[JudgeCase]) -> tuple[int, int, int]:
    """Requests, pictures and tokens of all cases, from the first of them that can be shown."""
    seen, requests, pictures, tokens = 0, 0, 0, 0
    for case in cases[:: -(-len(cases) // LOOKED_AT) or 1]:
        try:
            questions = judge.protocol.questions(case, judge.viewing)
        except Unshowable:
            continue
        seen += 1
        requests += len(questions)
        pictures += sum(question.pictures for question in questions)
        tokens += sum(question.tokens for question in questions)
    scale = len(cases) / seen if seen else 0.0
    return round(requests * scale), round(pictures * scale), round(tokens * scale)


def _words(numbers: Sequence[int]) -> str:
    cases, requests, pictures, tokens = numbers
    return f"{cases} outputs to judge, {requests} requests, {pictures} pictures, about {tokens} tokens to send"
