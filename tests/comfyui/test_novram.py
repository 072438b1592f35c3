"""A host that keeps every weight away from the computing device, as under --novram: nodes, LoRA and clips as usual.

ComfyUI refuses --novram beside --cpu. A test's own node therefore sets what that option sets, and lets the host's
load_models_gpu, and nothing else, take this CPU for a card; from there on everything is the host's own code.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui

NOVRAM = """
import sys
from comfy import model_management

model_management.vram_state = model_management.VRAMState.NO_VRAM
ask = model_management.is_device_cpu
model_management.is_device_cpu = lambda device: sys._getframe(1).f_code.co_name != "load_models_gpu" and ask(device)
NODE_CLASS_MAPPINGS = {}
"""
LOADED = re.compile(r"loaded (partially|completely);[^\n]*? ([\d.]+) MB loaded")


@pytest.fixture(scope="module")
def novram(boot: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("novram") / "zz_novram.py"
    file.write_text(NOVRAM, encoding="utf-8")
    return boot(files=(file,))


def test_same_results_with_all_weights_away(host: Any, novram: Any, graphs: Any) -> None:
    """An image with a reference and guidance, a clip, a LoRA: what a host with everything loaded gives."""
    lora = {"lora_name": graphs.lora_file(host.base / "models" / "loras"), "strength_model": 1.0}
    graphs.lora_file(novram.base / "models" / "loras")
    with_lora = graphs.between(graphs.edit(), "lora", "LoraLoaderModelOnly", ("sampler", "model"), "model", **lora)
    for graph in (graphs.guided(graphs.edit(task="reference_add", cfg=2.0)), graphs.edit("video"), with_lora):
        want, got = np.stack(graphs.pictures(host, graph)), np.stack(graphs.pictures(novram, graph))
        assert np.abs(want.astype(int) - got).max() <= 1
    log = novram.log()
    assert all(f"Requested to load {name}" in log for name in ("EncoderModule", "WanVAE", "WAN21"))
    assert set(LOADED.findall(log)) == {("partially", "0.00")} and "loaded completely" not in log
    assert "lowvram patches: 3" in log, "the LoRA is applied as the layers come"
