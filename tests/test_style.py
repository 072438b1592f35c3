"""The rules of CONTRIBUTING.md that a parser checks: forbidden calls, sizes, arguments, docstrings, format, ASCII."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from sources import CORE, ROOT, SOURCES, Source

LINES, MEDIAN_LINES, DOCSTRING_LINES, FUNCTION_LINES, NODE_LINES, ARGUMENTS = 400, 150, 8, 60, 80, 8

# Whose arguments are another's choice: diffusers' conventions, or a schema of torch.library, which knows no dataclass.
DICTATED = {
    ("instructx_core/denoiser.py", "__init__"),  # register_to_config keeps every argument by its name
    ("instructx_core/pipeline.py", "__call__"),
    ("instructx_core/kernels/int8.py", "qkv_prologue"),
    ("instructx_core/kernels/int8.py", "_fake_qkv_prologue"),
    ("instructx_core/kernels/int8.py", "attention_int8"),
    ("instructx_core/kernels/override.py", "_attend"),  # ComfyUI's attention function
    ("instructx_core/kernels/session.py", "attention_auto"),
    ("instructx_core/kernels/session.py", "_fake_attention_auto"),
}

CUDA_ENDINGS = (".cu", ".cuh", ".h", ".cpp")
TESTS = ROOT / "tests"
ALL_FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("instructx_core", "nodes", "benchmarks", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)

TEST_FILES = sorted(path.relative_to(ROOT).as_posix() for path in TESTS.rglob("*.py"))
CUDA = [
    path.relative_to(ROOT).as_posix()
    for ending in ("cu", "cuh", "h", "cpp")
    for folder in ("instructx_core", "tests")
    for path in (ROOT / folder).glob(f"**/csrc/*.{ending}")
]


def functions(source: Source) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of a function's arguments but `self` and `cls`, and but *args and **kwargs."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_forbidden_calls() -> None:
    for name, source in SOURCES.items():
        assert not re.search(r"torch\.load\s*\(|\bimport pickle|\bfrom pickle|\bimport marshal", source.text), name
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__"), f"{name}:{node.lineno} calls {node.func.id}"
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{name}:{node.lineno}: bare except"


def test_file_is_readable() -> None:
    for name in ALL_FILES:
        source = Source(name)
        assert source.text.isascii(), f"{name}: code is ASCII only"
        if source.text.strip():
            docstring = ast.get_docstring(source.tree)
            assert docstring, f"{name} opens with a docstring"
            prose = [line for line in docstring.splitlines() if line and not line.startswith("    ")]  # less tables
            assert len(prose) <= DOCSTRING_LINES, f"{name}: its docstring has {len(prose)} lines"
        for node in functions(source):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{name}:{node.lineno}: {node.name} has {length} lines, at most 60"


def test_files_are_small() -> None:
    """Those of the tests too, whatever language they are in."""
    code = (*ALL_FILES, *TEST_FILES, *CUDA)
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in code}
    long = [f"{name} ({count})" for name, count in lines.items() if count > LINES]
    assert not long, f"more than {LINES} lines, split by concern: {', '.join(long)}"
    assert statistics.median(len(source.text.splitlines()) for source in SOURCES.values()) < MEDIAN_LINES


def test_a_node_is_thin() -> None:
    for name in [name for name, source in SOURCES.items() if source.room == "nodes"]:
        for node in ast.walk(SOURCES[name].tree):
            if isinstance(node, ast.ClassDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= NODE_LINES, f"{name}:{node.lineno}: {node.name} has {length} lines"


def test_functions_take_few_arguments() -> None:
    for name in CORE:
        for node in functions(CORE[name]):
            if (name, node.name) not in DICTATED:
                count = len(arguments(node))
                assert count <= ARGUMENTS, f"{name}:{node.lineno}: {node.name} takes {count} arguments"


def tables(tree: ast.AST) -> set[int]:
    """The last lines of tables of data: a display that is given a name, returned, compared with or gone through."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.Return):
            table = node.value
        elif isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            table = node.test.comparators[-1]
        else:
            table = node.iter if isinstance(node, ast.For) else None
        if isinstance(table, ast.List | ast.Tuple | ast.Dict | ast.Set):
            found.add(table.end_lineno)
    return found


def unformatted(name: str, text: str) -> list[str]:
    """Where ruff is told to leave something as it is, which a test may do with a table of data."""
    allowed = tables(ast.parse(text)) if name.startswith("tests/") else set()
    lines = enumerate(text.splitlines(), 1)
    return [f"{name}:{line}" for line, code in lines if re.search(r"# fmt: (skip|off)", code) and line not in allowed]


