"""What the project computes, as digests: taken before and after a change, they show that outputs are equal bit for bit.

    python scripts/outputs.py OUT.json [--only GROUP ...]     writes or updates OUT.json; run in the checkout's root
    python scripts/outputs.py --compare A.json B.json         prints what differs; exit code 1 if anything does

It uses what a restructuring leaves alone: the command line, the public names, the shipped model, workflows, node ids.
Everything runs on one thread of the CPU; two files compare only if they were written on the same kind of machine.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import re
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "120",
    "CUDA_VISIBLE_DEVICES": "",
}
os.environ.update(ENVIRONMENT)  # before torch is imported, here and in every process started from here

# group -> the module beside this file whose function `record_GROUP(record, folder)` makes its outputs
GROUPS = {
    "edits": "outputs_edits",
    "library": "outputs_library",
    "eval": "outputs_edits",
    "training": "outputs_training",
    "info": "outputs_edits",
    "formats": "outputs_formats",
    "nodes": "outputs_nodes",
    "speed": "outputs",
}
ROOT = Path.cwd()
RUNS = 9  # of each timing, of which the median is shown


@dataclass
class Record:
    """What was computed, by name: digests, the texts behind some of them, and timings, which nothing compares."""

    group: str
    digests: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """A tensor, array, bytes, path of a file, or what JSON takes."""
        name = f"{self.group}/{name}"
        if name in self.digests:
            raise ValueError(f"{name} is recorded twice")
        self.digests[name] = digest(value)

    def add_text(self, name: str, text: str) -> None:
        """A text, kept as well as its digest, so that a difference can be read."""
        self.add(name, text)
        self.texts[f"{self.group}/{name}"] = text

    def add_tensors(self, name: str, tensors: dict[str, Any]) -> None:
        """One digest of many tensors, their names and shapes."""
        lines = [f"{key} {digest(value)}" for key, value in sorted(tensors.items())]
        self.add(f"{name} ({len(lines)} tensors)", "\n".join(lines))

    def add_file(self, name: str, path: Path) -> None:
        """The bytes of a picture, clip or weight file, and what is in it. A .mkv holds a number drawn by its muxer."""
        if path.suffix != ".mkv":
            self.add(f"{name} bytes", path)
        if path.suffix in (".mp4", ".mov", ".mkv"):
            for kind, value in clip_content(path).items():
                self.add(f"{name} {kind}", value)
        elif path.suffix == ".safetensors":
            self.add_tensors(name, tensors_of(path))
        else:
            self.add(f"{name} pixels", pixels_of(path))


def digest(value: Any) -> str:
    """SHA-256, with type and shape in front."""
    if isinstance(value, Path):
        value = value.read_bytes()
    if hasattr(value, "detach"):
        import torch

        shape = f"{value.dtype}{tuple(value.shape)}".removeprefix("torch.")
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif hasattr(value, "tobytes"):
        shape, data = f"{value.dtype}{value.shape}", value.tobytes()
    elif isinstance(value, bytes):
        shape, data = f"bytes({len(value)})", value
    else:
        shape, data = type(value).__name__, (value if isinstance(value, str) else as_json(value)).encode()
    return f"{shape} {hashlib.sha256(data).hexdigest()}"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)


def pixels_of(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


def tensors_of(path: Path) -> dict[str, Any]:
    """Tensors and metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()} | {"metadata": file.metadata()}


def clip_content(path: Path) -> dict[str, Any]:
    """Packets of every stream, decoded frames in the file's own format, their times and colours."""
    import av
    import numpy as np

    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        context = stream.codec_context
        frames = list(container.decode(stream))
        about = {
            "times": [[frame.pts, str(frame.time_base)] for frame in frames],
            "rate": str(stream.average_rate),
            "colours": [int(getattr(context, tag)) for tag in ("color_range", "colorspace", "color_trc")],
            "size": [context.width, context.height, str(context.sample_aspect_ratio)],
            "format": context.pix_fmt,
        }
        content = {"frames": np.stack([frame.to_ndarray() for frame in frames]), "stream": about}
    with av.open(str(path)) as container:
        packets = [(p.stream.type, p.pts, digest(bytes(p))) for p in container.demux() if p.size]
        content["packets"] = [[(each.type, each.codec_context.name) for each in container.streams], packets]
    return content


