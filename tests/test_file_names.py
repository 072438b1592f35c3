"""Files and folders that docstrings, comments and documents name exist: a name that moved is found here.

A mention is a word that ends in .py, .md, .js, .cu, .cuh, .h or .cpp, with folders before it or without, or a path that
ends in a slash. It is right when some path of the repository ends with it; in the library and the nodes, when it lies
in the folder of the file that names it, or is found from a folder above. Names of other things are in FOREIGN.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Mentioned here, lying elsewhere.
FOREIGN = {
    "judges/": "a folder of an evaluation",
    "vie_prompts.py": "Step1X-Edit",
    "qwen3vl_benchmark.py": "OpenVE-3M",
    "eval_refvie_gemini.py": "Kiwi-Edit",
    "llama.cpp": "the project",
    "convert_hf_to_gguf.py": "llama.cpp",
    "tensor_mapping.py": "llama.cpp",
    "main.py": "ComfyUI",
    "models/": "ComfyUI",
    "ucontext.h": "the C library",
    "contextlib.py": "the standard library",
    "instructx_demo/": "what `instructx demo` writes",
    "cache/": "a folder of the user",
    "utils.py": "what there is not to be",
}

FILE = re.compile(r"(?<![\w./*{-])[\w./*{},-]*[\w*}]\.(?:py|cuh?|h|cpp|js|md)\b(?!\w|/)")
FOLDER = re.compile(r"(?<![\w./*{<-])(?:[a-z_]\w*/)+(?=[\s,.;:)`'\"]|$)")


def tracked() -> list[str]:
    """Every file of the repository, new ones that are not ignored included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


PATHS = [f"/{name}" for name in tracked()]
ENDS = {path[i:] for path in PATHS for i in range(len(path)) if path[i] == "/"}
FOLDERS = {end[: j + 1] for end in ENDS for j in range(1, len(end)) if end[j] == "/"}
WRITTEN = [path[1:] for path in PATHS if path.endswith((".py", ".md", ".cu", ".cuh", ".h", ".cpp", ".js"))]


def prose(name: str) -> list[tuple[int, str]]:
    """(line, text) of what is written for readers: a document whole, of Python its docstrings and comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".py"):
        lines = list(enumerate(text.splitlines(), 1))
        return (
            lines if name.endswith(".md") else [(line, part) for line, part in lines if re.match(r"\s*(//|/?\*)", part)]
        )
    found = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                found += list(enumerate(docstring.splitlines(), node.body[0].lineno))
    return found


def expanded(mention: str) -> list[str]:
    """Of a name with alternatives in braces, each."""
    braces = re.search(r"\{([^{}]*)\}", mention)
    if braces is None:
        return [mention]
    return [
        one
        for choice in braces[1].split(",")
        for one in expanded(mention[: braces.start()] + choice.strip() + mention[braces.end() :])
    ]


def exists(mention: str, where: str) -> bool:
    """Whether `mention`, in the file `where`, names something."""
    mention = mention.removeprefix("../").removeprefix("./")
    if mention.endswith("/"):
        return f"/{mention}" in FOLDERS
    if "*" in mention:
        return any(fnmatchcase(end, f"/{mention}") for end in ENDS)
    if not where.startswith(("instructx_core/", "nodes/")):
        return f"/{mention}" in ENDS
    above = [*(folder.as_posix() for folder in Path(where).parents), "instructx_core"]
    return any((ROOT / folder / mention).is_file() for folder in above)


def missing(name: str) -> list[str]:
    found = []
    for line, text in prose(name):
        mentions = [match[0].strip(",") for match in (*FILE.finditer(text), *FOLDER.finditer(text))]
        for mention in (one for part in mentions for one in expanded(part)):
            if mention not in FOREIGN and not exists(mention, name):
                found.append(f"{name}:{line}: {mention}")
    return found


def test_named_files_exist() -> None:
    found = [line for name in WRITTEN for line in missing(name)]
    assert not found, "no such file here (of another project: see FOREIGN):\n" + "\n".join(found)
