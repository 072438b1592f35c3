"""A ComfyUI for the benchmarks that need one: where it is, and this pack as it loads it, in this process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def host_tree() -> Path:
    """COMFYUI_PATH, or the host that the tests fetch (tests/comfyui/host.py)."""
    return _module("instructx_bench_host", ROOT / "tests" / "comfyui" / "host.py").host_tree()


def enter_host(tree: Path, device: str = "cpu") -> str:
    """Puts the host on the path; returns its version."""
    sys.path.insert(0, str(tree))
    importlib.import_module("comfy.cli_args").args.cpu = device == "cpu"
    return importlib.import_module("comfyui_version").__version__


def load_pack() -> Callable[[str], ModuleType]:
    """by_name("nodes.sampler") of the pack, under a name of its own, as ComfyUI imports it."""
    _module("instructx_pack", ROOT / "__init__.py", [str(ROOT)])
    return lambda name: importlib.import_module(f"instructx_pack.{name}")


def _module(name: str, path: Path, folders: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {path} cannot be imported")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
