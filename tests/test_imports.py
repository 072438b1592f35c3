"""Who may import whom: every room of `instructx_core` and of `nodes/`, with all that it may import, is in ROOMS.

The order is that of the data: choices, model, sampling, pipeline, then what uses the pipeline. A room that is not
listed fails, and so does an entry without a room. What is under `if TYPE_CHECKING` follows the same direction.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sources import CORE, MODULES, ROOT, SOURCES, Source, room_of

ROOMS = {
    # choices, sizes, the one error, for which the standard library is enough; pixels as numbers
    "version": set(),
    "errors": set(),
    "config": set(),
    "geometry": {"config", "errors"},
    "random_streams": set(),
    "fields": {"errors"},
    "instruction": {"errors"},
    "pixels": {"errors"},
    "precision": set(),  # of a device, in torch alone
    # beside the model
    "cluster": {"errors"},
    "digests": {"errors"},
    "file_lock": set(),
    "kernels": {"file_lock"},
    "media": {"errors", "file_lock"},
    "pages": {"errors", "media"},
    "shapes": {"errors", "random_streams"},
    "world": {"errors", "random_streams"},
    # the model
    "connector": set(),
    "conditioning": {"config", "errors"},
    "encoder": {"config", "connector", "errors", "geometry", "instruction"},
    "denoiser": {"conditioning", "config", "errors"},
    "latents": {"errors"},
    "vae_layers": set(),
    "vae": {"config", "latents", "vae_layers"},
    # weight files: bytes -> tensors, names -> ours, what a file is, the forms it is converted to
    "formats/containers": {"errors"},
    "formats/layouts": {"config", "denoiser", "errors", "formats/containers"},
    "formats/telling": {"errors", "formats/containers", "formats/layouts"},
    "formats/forms": {"errors", "formats/containers", "formats/layouts", "vae"},
    "formats": {"config", "denoiser", "encoder", "errors", "formats/containers", "formats/forms"}
    | {"formats/layouts", "formats/telling", "vae"},
    # `speed` is given what it accelerates; it keeps results in files of its own
    "speed": {"config", "denoiser", "digests", "errors", "kernels", "media"},
    "costs": {"config", "denoiser", "encoder", "errors", "geometry", "training/recipes", "vae"},
    "sampling": {
        "config",
        "denoiser",
        "encoder",
        "errors",
        "geometry",
        "instruction",
        "latents",
        "pixels",
        "speed",
        "vae",
    },
    "pipeline": {
        "config",
        "denoiser",
        "encoder",
        "errors",
        "formats/layouts",
        "kernels",
        "sampling",
        "speed",
        "vae_layers",
        "version",
    },
    "weights": {
        "config",
        "denoiser",
        "encoder",
        "errors",
        "formats",
        "formats/containers",
        "formats/layouts",
        "pipeline",
        "precision",
        "sampling",
    },
    # what uses the pipeline; windows, which a node uses too, are below the edit that is made of them
    "editing/windows": {"errors", "fields", "geometry", "media", "sampling"},
    "editing": {"cluster", "config", "digests", "editing/windows", "errors", "fields", "geometry"}
    | {"instruction", "media", "pipeline", "pixels", "sampling", "speed", "version"},
    "evaluation": {
        "cluster",
        "data",
        "digests",
        "editing",
        "editing/windows",
        "errors",
        "fields",
        "file_lock",
        "media",
        "pages",
        "pipeline",
        "pixels",
        "precision",
        "random_streams",
        "sampling",
        "shapes",
        "world",
    },
    "data": {
        "config",
        "digests",
        "editing",
        "encoder",
        "errors",
        "geometry",
        "media",
        "pixels",
        "random_streams",
        "shapes",
        "vae",
        "world",
    },
    "synthesis": {"cluster", "costs", "data", "digests", "editing", "editing/windows", "errors", "evaluation"}
    | {"media", "pages", "pipeline", "precision", "shapes", "weights", "world"},
    "training/recipes": {"config", "errors"},
    # the parts of a run and its loop; jobs are made of the parts, runs of jobs and the loop
    "training": {
        "config",
        "data",
        "denoiser",
        "digests",
        "encoder",
        "errors",
        "formats",
        "formats/containers",
        "formats/layouts",
        "media",
        "precision",
        "random_streams",
        "training/recipes",
        "vae",
        "weights",
    },
    "training/jobs": {
        "config",
        "data",
        "denoiser",
        "encoder",
        "errors",
        "geometry",
        "pixels",
        "precision",
        "random_streams",
        "sampling",
        "speed",
        "training",
        "training/recipes",
        "vae",
    },
    "training/runs": {"cluster", "config", "data", "encoder", "errors", "formats/layouts", "pipeline", "sampling"}
    | {"training", "training/jobs", "training/recipes", "weights"},
    "study": {
        "cluster",
        "config",
        "costs",
        "data",
        "encoder",
        "errors",
        "evaluation",
        "file_lock",
        "formats/layouts",
        "geometry",
        "media",
        "sampling",
        "training",
        "training/jobs",
        "training/recipes",
        "training/runs",
        "version",
    },
    "commands": {
        "config",
        "costs",
        "data",
        "editing",
        "editing/windows",
        "errors",
        "evaluation",
        "fields",
        "formats",
        "formats/forms",
        "formats/layouts",
        "formats/telling",
        "geometry",
        "kernels",
        "media",
        "pages",
        "pipeline",
        "precision",
        "sampling",
        "shapes",
        "speed",
        "study",
        "synthesis",
        "training",
        "training/recipes",
        "training/runs",
        "weights",
    },
    "cli": {"commands", "errors", "version"},
    "__main__": {"cli"},
    "__init__": {"config", "editing", "errors", "pipeline", "version", "weights"},
    # ComfyUI
    "nodes/parts": {
        "conditioning",
        "config",
        "digests",
        "editing/windows",
        "encoder",
        "errors",
        "formats/layouts",
        "geometry",
        "media",
        "pixels",
        "precision",
        "sampling",
    },
    "nodes": {
        "editing/windows",
        "errors",
        "formats/forms",
        "formats/layouts",
        "kernels",
        "nodes/parts",
        "shapes",
    },
}

BY_NAME = {"cli"}  # imports its verbs by their names, which a parser does not see
HOST = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server")
OUTSIDE = ("benchmarks", "scripts", "tests")
STANDARD_LIBRARY_ONLY = ("version", "errors", "config", "geometry", "fields", "instruction")
HEAVY = ("transformers", "diffusers", "peft", "accelerate")
NETWORK = {"aiohttp", "ftplib", "httpx", "huggingface_hub", "openai", "requests", "smtplib", "socket", "urllib3"}


def violations(source: Source) -> list[str]:
    """What `source` imports against ROOMS, one line each."""
    found = []
    for imported in source.imports:
        top = imported.module.split(".")[0]
        where = f"{source.name}:{imported.line}"
        if top in OUTSIDE or (source.name.startswith("instructx_core/") and top in HOST):
            found.append(f"{where}: nothing here imports {top}")
        if top not in ("instructx_core", "nodes") or (top == "nodes" and imported.module not in MODULES):
            continue
        room = room_of(imported.module)
        if room != source.room and room not in ROOMS[source.room]:
            found.append(f"{where}: {source.room} must not import {room} ({imported.module})")
    return found


def test_every_room_is_listed() -> None:
    rooms = {source.room for source in SOURCES.values()}
    assert not rooms - ROOMS.keys(), "a room without an entry in ROOMS: say there what it may import"
    assert not ROOMS.keys() - rooms, "entries of ROOMS without a room"
    assert all(others <= rooms for others in ROOMS.values()), "ROOMS allows rooms that do not exist"


@pytest.mark.parametrize("room", sorted(ROOMS.keys() - BY_NAME))
def test_nothing_is_allowed_that_is_not_used(room: str) -> None:
    """So that a new import between rooms is a decision: a line in ROOMS."""
    used = {room_of(found.module) for s in SOURCES.values() if s.room == room for found in s.imports}
    assert ROOMS[room] <= used, f"{room} may import {', '.join(sorted(ROOMS[room] - used))} and does not"


def test_import_direction() -> None:
    found = [line for source in SOURCES.values() for line in violations(source)]
    assert not found, "\n".join(found)


def test_a_wrong_import_is_noticed() -> None:
    source = Source("instructx_core/media/example.py")
    source.__dict__["text"] = (
        "from typing import TYPE_CHECKING\nimport comfy.utils\nfrom ..errors import InputError\n"
        "def late():\n    from .. import pipeline\nif TYPE_CHECKING:\n    from ..formats.layouts import dit\n"
    )
    assert sorted(violations(source)) == [
        "instructx_core/media/example.py:2: nothing here imports comfy",
        "instructx_core/media/example.py:5: media must not import pipeline (instructx_core.pipeline)",
        "instructx_core/media/example.py:7: media must not import formats/layouts (instructx_core.formats.layouts.dit)",
    ]


@pytest.mark.parametrize("room", STANDARD_LIBRARY_ONLY)
def test_choices_need_only_the_standard_library(room: str) -> None:
    for source in (source for source in CORE.values() if source.room == room):
        for imported in source.imports:
            top = imported.module.split(".")[0]
            assert top in sys.stdlib_module_names or top == "instructx_core", f"{source.name}:{imported.line}"


def test_kernels_need_only_torch() -> None:
    for name in [name for name, source in CORE.items() if source.room == "kernels"]:
        for imported in CORE[name].imports:
            top = imported.module.split(".")[0]
            assert top in {*sys.stdlib_module_names, "torch", "instructx_core"}, f"{name}:{imported.line}"


def test_no_node_is_made_of_nodes() -> None:
    """What several nodes share lies in nodes/parts."""
    for source in SOURCES.values():
        if source.room == "nodes" and source.name != "nodes/__init__.py":
            nodes = {found.module for found in source.imports if room_of(found.module) == "nodes"} & MODULES.keys()
            assert not nodes, source.name


def test_only_the_chat_opens_connections() -> None:
    """And only to the address that its user gives: nothing else imports what could."""
    found = {
        name
        for name, source in SOURCES.items()
        for imported in source.imports
        if imported.module.split(".")[0] in NETWORK or imported.module in ("urllib.request", "http.client")
    }
    assert found == {"instructx_core/evaluation/judge/chat.py"}


def test_nodes_find_the_library_beside_them() -> None:
    """By relative imports: in a host the folder has another name and nothing is installed."""
    for name, source in SOURCES.items():
        if name.startswith("nodes/"):
            assert not re.search(r"^\s*(from|import) instructx_core", source.text, re.MULTILINE), name


def test_the_pack_holds_what_its_nodes_import() -> None:
    """Nothing that .comfyignore leaves out is reached from `nodes/`, late imports included."""
    left_out = [
        line.strip().strip("/")
        for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("/instructx_core/")
    ]
    reached = {module for module, source in MODULES.items() if source.room.startswith("nodes")}
    new = set(reached)
    while new:
        imported = {found.module for module in new for found in MODULES[module].imports if not found.typing}
        new = (imported & MODULES.keys()) - reached
        reached |= new
    missing = [name for name in (MODULES[module].name for module in reached) if name.startswith(tuple(left_out))]
    assert not missing, f"the node pack has no {', '.join(sorted(missing))}: see .comfyignore"


@pytest.mark.parametrize(
    "module", ["instructx_core", "instructx_core.config", "instructx_core.media.files", "instructx_core.cli"]
)
def test_import_is_cheap(module: str, tmp_path: Path) -> None:
    """A fresh process: no heavy library comes along, and nothing is written."""
    code = (
        f"import sys, {module}; "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; "
        "assert not heavy, heavy; "
        "import logging; assert not logging.getLogger().handlers"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_requirements() -> None:
    """The library has lower bounds only; requirements.txt, which ComfyUI Manager installs, asks for nothing at all."""
    block = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    assert block is not None
    listed = re.findall(r'"([^"]+)"', block.group(1))
    assert listed and all(re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line) for line in listed), "lower bounds only"
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") for line in lines), "a requirement could replace the host's torch or transformers"
