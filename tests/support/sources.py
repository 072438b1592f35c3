"""The repository as its rules see it: every file of code with its text, its syntax tree, its room and what it imports.

A room is a file or a folder of `instructx_core`, or a folder below it that has rules of its own (`formats/layouts`).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("instructx_core", "nodes")  # their folders lie side by side in a host
WINGS = (
    "editing/windows",
    "formats/containers",
    "formats/layouts",
    "formats/telling",
    "formats/forms",
    "nodes/parts",
    "training/jobs",
    "training/recipes",
    "training/runs",
)


@dataclass(frozen=True)
class Import:
    line: int
    module: str  # absolute and dotted: "instructx_core.formats.layouts.dit"
    typing: bool  # under `if TYPE_CHECKING`: never run


@dataclass(frozen=True)
class Source:
    name: str  # "instructx_core/formats/convert.py"

    @cached_property
    def text(self) -> str:
        return (ROOT / self.name).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def module(self) -> str:
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        return room_of(self.module)

    @cached_property
    def imports(self) -> list[Import]:
        """Every import of the file, at any depth."""
        typing = {
            id(child)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for child in ast.walk(node)
        }
        found: list[Import] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = self._imported_from(node)
            else:
                continue
            found += [Import(node.lineno, module, id(node) in typing) for module in modules]
        return found

    @cached_property
    def names(self) -> list[tuple[str, str, int]]:
        """(module, name, line) of every `from module import name`, at any depth."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        return [(self._stem(node), alias.name, node.lineno) for node in found for alias in node.names]

    def _stem(self, node: ast.ImportFrom) -> str:
        folder = Path(self.name).parent.parts
        base = folder[: len(folder) - node.level + 1] if node.level else ()
        return ".".join([*base, *(node.module.split(".") if node.module else [])])

    def _imported_from(self, node: ast.ImportFrom) -> list[str]:
        stem = self._stem(node)
        # `from .. import name` and `from .folder import name` may name a file: then that file is what is imported.
        named = [f"{stem}.{alias.name}" if stem else alias.name for alias in node.names]
        return sorted({name if name in MODULES or not node.module else stem for name in named})


def room_of(module: str) -> str:
    """ "instructx_core.formats.layouts.dit" -> "formats/layouts"; the package itself is "__init__"."""
    parts = module.split(".")
    if parts[0] == "instructx_core":
        parts = parts[1:] or ["__init__"]
    pair = "/".join(parts[:2])
    return pair if pair in WINGS else parts[0]


SOURCES = {
    path.relative_to(ROOT).as_posix(): Source(path.relative_to(ROOT).as_posix())
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
MODULES = {source.module: source for source in SOURCES.values()}
CORE = {name: source for name, source in SOURCES.items() if name.startswith("instructx_core/")}
