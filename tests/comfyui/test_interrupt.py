"""Cancel in the middle of each part of a run, on a real host: it stops there, and the next run is right.

A test's own node presses Cancel from inside, at the first forward of a module of the class that it was told: the moment
does not depend on the speed of the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui

TRAP = """
from aiohttp import web
from comfy import model_management
from server import PromptServer
from torch.nn.modules.module import register_module_forward_pre_hook

NODE_CLASS_MAPPINGS = {}
armed = []

def look(module, _):
    if armed and type(module).__name__ == armed[0]:
        armed.clear()
        model_management.interrupt_current_processing()

register_module_forward_pre_hook(look)

@PromptServer.instance.routes.post("/instructx_trap")
async def trap(request):
    armed[:] = [(await request.json())["module"]]
    return web.json_response({})
"""


@pytest.fixture(scope="module")
def trapped(boot: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("trap") / "zz_trap.py"
    file.write_text(TRAP, encoding="utf-8")
    return boot(files=(file,))


@pytest.mark.parametrize(
    ("seed", "module", "where"),
    [
        (11, "Qwen2_5_VLMLP", "queries"),
        (12, "Qwen2_5_VLDecoderLayer", "queries"),
        (13, "Encoder3d", "source"),
        (14, "WanAttentionBlock", "sampler"),
        (15, "Decoder3d", "sampler"),
    ],
)
def test_cancel(host: Any, trapped: Any, graphs: Any, seed: int, module: str, where: str) -> None:
    """seed: of a clip that no run has in its cache. The same graph again gives what an undisturbed host gives."""
    graph = graphs.edit("video")
    graph["sample"]["inputs"]["seed"] = seed
    trapped.post("/instructx_trap", {"module": module})
    entry = trapped.wait(trapped.queue(graph))
    assert dict(entry["status"]["messages"])["execution_interrupted"]["node_id"] == where
    got, want = (np.stack(graphs.pictures(each, graph)) for each in (trapped, host))
    assert np.array_equal(got, want)
