"""Compiles the attention kernels for every supported GPU and says what came out: registers, spills, instructions.

    python scripts/kernel_table.py            # prints the table
    python scripts/kernel_table.py --write    # puts it between the marks in docs/kernels.md

Needs no GPU: NVRTC comes with torch; nvdisasm with the Triton wheel (Linux) or a CUDA toolkit, without it the columns
about instructions stay empty. Used by tests/kernels/csrc/test_compile.py. "Tile" is one step over 64 keys of one warp.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from instructx_core.kernels import abi, loader  # noqa: E402
from instructx_core.kernels.nvrtc import Nvrtc, find_libraries, search_roots  # noqa: E402

ARCHITECTURES = (80, 86, 89, 90, 120)
CARDS = {80: "A100", 86: "RTX 30", 89: "RTX 40", 90: "H100", 120: "RTX 50"}
MARKS = ("<!-- kernel table: scripts/kernel_table.py --write -->", "<!-- end of kernel table -->")
# Multiply-adds a clock and SM sub-partition: (16-bit with fp32 sums, fp16 with fp16 sums, int8). From the published
# peaks; GeForce halves the rate of fp32 sums. For sm_90 the rate of mma.sync, half of what wgmma reaches.
RATES = {80: (256, 256, 512), 86: (64, 128, 256), 89: (64, 128, 256), 90: (256, 256, 512), 120: (64, 128, 256)}


@dataclass
class Result:
    """One kernel on one architecture."""

    name: str
    arch: int
    registers: int = 0
    spilled: int = 0
    stack: int = 0
    whole: Counter[str] = field(default_factory=Counter)  # instructions of the kernel by full name
    loop: Counter[str] = field(default_factory=Counter)  # those of its main loop
    order: list[str] = field(default_factory=list)  # the same, as they follow each other


class LoggingNvrtc(Nvrtc):
    """NVRTC that also returns the compiler's log, where ptxas lists registers and spills."""

    def compile_logged(self, source: str, arch: int) -> tuple[bytes, str]:
        program = ctypes.c_void_p()
        headers = loader.headers()
        texts = (ctypes.c_char_p * len(headers))(*(text.encode() for text in headers.values()))
        names = (ctypes.c_char_p * len(headers))(*(name.encode() for name in headers))
        text = (loader.SOURCE_FOLDER / source).read_bytes()
        options = [*abi.COMPILE_OPTIONS, "--ptxas-options=-v", f"--gpu-architecture=sm_{arch}"]
        array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        made = self._lib.nvrtcCreateProgram(
            ctypes.byref(program), text, source.encode(), ctypes.c_int(len(headers)), texts, names
        )
        self._check(made, "nvrtcCreateProgram")
        result = self._lib.nvrtcCompileProgram(program, ctypes.c_int(len(options)), array)
        log = self._read(program, "nvrtcGetProgramLog").rstrip(b"\0").decode(errors="replace")
        if result != 0:
            raise SystemExit(f"{source} does not compile for sm_{arch}:\n{log}")
        cubin = self._read(program, "nvrtcGetCUBIN")
        self._lib.nvrtcDestroyProgram(ctypes.byref(program))
        return cubin, log


def nvrtc() -> LoggingNvrtc | None:
    """torch's NVRTC; None where torch has none (a CPU build)."""
    import torch

    for builtins, library in find_libraries(
        search_roots(torch.version.cuda), sys.platform == "win32", torch.version.cuda
    ):
        return LoggingNvrtc(library, builtins)
    return None


def disassembler() -> str | None:
    """nvdisasm from the Triton wheel or a toolkit."""
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm"
        if path.is_file():
            return str(path)
    return shutil.which("nvdisasm")


def parse_log(log: str, arch: int) -> dict[str, Result]:
    """ptxas -v output -> results by kernel."""
    found: dict[str, Result] = {}
    current = Result("", arch)
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            current = found.setdefault(match[1], Result(match[1], arch))
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.stack, current.spilled = int(match[1]), int(match[2]) + int(match[3])
        elif match := re.search(r"Used (\d+) registers", line):
            current.registers = int(match[1])
    return found


