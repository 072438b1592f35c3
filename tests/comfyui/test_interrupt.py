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
        armed[1] -= 1
        if armed[1] == 0:
            armed.clear()
            model_management.interrupt_current_processing()

register_module_forward_pre_hook(look)

@PromptServer.instance.routes.post("/instructx_trap")
async def trap(request):
    told = await request.json()
    armed[:] = [told["module"], told.get("count", 1)]
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


def test_a_long_video_goes_on_after_the_host_was_restarted(host: Any, trapped: Any, hosting: Any) -> None:
    """Cancel in the second window, /free, a new process: the finished window is not edited again."""
    import json

    graph = json.loads((hosting.ROOT / "workflows" / "api" / "try_long.json").read_text(encoding="utf-8"))
    (number,) = (name for name, node in graph.items() if node["class_type"] == "InstructXLongVideo")
    graph[number]["inputs"].update(seed=21, steps=1)
    kept = trapped.base / "output" / "InstructX_unfinished"
    trapped.post("/instructx_trap", {"module": "Qwen2_5_VisionPatchEmbed", "count": 2})
    entry = trapped.wait(trapped.queue(graph))
    assert dict(entry["status"]["messages"])["execution_interrupted"]["node_id"] == number
    assert [path.suffix for path in sorted(kept.iterdir())] == [".windows", ".mp4"]
    trapped.post("/free", {"unload_models": True, "free_memory": True})
    trapped.stop()
    trapped.start()
    went_on = trapped.run(graph)
    assert "1 of them are finished already" in went_on["outputs"][number]["text"]
    assert not kept.exists()
    whole = host.run(graph)
    assert "finished already" not in str(whole["outputs"][number]["text"])
