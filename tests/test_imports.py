"""The rules of CONTRIBUTING.md that a parser checks: import direction, import cost, forbidden calls, sizes, ASCII."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "instructx_core"
FILES = sorted(CORE.rglob("*.py"))
SOURCES = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in FILES}
TREES = {name: ast.parse(text, name) for name, text in SOURCES.items()}

# A layer imports itself and the layers named. What is not listed is a step.
LAYERS = {
    "version": "base",
    "errors": "base",
    "config": "base",
    "geometry": "base",
    "kernels": "kernels",
    "shapes": "shapes",
    "weights": "pipeline",
    "pipeline": "pipeline",
    "costs": "pipeline",
    "editing": "pipeline",
    "training": "training",
    "evaluation": "evaluation",
    "synthesis": "synthesis",
    "study": "study",
    "commands": "cli",
    "cli": "cli",
    "__main__": "cli",
}
_BELOW = {"base", "kernels", "step", "shapes", "pipeline"}
MAY_IMPORT = {
    "base": set(),
    "kernels": set(),
    "step": {"base", "kernels"},
    "shapes": {"base", "step"},
    "pipeline": {"base", "kernels", "step"},
    "training": _BELOW,
    "evaluation": _BELOW,
    "synthesis": _BELOW,
    "study": _BELOW | {"training", "evaluation"},
    "cli": _BELOW | {"training", "evaluation", "synthesis", "study"},
}
HEAVY = ("transformers", "diffusers", "peft", "accelerate")


def layer_of(module: str) -> str:
    return LAYERS.get(module, "step")


def imported_modules(name: str, tree: ast.AST) -> list[tuple[int, str]]:
    """(line, absolute dotted module) of every import of one file, at any depth, `if TYPE_CHECKING` left out."""
    package = Path(name).with_suffix("").parts[:-1]
    skip = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = base + (node.module.split(".") if node.module else [])
            if node.level and node.module is None:
                found += [(node.lineno, ".".join([*stem, alias.name])) for alias in node.names]
            else:
                found.append((node.lineno, ".".join(stem)))
    return found


@pytest.mark.parametrize("name", sorted(TREES))
def test_import_direction(name: str) -> None:
    own = Path(name).with_suffix("").parts[1]
    layer = layer_of(own)
    for line, module in imported_modules(name, TREES[name]):
        parts = module.split(".")
        assert parts[0] not in ("comfy", "nodes", "folder_paths", "comfy_api"), f"{name}:{line} imports {module}"
        if parts[0] != "instructx_core" or len(parts) == 1 or own == "__init__":
            continue
        other = layer_of(parts[1])
        assert other == layer or other in MAY_IMPORT[layer], (
            f"{name}:{line}: {layer} must not import {other} ({module})"
        )


def test_no_files_import_each_other() -> None:
    """Imports of files go one way too, those inside of functions included: what two files share lies below both."""
    dotted = {Path(name).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): name for name in TREES}
    asks: dict[str, set[str]] = {}
    for module, name in dotted.items():
        found = {other for _, other in imported_modules(name, TREES[name])}
        asks[module] = {other for other in found if other in dotted and not module.startswith(f"{other}.")} - {module}
    while free := [module for module, others in asks.items() if not others & asks.keys()]:
        for module in free:
            del asks[module]
    assert not asks, f"circles among: {', '.join(sorted(asks))}"


def test_geometry_and_config_need_only_the_standard_library() -> None:
    config = [name for name in TREES if name.startswith("instructx_core/config/")]
    assert config
    for name in (*config, *(f"instructx_core/{module}.py" for module in ("geometry", "errors", "version"))):
        for line, imported in imported_modules(name, TREES[name]):
            top = imported.split(".")[0]
            assert top in sys.stdlib_module_names or top == "instructx_core", f"{name}:{line} imports {imported}"


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


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_forbidden_calls(name: str) -> None:
    assert not re.search(r"torch\.load\s*\(|\bimport pickle|\bfrom pickle|\bimport marshal", SOURCES[name])
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "__import__"), f"{name}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name}:{node.lineno}: bare except"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_file_is_readable(name: str) -> None:
    text = SOURCES[name]
    assert text.isascii(), f"{name}: code is ASCII only"
    assert len(text.splitlines()) <= 400, f"{name} has more than 400 lines: split it by concern"
    if text.strip():
        assert ast.get_docstring(TREES[name]), f"{name} opens with a docstring"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{name}:{node.lineno}: {node.name} has {length} lines, at most 60"


def test_requirements() -> None:
    """The library has lower bounds only; requirements.txt, which ComfyUI Manager installs, asks for nothing at all."""
    block = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    assert block is not None
    listed = re.findall(r'"([^"]+)"', block.group(1))
    assert listed and all(re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line) for line in listed), "lower bounds only"
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") for line in lines), "a requirement could replace the host's torch or transformers"
