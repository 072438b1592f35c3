"""The page is written from study.json and from nothing else; what has not been run is said to be so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from planted_records import plant

from instructx_core.errors import InputError
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.figures import LARGEST, alignment_curves, validation_losses
from instructx_core.study.findings import finding_of
from instructx_core.study.records import RECORDS
from instructx_core.study.report import PAGE, RESULTS, page, write_study
from instructx_core.study.scales import REHEARSAL, SCALES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_this_repository_is_what_its_results_say() -> None:
    result = json.loads((DOCS / RESULTS).read_text())
    assert (DOCS / PAGE).read_text() == page(result, SCALES[result["scale"]])


def test_without_results_nothing_is_claimed(tmp_path: Path) -> None:
    findings = write_study(REHEARSAL, tmp_path / "runs", tmp_path / "study")
    assert {each.verdict for each in findings} == {"cannot tell"} and all(each.missing for each in findings)
    text = (tmp_path / "study" / PAGE).read_text()
    assert "no number on this page is a result" in text and text.count("Not run yet.") == len(EXPERIMENTS)
    assert not re.search(r"\*\*(Agree|Disagree)", text) and not list((tmp_path / "study").glob("*.webp"))


def test_contradictions_stand_beside_their_claims() -> None:
    text = (DOCS / PAGE).read_text()
    for experiment in EXPERIMENTS.values():
        assert experiment.sentence in text and experiment.contradiction in text
    assert "8.26 at 2:3" in text and "1024 queries score above 512" in text


@pytest.mark.parametrize("name", ["fig4_left", "tab6"])
def test_planted_records_become_a_figure_and_a_verdict(name: str, tmp_path: Path) -> None:
    """The first variant is better by a quarter in every sample; what it cost stands in the page."""
    plant(REHEARSAL, EXPERIMENTS[name], tmp_path / "runs")
    write_study(REHEARSAL, tmp_path / "runs", tmp_path / "study")
    result = json.loads((tmp_path / "study" / RESULTS).read_text())
    found = result["experiments"][name]
    assert found["missing"] == 0 and 5_000 < (tmp_path / "study" / found["figure"]).stat().st_size <= LARGEST
    assert found["verdict"] == "cannot tell"  # one seed gives no interval over seeds
    text = (tmp_path / "study" / PAGE).read_text()
    assert result["costs"][name]["ratio"] == 1.0 and f"| `{name}` | " in text and "Caution" not in text
    if name == "fig4_left":
        assert all(each["estimate"]["mean"] == pytest.approx(0.2231, abs=1e-3) for each in found["differences"])


def test_a_mixture_of_codes_is_told(tmp_path: Path) -> None:
    plant(REHEARSAL, EXPERIMENTS["tab6"], tmp_path / "runs")
    path = next((tmp_path / "runs").glob(f"*/{RECORDS}"))
    path.write_text(path.read_text().replace('"commit": "planted"', '"commit": "other"'))
    write_study(REHEARSAL, tmp_path / "runs", tmp_path / "study")
    text = (tmp_path / "study" / PAGE).read_text()
    assert "Caution: these runs do not have in common their commit: other, planted." in text


def test_curves_over_steps_and_compute(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["fig4_left"]
    plant(REHEARSAL, experiment, tmp_path)
    curves = alignment_curves(finding_of(REHEARSAL, experiment, tmp_path), tmp_path)
    assert list(curves) == ["InstructX", "MetaQuery", "QFormer"]
    ours, other = curves["InstructX"], curves["MetaQuery"]
    assert (ours.flops, other.flops) == (2e13, 2.5e13) and ours.steps.tolist() == list(range(1, 9))
    assert np.all(other.losses_SN == pytest.approx(1.25 * ours.losses_SN))


def test_a_line_that_was_cut_off_is_left_out_and_a_damaged_one_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "validation": {"image loss": 0.5}}\n{"step": 2, "validation": {"image lo')
    assert validation_losses(path) == {1: 0.5}
    path.write_text('{"step": 1, "validation": {"image loss": 0.5}}\n\0\0\0{"step": 2}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        validation_losses(path)