# --- the command line as a process ---------------------------------------------------------------------------------


def console_script() -> str:
    path = Path(sys.executable).with_name("instructx")
    if not path.is_file():
        raise SystemExit(f"{path} is missing; install this checkout into this environment: pip install -e .")
    return str(path)


def preload() -> None:
    """Import what every process needs, once: the processes of `command` start as copies of this one."""
    import torch

    import instructx_core

    torch.set_num_threads(1)
    for name in instructx_core.__all__:
        getattr(instructx_core, name)


def start(folder: Path, *arguments: str) -> Any:
    """`instructx ARGUMENTS` in `folder`, its output in the files stdout and stderr there."""
    script = console_script()

    def run() -> None:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), number)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def command(folder: Path, *arguments: str) -> str:
    """Exit code, stdout and stderr of `instructx ARGUMENTS`, without seconds and places that differ from run to run."""
    process = start(folder, *arguments)
    process.join()
    out, errors = ((folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return plain(f"exit code {process.exitcode}\n{out}--- stderr\n{errors}", folder)


def plain(text: str, folder: Path) -> str:
    """A text without the folders of this run, seconds, and warnings of libraries, which name lines of our files."""
    text = text.replace(str(folder), "FOLDER").replace(str(ROOT), "ROOT")
    text = re.sub(r"(?m)^\S+\.py:\d+: \w*Warning.*\n(?:  .*\n)?", "", text)
    text = re.sub(r"(?m)^.*(?:it/s|s/it)[],].*\n?", "", text)  # progress bars
    text = re.sub(r"(?m)^seconds .*$", lambda found: re.sub(r"\d+\.\d+", "#", found[0]), text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "# s", text)
    row = r"(?m)^( *\d+)  (done|failed|skipped) +\d+\.\d\d"  # of the table of jobs
    return re.sub(row, lambda found: f"{found[1]}  {found[2]:<7}     #", text)


# --- timings -------------------------------------------------------------------------------------------------------

LOAD = """
import time
clocks = [(time.perf_counter(), time.process_time())]
from instructx_core import load_pipeline
clocks.append((time.perf_counter(), time.process_time()))
load_pipeline()
clocks.append((time.perf_counter(), time.process_time()))
print(*(later - sooner for one, two in zip(clocks, clocks[1:]) for sooner, later in zip(one, two)))
"""


def record_speed(record: Record, folder: Path) -> None:
    """Fresh processes, one after the other, after one that is not counted: seconds that passed, and seconds of CPU."""
    (weights,) = (ROOT / "instructx_core").rglob("diffusion_models/*.safetensors")
    script = console_script()
    commands = {
        "python -c 'import instructx_core'": [sys.executable, "-c", "import instructx_core"],
        "import and load": [sys.executable, "-c", LOAD],
        "instructx --help": [script, "--help"],
        "instructx edit --help": [script, "edit", "--help"],
        "instructx inspect FILE": [script, "inspect", str(weights)],
    }
    record.seconds["load average of the machine"] = [os.getloadavg()[0]]
    for name, arguments in commands.items():
        for number in range(RUNS + 1):
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
            passed, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            taken = {name: passed, f"{name}, CPU": cpu}
            if name == "import and load":
                parts = ("- import", "- import, CPU", "- load_pipeline()", "- load_pipeline(), CPU")
                taken |= dict(zip(parts, map(float, done.stdout.split()), strict=True))
            for timing, seconds in taken.items() if number else ():
                record.seconds.setdefault(timing, []).append(round(seconds, 4))


# --- files of digests ----------------------------------------------------------------------------------------------


def about() -> dict[str, Any]:
    """What ran; a note for people, not compared, but for the machine."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    packages = ("torch", "numpy", "diffusers", "transformers", "peft", "av", "pillow", "safetensors", "tokenizers")
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else [platform.processor()]
    machine = {"cpu": f"{len(models)} x {models[0]}", "python": platform.python_version()}
    return {"checkout": git.stdout.strip(), "machine": machine | {name: version(name) for name in packages}}


def take(group: str) -> dict[str, Any]:
    """Everything of one group, computed in this process."""
    import instructx_core

    if Path(str(instructx_core.__file__)).parents[1] != ROOT:
        raise SystemExit(f"this Python imports {instructx_core.__file__}, not the checkout in {ROOT}; run it there")
    record, begin = Record(group), time.perf_counter()
    home = sys.modules[__name__] if GROUPS[group] == "outputs" else importlib.import_module(GROUPS[group])
    make: Callable[[Any, Path], None] = getattr(home, f"record_{group}")
    with tempfile.TemporaryDirectory(prefix="instructx-outputs-") as folder:
        make(record, Path(folder).resolve())
    taken = round(time.perf_counter() - begin, 1)
    return {
        "about": about() | {"seconds": taken},
        "digests": record.digests,
        "texts": record.texts,
        "seconds": record.seconds,
    }


def write(path: Path, groups: list[str]) -> None:
    """Each group in a process of its own, then all into `path`; groups that it holds and that did not run stay."""
    for group in groups:
        part = path.with_name(f".{path.name}.{group}")
        if len(groups) == 1:
            result = take(group)
        else:
            subprocess.run([sys.executable, __file__, str(part), "--only", group], check=True)
            result = json.loads(part.read_text(encoding="utf-8"))[group]
            part.unlink()
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(as_json({**found, group: result}) + "\n", encoding="utf-8")
        if len(groups) > 1 or not path.name.startswith("."):
            say(f"{group}: {len(result['digests'])} digests in {result['about']['seconds']} s -> {path}")


def compare(first: Path, second: Path) -> int:
    """Print what differs in the groups that both files hold; 1 if anything does, or nothing could be compared."""
    one, two = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    shared, differ, machines = sorted(one.keys() & two.keys()), 0, set()
    for group in shared:
        old, new = one[group]["digests"], two[group]["digests"]
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        differ += len(names)
        say(f"{group}: {len(old.keys() | new.keys()) - len(names)} equal, {len(names)} differ")
        for name in names:
            say(f"  {name}\n    {old.get(name, 'absent')}\n    {new.get(name, 'absent')}")
            texts = [part[group]["texts"].get(name, "").splitlines() for part in (one, two)]
            say(
                "".join(
                    f"      {line}\n" for line in difflib.unified_diff(*texts, first.name, second.name, "", "", 1, "")
                )
            )
        machines |= {as_json(part[group]["about"]["machine"]) for part in (one, two)}
        compare_seconds(one[group]["seconds"], two[group]["seconds"])
    for path, alone in ((first, one.keys() - two.keys()), (second, two.keys() - one.keys())):
        say(f"not compared, only in {path}: {', '.join(sorted(alone))}" if alone else "")
    say(
        "these were written on different machines, whose results may differ:\n" + "\n".join(machines)
        if len(machines) > 1
        else ""
    )
    say(f"{differ} outputs differ" if shared else "no group is in both files")
    return int(differ > 0 or not shared)


def compare_seconds(old: dict[str, list[float]], new: dict[str, list[float]]) -> None:
    for name in sorted(old.keys() | new.keys()):
        values = [sorted(part.get(name, [float("nan")])) for part in (old, new)]
        shown = [f"{v[len(v) // 2]:8.3f} [{v[0]:.3f}, {v[-1]:.3f}]" for v in values]
        say(f"  {name:<34}" + "  ->  ".join(f"{text:<26}" for text in shown))


def say(text: str) -> None:
    if text:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", metavar="OUT.json", help="file to write or update")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group; repeatable (default: all)")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="two files of digests")
    args = parser.parse_args()
    if (args.output is None) == (args.compare is None):
        parser.error("give OUT.json, or --compare A.json B.json")
    if args.compare:
        return compare(*args.compare)
    write(args.output.absolute(), list(dict.fromkeys(args.only or GROUPS)))
    return 0


if __name__ == "__main__":
    sys.modules["outputs"] = sys.modules[__name__]  # the other files import this one under its name
    sys.exit(main())