def _functions(listing: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\.text\.", listing, flags=re.M)[1:]:
        name, _, body = part.partition(":")
        yield name, body.splitlines()


def _disassembled(cubin: bytes, tool: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        return subprocess.run([tool, "-c", str(path)], check=True, capture_output=True, text=True).stdout


def listing(cubin: bytes, tool: str) -> Iterator[tuple[str, list[str]]]:
    """Kernels of a cubin, each with its instructions and their operands, a line each."""
    for name, lines in _functions(_disassembled(cubin, tool)):
        found = (re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][^;]*?)\s*;", line) for line in lines)
        yield name, [match[1] for match in found if match]


def read_sass(cubin: bytes, results: dict[str, Result], tool: str) -> None:
    """Counts instructions of each kernel and of its main loop: the backward jump around most tensor instructions."""
    for name, lines in _functions(_disassembled(cubin, tool)):
        if name not in results:
            continue
        instructions: list[str] = []
        labels: dict[str, int] = {}
        jumps: list[tuple[int, str]] = []
        for line in lines:
            if match := re.match(r"\s*(\.L_\w+):", line):
                labels[match[1]] = len(instructions)
            elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)(.*)", line):
                if match[1].startswith("BRA") and (target := re.search(r"(\.L_\w+)", match[2])):
                    jumps.append((len(instructions), target[1]))
                instructions.append(match[1])
        result = results[name]
        result.whole = Counter(instructions)
        for at, target in jumps:
            if labels.get(target, at + 1) <= at:
                loop = Counter(instructions[labels[target] : at + 1])
                if tensor(loop) > tensor(result.loop):
                    result.loop, result.order = loop, instructions[labels[target] : at + 1]


def tensor(counts: Counter[str]) -> int:
    return sum(n for name, n in counts.items() if name.startswith(("HMMA", "IMMA")))


def tensor_clocks(name: str, arch: int) -> float:
    """Clocks that one warp's tile (16 rows x 64 keys) keeps a sub-partition's tensor core busy."""
    products = 16 * 64 * abi.KERNELS[name].head_dim
    wide, narrow, integer = RATES[arch]
    return products / integer + products / narrow if "int8" in name else 2 * products / wide


def compile_all(compiler: LoggingNvrtc, architectures: tuple[int, ...] = ARCHITECTURES) -> list[Result]:
    tool = disassembler()
    results: list[Result] = []
    for arch in architectures:
        for source in abi.SOURCES:
            cubin, log = compiler.compile_logged(source, arch)
            found = parse_log(log, arch)
            if tool is not None:
                read_sass(cubin, found, tool)
            results += found.values()
    order = list(abi.KERNELS)
    return sorted(results, key=lambda result: (order.index(result.name), result.arch))


def table(results: list[Result], version: tuple[int, int]) -> str:
    """Markdown. The issue share is static: instructions of the loop over the tensor core's clocks for one tile."""
    lines = [
        f"Compiled by NVRTC {version[0]}.{version[1]}; static, from the machine code, not measured on a GPU. The",
        "count includes code that only some tiles run (tail mask, huge logits, second segment): the share is an upper",
        "bound; above 1 the tensor cores would wait.",
        "",
        "| kernel | GPU | registers | spilled | shared KB | instructions per tile | tensor | issue share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        shared = abi.KERNELS[r.name].shared(40) / 1024
        cells = [f"`{r.name}`", f"sm_{r.arch} {CARDS[r.arch]}", str(r.registers), str(r.spilled), f"{shared:.1f}"]
        count = sum(r.loop.values())
        if r.name.startswith("attention") and count:
            share = count / tensor_clocks(r.name, r.arch)
            cells += [str(count), str(tensor(r.loop)), f"{share:.2f}"]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(text: str, path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    start, end = (page.find(mark) for mark in MARKS)
    if start < 0 or end < start:
        raise SystemExit(f"{path.name} lacks the marks {MARKS[0]} and {MARKS[1]}")
    page = page[: start + len(MARKS[0])] + "\n\n" + text + "\n\n" + page[end:]
    path.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="registers, spills and instructions of the attention kernels")
    parser.add_argument("--write", action="store_true", help="update docs/kernels.md instead of printing")
    compiler = nvrtc()
    if compiler is None:
        raise SystemExit("this torch brings no NVRTC (a CPU build)")
    arguments = parser.parse_args()
    text = table(compile_all(compiler), compiler.version)
    if arguments.write:
        write(text, ROOT / "docs" / "kernels.md")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