def test_ruff_formats_everything() -> None:
    found = [
        place
        for name in (*ALL_FILES, *TEST_FILES)
        for place in unformatted(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not found, f"name what is packed, or let it wrap: {', '.join(found)}"


def test_only_a_table_of_a_test_is_left_as_it_is() -> None:
    mark = "# fmt: " + "skip"
    table, call, head = f"rows = [\n  1, 2,\n]  {mark}", f"run(\n  1, 2,\n)  {mark}", f"def f(\n  a,\n):  {mark}"
    code = "\n".join([table, call, head, f"  return (1,\n  2)  {mark}"])
    assert unformatted("tests/test_x.py", code) == ["tests/test_x.py:6", "tests/test_x.py:9"]
    assert len(unformatted("instructx_core/x.py", code)) == 4


def test_what_is_accelerated_has_a_type() -> None:
    for name in [name for name, source in CORE.items() if source.room == "speed"]:
        for node in functions(CORE[name]):
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
                if argument.arg in ("pipe", "pipeline", "model", "transformer", "vae", "encoder"):
                    assert kind not in ("", "Any"), f"{name}:{node.lineno}: {node.name}({argument.arg}: {kind})"


# Words of a sentence, not of a thing: what was told or said is a count, a reply, a wording.
GRAMMAR = {"held", "said", "told"}


def bound_names(tree: ast.AST) -> dict[str, int]:
    """What a file gives a name to, with a line: variables, arguments, attributes, functions, classes."""
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found[node.id if isinstance(node, ast.Name) else node.attr] = node.lineno
        elif isinstance(node, ast.arg):
            found[node.arg] = node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node.lineno
    return found


def test_names_are_things() -> None:
    assert bound_names(ast.parse("said = f(a)\nfor told in b:\n  c.held = told")).keys() == {"said", "told", "held"}
    for name in ALL_FILES:
        names = bound_names(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        wrong = [f"{name}:{names[word]}: {word}" for word in GRAMMAR & names.keys()]
        assert not wrong, f"name the thing: {', '.join(wrong)}"


# Public functions whose name is a convention: where they may stand, and what the name promises.
CONVENTIONS = {
    "main": ("", "what `python -m` runs"),
    "add_arguments": ("instructx_core/commands/", "the flags of a verb"),
    "run": ("instructx_core/commands/", "a verb"),
    "attention": ("instructx_core/kernels/", "one operation: the public function, and each way to compute it"),
    "attention_lse": ("instructx_core/kernels/", "the same with its log-sum-exp"),
    "attention_int8": ("instructx_core/kernels/", "the op, and its definition in reference.py"),
}


def world_of(name: str) -> str:
    """The version of the procedural world that a file is of, or made for (data/shapes.py); "" for all others."""
    parts = Path(name).with_suffix("").parts
    return next((part for part in parts if part in ("shapes", "world")), "")


def named_twice(kind: type[ast.stmt] | tuple[type[ast.stmt], ...], sources: Mapping[str, Source]) -> list[str]:
    """Public names of the top level that stand for two things. The two versions of the world share their words."""
    places: dict[str, dict[str, list[str]]] = {}
    for name, source in sources.items():
        for node in source.tree.body:
            if isinstance(node, kind) and not node.name.startswith("_"):  # type: ignore[attr-defined]
                places.setdefault(node.name, {}).setdefault(world_of(name), []).append(name)  # type: ignore[attr-defined]
    found = []
    for word, by_world in places.items():
        where = [name for names in by_world.values() for name in names]
        folder = CONVENTIONS.get(word, (None,))[0]
        of_convention = folder is not None and all(name.startswith(folder) for name in where)
        once = all(len(names) == 1 for names in by_world.values()) and ("" not in by_world or len(by_world) == 1)
        if not once and not of_convention:
            found.append(f"{word}: {', '.join(where)}")
    return found


def test_a_class_is_named_once() -> None:
    """The two versions of the procedural world have their words for themselves."""
    sources = {name: source for name, source in SOURCES.items() if source.room not in ("shapes", "world")}
    twice = named_twice(ast.ClassDef, sources)
    assert not twice, "two things of one name; name one of them by what it is:\n" + "\n".join(twice)


def test_a_function_is_named_once() -> None:
    """Of the same idea there is one, of another idea each is named for what it gives."""
    pack = {name: source for name, source in SOURCES.items() if name not in CORE}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    twice = named_twice(kinds, CORE) + named_twice(kinds, pack)
    assert not twice, "two functions of one name; name each for what it gives:\n" + "\n".join(twice)


def test_a_name_of_two_things_is_noticed() -> None:
    code = {
        "instructx_core/media/a.py": "def describe(): ...\ndef main(): ...\ndef sample(): ...\ndef run(): ...",
        "instructx_core/costs/b.py": "def describe(): ...\ndef main(): ...\ndef _own(): ...\ndef run(): ...",
        "instructx_core/shapes/c.py": "def sample(): ...\ndef render(): ...\ndef _own(): ...",
        "instructx_core/world/d.py": "def render(): ...\ndef grow(): ...",
        "instructx_core/data/world.py": "def grow(): ...",
    }
    sources = {name: Source(name) for name in code}
    for name, source in sources.items():
        source.__dict__["text"] = code[name]
    found = named_twice(ast.FunctionDef, sources)
    assert [line.split(":")[0] for line in found] == ["describe", "sample", "run", "grow"]


def test_random_streams_are_made_in_one_place() -> None:
    """A seed means the same draws everywhere: by random_streams.py."""
    made = [name for name, source in SOURCES.items() if re.search(r"\bPhilox\(", source.text)]
    assert made == ["instructx_core/random_streams.py"], made


def test_pre_commit_installs_every_stage(tmp_path: Path) -> None:
    """`pre-commit install` in a clone brings the hooks of every stage that the configuration uses."""
    if shutil.which("git") is None or importlib.util.find_spec("pre_commit") is None:
        pytest.skip("no pre-commit (extra: dev)")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    configuration = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (tmp_path / ".pre-commit-config.yaml").write_text(configuration, encoding="utf-8")
    command = [sys.executable, "-m", "pre_commit", "install"]
    subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, env={**os.environ, "PRE_COMMIT_HOME": "home"}
    )
    stages = {"pre-commit", *re.findall(r"stages: \[([\w-]+)\]", configuration)}
    assert all((tmp_path / ".git" / "hooks" / stage).is_file() for stage in stages), stages
