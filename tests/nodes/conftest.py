"""Fixtures for unit tests of the nodes: the host's own modules in this process (CPU), and the pack as a package.

The pack is imported under a name of its own, as ComfyUI does it, so relative imports are what is tested.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PACK = "instructx_test_pack"


@pytest.fixture(scope="session")
def comfy(load_helper: Callable[[str, str], ModuleType]) -> Path:
    """The host's tree, importable: `import comfy.model_management` gives the real modules, on the CPU."""
    tree = load_helper("instructx_test_host", "comfyui/host.py").host_tree()
    if str(tree) not in sys.path:
        sys.path.insert(0, str(tree))  # before the repository, whose `nodes` is another one
    from comfy.cli_args import args

    args.cpu = True
    return tree


@pytest.fixture(scope="session")
def pack(comfy: Path, root: Path) -> Callable[[str], ModuleType]:
    """pack("nodes.media") -> that module of the pack."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[PACK] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACK])
    return lambda name: importlib.import_module(f"{PACK}.{name}")
