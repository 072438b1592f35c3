"""Seconds that the node pack adds to ComfyUI's start, and what it imports: the budget is 0.3 s and no heavy library.

A fresh process imports what the host has loaded by then (torch, numpy, PIL, comfy_api), then times what ComfyUI does
with a pack: import it and ask for its nodes. Prints the median of --runs processes. CPU seconds decide, because wall
time on a busy machine measures the neighbours.

    python benchmarks/host_start.py [--runs 5] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import results
from comfy_host import ROOT, host_tree

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
    results.add_options(parser)
    arguments = parser.parse_args()
    tree = host_tree()
    runs = [measure(tree, ROOT) for _ in range(arguments.runs)]
    summary = {
        "wall_s": statistics.median(result["wall_s"] for result in runs),
        "cpu_s": statistics.median(result["cpu_s"] for result in runs),
        "runs": arguments.runs,
        "nodes": runs[0]["nodes"],
        "new_packages": runs[0]["new_packages"],
        "heavy": [name for name in HEAVY if name in runs[0]["new_packages"]],
        "budget_s": BUDGET,
    }
    lines = (
        f"the pack adds {summary['wall_s']:.3f} s ({summary['cpu_s']:.3f} s of CPU) to the start, budget {BUDGET} s",
        f"nodes: {', '.join(summary['nodes'])}",
        f"packages that nothing had loaded before: {', '.join(summary['new_packages']) or 'none'}",
    )
    results.report(arguments, summary, "\n".join(lines))
    return 1 if summary["heavy"] or summary["cpu_s"] > BUDGET else 0


if __name__ == "__main__":
    sys.exit(main())
