"""Run by test_fuzz.py in a process of its own: breaks small good files in hundreds of ways and opens each.

    python fuzz_worker.py FOLDER -> one line of JSON a case: name, outcome, message, seconds, growth of peak memory in
    MB, and the files outside the case's folder that were opened meanwhile.

An audit hook sees every open of the process, a timer ends what hangs. Every case is a function of one seeded generator.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from fuzz_breaks import PLAN
from safetensors.torch import save_file
from small import write_gguf

from instructx_core.config import DenoiserConfig, InstructXConfig, tiny
from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantised import dequantised
from instructx_core.formats.telling.identify import identify

DIT = {"dim": 128, "ffn_dim": 64, "num_layers": 1, "num_heads": 1, "text_dim": 32}
Case = tuple[str, Path]


# --- good files ------------------------------------------------------------------------------------------------------


def config() -> InstructXConfig:
    return dataclasses.replace(tiny(), denoiser=DenoiserConfig(**DIT))


def good_dit(path: Path) -> None:
    from instructx_core.denoiser import build_denoiser
    from instructx_core.formats.layouts.keymaps import dit_to_original

    torch.manual_seed(0)
    state = build_denoiser(config()).state_dict()
    save_file({dit_to_original(key): value.to(torch.bfloat16) for key, value in state.items()}, str(path))


def good_adapter(path: Path) -> None:
    tensors = {"queries.image": torch.zeros(4, 128), "connector.0.weight": torch.zeros(128, 128)}
    tensors |= {"connector.2.weight": torch.zeros(128, 128)}
    save_file(tensors, str(path), metadata={"instructx": config().to_json()})


def good_gguf(path: Path) -> None:
    shapes = {"head.modulation": (1, 2, 128), "patch_embedding.weight": (128, 64), "blocks.0.norm3.bias": (128,)}
    tensors = {name: ("F32", torch.ones(shape).numpy()) for name, shape in shapes.items()}
    write_gguf(path, tensors, {"comfy.gguf.orig_shape.patch_embedding.weight": (128, 16, 1, 2, 2)})


def good_kiwi(path: Path) -> None:
    import kiwi_files

    kiwi_files.folder(path, kiwi_files.config(), told=True)


def cases(root: Path, good: dict[str, Path]) -> Iterator[Case]:
    for change, count, base in PLAN:
        for number in range(count):
            rng = random.Random(f"{change.__name__}{number}")
            folder = root / f"{change.__name__}{number}"
            folder.mkdir()
            if base == "folder":
                yield folder.name, change(folder, good["dit"], rng)
            elif base == "kiwi":
                shutil.copytree(good["kiwi"], folder / "kiwi")
                change(folder / "kiwi", rng)
                yield folder.name, folder / "kiwi"
            else:
                path = folder / good[base].name
                shutil.copy(good[base], path)
                change(path, rng)
                yield folder.name, path
            shutil.rmtree(folder)


# --- opening ---------------------------------------------------------------------------------------------------------


def use(path: Path) -> None:
    """What inspect and the loaders do with a path."""
    from instructx_core.denoiser import build_denoiser
    from instructx_core.encoder.forward import PlainEncoder
    from instructx_core.formats.layouts.adapter import load_adapter
    from instructx_core.formats.layouts.modules import empty_parameters
    from instructx_core.formats.loading import load_denoiser

    identity = identify(path)
    if identity.kind in ("adapter", "models-folder", "kiwi-folder"):
        made = load_adapter(path)
        with empty_parameters():
            PlainEncoder(made.config), build_denoiser(made.config)
        return
    with open_source(path) as source:
        tensors = dequantised(source)
        small = [key for key in tensors.keys() if len(tensors.shape(key)) < 3 and 0 not in tensors.shape(key)][:3]
        sizes = {key: tensors.shape(key) for key in small}
    if max((n for shape in sizes.values() for n in shape), default=0) < 2**15:
        with open_source(path) as source:
            for key in small:
                dequantised(source).get(key)
    load_denoiser(path, config())


def peak() -> float:
    """Peak memory of this process in MB, since its start."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timeout(*_: object) -> None:
    raise TimeoutError("it hung")


def main(root: Path) -> None:
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    signal.signal(signal.SIGALRM, timeout)
    good = {"dit": root / "model.safetensors", "adapter": root / "adapter.safetensors", "gguf": root / "model.gguf"}
    good["kiwi"] = root / "kiwi-edit-5b"
    for name, make in (("dit", good_dit), ("adapter", good_adapter), ("gguf", good_gguf), ("kiwi", good_kiwi)):
        make(good[name])
    shutil.copy(good["dit"], root / "secret.safetensors")
    use(good["dit"]), use(good["adapter"]), identify(good["gguf"]), use(good["kiwi"])
    for name, path in cases(root, good):
        before, start, message, outcome = peak(), time.monotonic(), "", "fine"
        opened.clear()
        signal.alarm(60)
        try:
            use(path)
        except InputError as error:
            outcome, message = "InputError", str(error)
        except Exception as error:  # noqa: BLE001 - whatever else comes out is what the test looks for
            outcome, message = type(error).__name__, str(error)
        finally:
            signal.alarm(0)
        inside = str(path if path.is_dir() and not path.is_symlink() else path.parent)
        outside = [file for file in opened if not file.startswith((inside, sys.prefix, sys.base_prefix, "/proc/"))]
        print(
            json.dumps(
                {
                    "case": name,
                    "outcome": outcome,
                    "message": message,
                    "seconds": time.monotonic() - start,
                    "growth": peak() - before,
                    "outside": outside,
                    "ran": (path.parent / "pickle_was_run").exists(),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
