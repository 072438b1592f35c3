"""Fixtures for unit tests of the nodes: the host's own modules in this process (CPU), and the pack as a package.

The pack is imported under a name of its own, as ComfyUI does it, so relative imports are what is tested.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

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
    """pack("nodes.parts.media") -> that module of the pack."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[PACK] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACK])
    return lambda name: importlib.import_module(f"{PACK}.{name}")


@pytest.fixture(scope="session")
def dit(comfy: Path, load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    """The module dit_case.py."""
    return load_helper("instructx_test_dit", "nodes/dit_case.py")


@pytest.fixture(scope="session")
def patching(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.parts.model_patch")


@pytest.fixture(scope="module")
def case(dit: ModuleType) -> Any:
    """Random weights with both embedders, the source scaled by sigma."""
    return dit.Case(dit.config_of(**dit.OWN))


@pytest.fixture(scope="module")
def vae(comfy: Path, shipped: Path) -> Any:
    """The shipped VAE in the host's class."""
    from comfy import sd, utils

    (file,) = (shipped / "vae").glob("*.safetensors")
    return sd.VAE(sd=utils.load_torch_file(str(file)))


@pytest.fixture
def conditioning(pack: Callable[[str], ModuleType]) -> Callable[..., Any]:
    """conditioning(model, given, context) -> CONDITIONING as Source and Reference makes it."""
    attach = pack("nodes.parts.prepare").attach
    shaped = pack("nodes.parts.host_model").noise_shaped

    def make(model: Any, given: Any, context: Tensor | None = None) -> Any:
        entries = {}
        if given.references is not None:  # the node hands over what the VAE gave; the host normalises it
            process = model.get_model_object("latent_format").process_out
            entries["time_dim_concat"] = process(given.references)
        first = given.context if context is None else context
        return attach([[first[:1], {}]], {"instructx_source": shaped(given.source[:1])}, entries)

    return make


@pytest.fixture
def gguf_pack(comfy: Path) -> Callable[[str], ModuleType]:
    """gguf_pack("loader"): a module of the real ComfyUI-GGUF, of the checkout in COMFYUI_GGUF_PATH."""
    folder = os.environ.get("COMFYUI_GGUF_PATH")
    if not folder:
        pytest.skip("COMFYUI_GGUF_PATH is not set: needs a checkout of ComfyUI-GGUF and `pip install gguf`")
    if "comfyui_gguf" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "comfyui_gguf", Path(folder) / "__init__.py", submodule_search_locations=[folder]
        )
        assert spec is not None and spec.loader is not None
        sys.modules["comfyui_gguf"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["comfyui_gguf"])
    return lambda name: importlib.import_module(f"comfyui_gguf.{name}")
