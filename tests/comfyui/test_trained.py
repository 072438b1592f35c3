"""A model that the three stages of the paper wrote, on two processes from a mixture of files: native loaders sample it.

tests/training/test_mixture_run.py looks at the runs themselves; this one at what an artist does with their files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.cli import main
from instructx_core.config import PRESETS

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_paper import small_paper
from small_stages import train_stages

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def graphs(load_helper: Any) -> Any:
    """The module test_rehearsal.py, for its graph of native loaders."""
    return load_helper("instructx_rehearsal_graphs", "comfyui/test_rehearsal.py")


def test_native_loaders_sample_what_was_trained(boot: Any, graphs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(PRESETS, "paper_14b", small_paper)
    host, runs = boot(), train_stages(tmp_path)
    pictures = {}
    for last in ("stage2", "stage3"):
        model = host.base / "models" / last
        assert main(["train", "export", "--output", str(runs), "--last", last, "--to", str(model)]) == 0
        for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
            place = host.base / "models" / folder
            place.mkdir(exist_ok=True)
            (file,) = (model / folder).iterdir()
            file.rename(place / graphs.NAME)
        (model / "tokenizer.json").rename(host.base / "models" / "text_encoders" / "tokenizer.json")
        pictures[last] = graphs.ready(host)(graphs.native())
    assert pictures["stage3"].shape == (64, 64, 3) and pictures["stage3"].std() > 1
    assert not np.array_equal(pictures["stage2"], pictures["stage3"]), "each has weights of its own"
