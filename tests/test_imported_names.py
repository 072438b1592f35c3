"""What one file imports from another is there: pyright sees that for the library, this for nodes and tests as well."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from sources import MODULES, ROOT, SOURCES, Source

OUTSIDE = ("benchmarks", "scripts", "tests")


def names_of(source: Source) -> set[str]:
    """Everything that a file defines or imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return found


def missing_names(sources: Iterable[Source]) -> list[str]:
    """What is imported from our own files and is not there, late imports included: nobody notices until they run."""
    defined = {module: names_of(source) for module, source in MODULES.items()}
    found = []
    for source in sources:
        for module, name, line in source.names:
            # Outside of the pack `nodes` is the host's.
            ours = module.split(".")[0] == "instructx_core" or (source.name.startswith("nodes/") and module in MODULES)
            if not ours or f"{module}.{name}" in MODULES:
                continue
            if module not in MODULES:
                found.append(f"{source.name}:{line}: there is no {module}")
            elif name not in defined[module]:
                found.append(f"{source.name}:{line}: {module} has no {name}")
    return found


def test_every_imported_name_exists() -> None:
    """Of nodes too, which a checker of types does not see: the host's modules are missing there."""
    outside = [path for folder in OUTSIDE for path in (ROOT / folder).rglob("*.py")]
    sources = [*SOURCES.values(), *(Source(path.relative_to(ROOT).as_posix()) for path in outside)]
    found = missing_names(sources)
    assert not found, "\n".join(found)


def test_a_missing_name_is_noticed() -> None:
    source = Source("nodes/parts/example.py")
    source.__dict__["text"] = (
        "from ...instructx_core.errors import InputError, NoError\nfrom . import schema\n"
        "def late():\n    from .schema import NOT_THERE\n    from ...instructx_core.nowhere import something\n"
    )
    assert missing_names([source]) == [
        "nodes/parts/example.py:1: instructx_core.errors has no NoError",
        "nodes/parts/example.py:4: nodes.parts.schema has no NOT_THERE",
        "nodes/parts/example.py:5: there is no instructx_core.nowhere",
    ]
