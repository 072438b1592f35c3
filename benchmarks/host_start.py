"""Seconds that the node pack adds to ComfyUI's start, and what it imports: the budget is 0.3 s and no heavy library.

A fresh process imports what the host has loaded by then (torch, numpy, PIL, comfy_api), then times what ComfyUI does
with a pack: import it and ask for its nodes. Prints the median of --runs processes. CPU seconds decide, because wall
time on a busy machine measures the neighbours.

    python benchmarks/host_start.py [--runs 5] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGET = 0.3  # seconds
HEAVY = ("transformers", "diffusers", "peft", "accelerate", "tokenizers", "matplotlib")

# What runs in the fresh process. argv: host tree, pack folder.
PROBE = """
import asyncio, importlib.util, json, sys, time
tree, pack = sys.argv[1:3]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, tree)
import comfy.options
comfy.options.enable_args_parsing()
import folder_paths, nodes, comfy_api.latest
name = pack.replace(".", "_x_")
before = set(sys.modules)

async def load():
    spec = importlib.util.spec_from_file_location(name, pack + "/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    nodes = await (await module.comfy_entrypoint()).get_node_list()
    return [node.GET_SCHEMA().node_id for node in nodes]

wall, cpu = time.perf_counter(), time.process_time()
ids = asyncio.run(load())
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
new = sorted({module.split(".")[0] for module in set(sys.modules) - before} - {name})
print("RESULT" + json.dumps({"wall_s": wall, "cpu_s": cpu, "nodes": ids, "new_packages": new}))
"""


def host_helper() -> Any:
    """tests/comfyui/host.py, which knows where the host is and what belongs to the pack."""
    spec = importlib.util.spec_from_file_location("instructx_bench_host", ROOT / "tests" / "comfyui" / "host.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(tree: Path, pack: Path) -> dict[str, Any]:
    """One fresh process. Raises RuntimeError with its output when the pack does not load."""
    command = [sys.executable, "-c", PROBE, str(tree), str(pack)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        raise RuntimeError(f"the pack did not load:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return json.loads(lines[0].removeprefix("RESULT"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes to take the median of")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    tree = host_helper().host_tree()
    results = [measure(tree, ROOT) for _ in range(arguments.runs)]
    summary = {
        "wall_s": statistics.median(result["wall_s"] for result in results),
        "cpu_s": statistics.median(result["cpu_s"] for result in results),
        "runs": arguments.runs,
        "nodes": results[0]["nodes"],
        "new_packages": results[0]["new_packages"],
        "heavy": [name for name in HEAVY if name in results[0]["new_packages"]],
        "budget_s": BUDGET,
    }
    print(f"the pack adds {summary['wall_s']:.3f} s ({summary['cpu_s']:.3f} s of CPU) to the start, budget {BUDGET} s")
    print(f"nodes: {', '.join(summary['nodes'])}")
    print(f"packages that nothing had loaded before: {', '.join(summary['new_packages']) or 'none'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 1 if summary["heavy"] or summary["cpu_s"] > BUDGET else 0


if __name__ == "__main__":
    sys.exit(main())
