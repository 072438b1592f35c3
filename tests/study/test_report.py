"""The page is written from study.json and from nothing else; what has not been run is said to be so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.queue import RECORDS, samples_of
from instructx_core.study.report import PAGE, RESULTS, load_result, page, write_study
from instructx_core.study.scales import REHEARSAL, SCALES
from instructx_core.study.schedule import all_runs

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_this_repository_is_what_its_results_say() -> None:
    result = load_result(DOCS / RESULTS)
    assert (DOCS / PAGE).read_text() == page(result, SCALES[result["scale"]])


def test_without_results_nothing_is_claimed(tmp_path: Path) -> None:
    findings = write_study(REHEARSAL, tmp_path / "runs", tmp_path / "study")
    assert {each.verdict for each in findings} == {"cannot tell"} and all(each.missing for each in findings)
    text = (tmp_path / "study" / PAGE).read_text()
    assert "no number on this page is a result" in text and text.count("Not run yet.") == len(EXPERIMENTS)
    assert not re.search(r"\*\*(Agree|Disagree)", text) and not list((tmp_path / "study").glob("*.png"))


def test_contradictions_stand_beside_their_claims() -> None:
    text = (DOCS / PAGE).read_text()
    for experiment in EXPERIMENTS.values():
        assert experiment.sentence in text and experiment.contradiction in text
    assert "8.26 at 2:3" in text and "1024 queries score above 512" in text


@pytest.mark.parametrize("name", ["fig4_left", "tab6"])
def test_planted_records_become_a_figure_and_a_verdict(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Records as a run writes them, the first variant better by a quarter in every sample."""
    scale = REHEARSAL
    for place, run in enumerate(all_runs(scale, [EXPERIMENTS[name]])):
        if not run.measured:
            continue
        about = {"task": "color", "area": 0.1, "appears": 0}
        records = [
            {
                **about,
                "id": f"{kind} {n}",
                "modality": kind,
                "loss": (1 + 0.25 * (place > 0)) * (1 + n / 50),
                "success": n % 3 > 0,
                "flicker": 0.01,
            }
            for kind in ("image", "video")
            for n in range(40)
        ]
        folder = tmp_path / "runs" / run.name
        folder.mkdir(parents=True)
        (folder / RECORDS).write_text(json.dumps({"samples": samples_of(run), "records": records}))
        rows = [{"step": step, "validation": {"image loss": 1.0 / step + place}} for step in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_study(scale, tmp_path / "runs", tmp_path / "study")
    found = load_result(tmp_path / "study" / RESULTS)["experiments"][name]
    assert found["missing"] == 0 and (tmp_path / "study" / found["figure"]).stat().st_size > 5_000
    assert found["verdict"] == "cannot tell"  # one seed gives no interval over seeds
    if name == "fig4_left":
        assert all(each["estimate"]["mean"] == pytest.approx(0.2231, abs=1e-3) for each in found["differences"])
