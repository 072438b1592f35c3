"""Ways to break a weight file, for fuzz_worker.py: each takes a copy of a good file (or a folder) and a generator."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

# --- breaking a safetensors file -------------------------------------------------------------------------------------


def split(path: Path) -> tuple[dict, bytes]:
    """Header and data of a good file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: object, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def truncated(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.choice((rng.randrange(len(raw)), rng.randrange(16), len(raw) - 1))])


def longer(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + bytes(rng.randrange(1, 5000)))


def header_length(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    wrong = rng.choice((0, 1, 7, 2**63, 2**64 - 1, 10**8, 10**8 + 1, len(raw), len(raw) - 8, rng.randrange(len(raw))))
    path.write_bytes(wrong.to_bytes(8, "little") + raw[8:])


def header_bytes(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    for _ in range(rng.choice((1, 2, 20))):
        raw[8 + rng.randrange(length)] = rng.randrange(256)
    path.write_bytes(raw)


def some_data(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(50):
        raw[rng.randrange(start, len(raw))] = rng.randrange(256)
    path.write_bytes(raw)


def twice(path: Path, rng: random.Random) -> None:
    header, data = split(path)
    name = rng.choice([key for key in header if key != "__metadata__"])
    text = json.dumps(header)
    join(path, (text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}").encode(), data)


def shape(path: Path, rng: random.Random) -> None:
    header, data = split(path)
    name = rng.choice([key for key in header if key != "__metadata__"])
    wrong = (
        [2**62, 2**62], [0], [-1, 4], [1] * 100, [1.5], ["4"], "4", None, [], [[4]], [10**400], [2**31, 2**31, 0], 7,
        [True], {"0": 1}, header[name]["shape"][::-1] + [2],
    )  # fmt: skip
    header[name]["shape"] = rng.choice(wrong)
    join(path, header, data)


def offsets(path: Path, rng: random.Random) -> None:
    header, data = split(path)
    name = rng.choice([key for key in header if key != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    wrong = (
        [end, begin], [begin - 8, end - 8], [begin + 8, end + 8], [0, end - begin], [2**63, 2**63 + end - begin],
        [begin], [begin, end, end], [-end, -begin], ["0", "8"], None, [begin, 10**30], [float(begin), float(end)],
        [len(data), len(data)],
    )  # fmt: skip
    header[name]["data_offsets"] = rng.choice(wrong)
    join(path, header, data)


def kinds(path: Path, rng: random.Random) -> None:
    header, data = split(path)
    for name in rng.sample([key for key in header if key != "__metadata__"], 3):
        header[name]["dtype"] = rng.choice(
            ("F32", "F64", "U8", "I64", "BOOL", "F8_E4M3", "F4", "Q9", "", None, 5, "F16", "I16", "U16")
        )
    join(path, header, data)


def not_finite(path: Path, rng: random.Random) -> None:
    from safetensors.torch import load_file

    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = rng.choice(
        (float("nan"), float("inf"), -float("inf"))
    )
    save_file(tensors, str(path))


def mixed(path: Path, rng: random.Random) -> None:
    """A tensor of a type that is no weight, at its right size; or weights of several float types, which is fine."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    for name in rng.sample(sorted(tensors), 5):
        tensors[name] = tensors[name].to(
            rng.choice((torch.int64, torch.uint8, torch.float64, torch.float32, torch.bool))
        )
    save_file(tensors, str(path))


def names(path: Path, rng: random.Random) -> None:
    """A tensor with a name that no message may print as it is."""
    header, data = split(path)
    old = rng.choice([key for key in header if key != "__metadata__"])
    bad = (
        "",
        "a\nerror: b",
        "\x1b[2J",
        "x" * 1_000_000,
        "\u202e",
        "\ud800",
        "a\0b",
        "../../etc/passwd\t",
        "\r",
        "\x7f",
    )
    header[rng.choice(bad)] = header.pop(old)
    join(path, header, data)


def declared(path: Path, rng: random.Random) -> None:
    """A file that describes its quantisation wrongly, or in four gigabytes."""
    header, data = split(path)
    kind = rng.randrange(3)
    if kind == 0:
        layers = ("3", '{"a": 3}', '{"a": {}}', '{"a": {"format": "nvfp4"}}', '{"a": {"format": ["x"]}}')
        text = rng.choice(("{", "[]", "3", "[" * 99_999, *(f'{{"layers": {layer}}}' for layer in layers)))
        header["__metadata__"] = {"_quantization_metadata": text}
        join(path, header, data)
        return
    size = 2**32 if kind == 1 else 2
    header["blocks.0.ffn.0.comfy_quant"] = {
        "dtype": "U8",
        "shape": [size],
        "data_offsets": [len(data), len(data) + size],
    }
    join(path, header, data + bytes(2))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2 + size)


def text(path: Path, rng: random.Random) -> None:
    _, data = split(path)
    bad = (
        b"", b"[]", b"null", b"3", b"{", b'{"a"}', b"\xff\xfe{}", b'{"\xc3\x28": {}}', b"{}" * 3, b"[" * 200_000,
        b'{"a": ' * 50_000, b'{"a": ' + b"9" * 10_000 + b"}", b'{"a": NaN}', b'{"__metadata__": 3}',
        b'{"__metadata__": {"a": 1}}', b'{"__metadata__": {"a": {"b": "c"}}}', b'{"a": {}}', b'{"a": []}',
        b'{"a": {"dtype": "F32"}}', b'"' + b"x" * 99,
        b'{"\\ud800": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}',
        b'{"": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}',
    )  # fmt: skip
    join(path, rng.choice(bad), data if rng.random() < 0.5 else b"\0")


def disguised(path: Path, rng: random.Random) -> None:
    """A pickle or a zip under the name of a safetensors file. Loading it would write a file."""
    flag = path.parent / "pickle_was_run"
    payload = pickle.dumps(_Bomb(str(flag)), protocol=rng.choice((2, 3, 4, 5)))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
        payload = buffer.getvalue()
    path.write_bytes(payload + bytes(200))


class _Bomb:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple:
        return open, (self.flag, "w")


def huge(path: Path, rng: random.Random) -> None:
    """4 GB of hole: nothing, a header of nothing, or one good-looking tensor that is wrong by its size or its name."""
    header, data = split(path)
    kind = rng.randrange(4)
    if kind < 2:
        path.write_bytes((0 if kind == 0 else 90_000_000).to_bytes(8, "little"))
    elif kind == 2:
        header["stranger"] = {"dtype": "BF16", "shape": [2**31], "data_offsets": [len(data), len(data) + 2**32]}
        join(path, header, data)
    else:
        position = 0
        for name in (key for key in header if key != "__metadata__"):
            wide = {"dtype": "BF16", "shape": [2**16, 2**15]} if name == "text_embedding.0.weight" else header[name]
            begin, end = header[name]["data_offsets"]
            size = 2**32 if wide is not header[name] else end - begin
            header[name] = {**wide, "data_offsets": [position, position + size]}
            position += size
        join(path, header, b"")
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        file.truncate(2**32 if kind < 2 else 8 + length + end)


# --- indexes, links, metadata, GGUF ----------------------------------------------------------------------------------


def index(folder: Path, good: Path, rng: random.Random) -> Path:
    """Two shards, and an index that does not fit them."""
    header, _ = split(good)
    shutil.copy(good, folder / "model-00001-of-00002.safetensors")
    save_file({"late": torch.ones(2)}, str(folder / "model-00002-of-00002.safetensors"))
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    places: object = dict.fromkeys((key for key in header if key != "__metadata__"), first) | {"late": second}
    assert isinstance(places, dict)
    victim = rng.choice(sorted(places))
    wrong = (
        "../secret.safetensors", str(folder.parent / "secret.safetensors"), "/etc/passwd", "..", ".", "",
        "a/b.safetensors", "..\\secret.safetensors", "C:\\secret.safetensors", "x\0y", "missing.safetensors",
        "model.safetensors.index.json", "x" * 5000, "\ud800.safetensors",
    )  # fmt: skip
    kind = rng.randrange(5)
    if kind < 2:
        places[victim] = rng.choice(wrong)
    elif kind == 2:
        places = rng.choice(
            ([], {}, None, "x", {"late": 3}, {"late": None}, {**places, "ghost": first}, {"late": [first]})
        )
    elif kind == 3:
        (folder / rng.choice((first, second))).unlink()
    else:
        (folder / second).write_bytes((folder / first).read_bytes())
    path = folder / "model.safetensors.index.json"
    body = json.dumps({"weight_map": places}).encode()
    path.write_bytes(body if rng.random() < 0.9 else body[: rng.randrange(len(body))])
    return path if rng.random() < 0.5 else folder


def link(folder: Path, good: Path, rng: random.Random) -> Path:
    a, b = folder / "a.safetensors", folder / "b.safetensors"
    kind = rng.randrange(4)
    if kind == 0:
        a.symlink_to(b), b.symlink_to(a)
    elif kind == 1:
        a.symlink_to(folder, target_is_directory=True)
    elif kind == 2:
        a.symlink_to(a)
    else:
        (folder / "diffusion_models").symlink_to(folder, target_is_directory=True)
        (folder / "vae").symlink_to(folder / "diffusion_models", target_is_directory=True)
        (folder / "x").symlink_to(folder / "x")
        return folder
    return a


def metadata(path: Path, rng: random.Random) -> None:
    """An adapter whose config is not one, or asks for a model that no computer can build."""
    header, data = split(path)
    good = json.loads(header["__metadata__"]["instructx"])
    kind = rng.randrange(4)
    if kind == 0:
        text = rng.choice(("", "3", "[]", "{", "null", "[" * 100_000, '{"name": "x"}', '"x"', "{}"))
    else:
        part = rng.choice(("mllm", "denoiser", "vae", "instruction", "lora", "sampling"))
        name = rng.choice(sorted(good[part]))
        value = rng.choice((None, "x", [], {}, 0, -1, 10**12, 1e300, [10**9] * 9, [[1]], True, 10**30))
        good[part] = rng.choice(({**good[part], name: value}, {**good[part], "stranger": 1}, value))
        text = json.dumps(good)
    header["__metadata__"]["instructx"] = text
    join(path, header, data)


def gguf_broken(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    kind = rng.randrange(4)
    if kind == 0:
        raw = raw[: rng.randrange(4, len(raw))]
    elif kind == 1:  # the counts
        at = rng.choice((8, 16))
        raw[at : at + 8] = rng.choice((2**63, 2**32, 10**6, 5)).to_bytes(8, "little")
    elif kind == 2:
        raw[4:8] = rng.choice((0, 1, 4, 2**31)).to_bytes(4, "little")
    else:
        for _ in range(rng.choice((1, 3, 10))):
            raw[rng.randrange(4, min(len(raw), 600))] = rng.randrange(256)
    path.write_bytes(raw)


# --- configs of a Kiwi-Edit folder ------------------------------------------------------------------------------------

KIWI_CONFIGS = ("processor/qwen_config.json", "mllm_encoder/config.json", "ref_embedder/config.json")
KIWI_INDEX = "mllm_encoder/model.safetensors.index.json"


def kiwi_text(root: Path, rng: random.Random) -> None:
    """What is no JSON object: cut off, of another encoding, nested without end, 4 GB of hole."""
    file = root / rng.choice((*KIWI_CONFIGS, KIWI_INDEX))
    raw = file.read_bytes()
    kind = rng.randrange(4)
    if kind == 0:
        file.write_bytes(raw[: rng.randrange(len(raw) - 1)])
    elif kind == 1:
        bad = (
            b"[]",
            b"3",
            b"null",
            b'"x"',
            b"\xff\xfe{}",
            b"[" * 200_000,
            b'{"a": ' * 50_000,
            b'{"a": ' + b"9" * 9_999,
        )
        file.write_bytes(rng.choice(bad))
    elif kind == 2:
        file.write_bytes(raw.replace(b":", b"", 1))
    else:
        with file.open("r+b") as stream:
            stream.truncate(2**32)


def kiwi_values(root: Path, rng: random.Random) -> None:
    """A config with a value of another type, or one that no model has."""
    file = root / rng.choice(KIWI_CONFIGS)
    told = json.loads(file.read_text())
    places = [told, *(value for value in told.values() if isinstance(value, dict))]
    place = rng.choice([place for place in places if place])
    wrong = (None, "x", [], {}, 0, -1, 10**12, -(10**30), 1e300, [10**9] * 9, [[1]], True, False, "9" * 9_999,
             float("nan"), float("inf"), "\n\x1b[2J", [None], 0.5, {"a": {"b": []}})  # fmt: skip
    for name in rng.sample(sorted(place), rng.randrange(1, min(3, len(place)) + 1)):
        place[name] = rng.choice(wrong)
    file.write_text(json.dumps(told))


def kiwi_index(root: Path, rng: random.Random) -> None:
    """Qwen's shards where they are not, or must not be looked for."""
    file = root / KIWI_INDEX
    places = json.loads(file.read_text())["weight_map"]
    secret = str(root.parent.parent / "secret.safetensors")
    wrong = (
        "../../../secret.safetensors", secret, "/etc/passwd", "..", "", "x\0y", "../transformer", "no.safetensors",
        "a\\b.safetensors", "model.safetensors.index.json", "x" * 5000, "\ud800.safetensors", 3, None, [],
    )  # fmt: skip
    places[rng.choice(sorted(places))] = rng.choice(wrong)
    file.write_text(json.dumps({"weight_map": places}))


PLAN: tuple[tuple[Callable, int, str], ...] = (
    (truncated, 40, "dit"), (longer, 5, "dit"), (header_length, 30, "dit"), (header_bytes, 60, "dit"),
    (some_data, 10, "dit"), (twice, 10, "dit"), (shape, 40, "dit"), (offsets, 40, "dit"), (kinds, 30, "dit"),
    (names, 15, "dit"), (declared, 15, "dit"), (not_finite, 12, "dit"), (mixed, 12, "dit"), (text, 40, "dit"),
    (disguised, 10, "dit"), (huge, 8, "dit"), (metadata, 40, "adapter"), (gguf_broken, 60, "gguf"),
    (index, 50, "folder"), (link, 12, "folder"), (kiwi_text, 40, "kiwi"), (kiwi_values, 60, "kiwi"),
    (kiwi_index, 20, "kiwi"),
)  # fmt: skip
