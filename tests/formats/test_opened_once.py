"""A file is opened once and asked once: every task opens each weight file that it reads one time, parses its header one
time, and closes it, also when it fails.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from models import Small, dit_lora, put, shards
from small import llama_cpp_pair, packed

import instructx_core
from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.formats.containers.json_object import read_json
from instructx_core.formats.containers.tensor_source import FileSource
from instructx_core.formats.convert import convert
from instructx_core.formats.forms.request import Options
from instructx_core.formats.layouts import dit_lora as dit_lora_file
from instructx_core.formats.layouts import kiwi_folder, qwen_config
from instructx_core.formats.layouts.adapter import load_adapter
from instructx_core.formats.telling.verify import verify
from instructx_core.weights import SHIPPED, load_pipeline


@pytest.fixture(scope="module")
def small(load_helper: Callable[..., ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Small:
    tiny = load_helper("instructx_test_tiny", "support/tiny.py")
    return Small(tmp_path_factory.mktemp("small") / "model", tiny)


class Opened:
    """What was opened: weight files, parsed headers and JSON configs by path, and handles, to ask if closed."""

    def __init__(self) -> None:
        self.files: Counter[Path] = Counter()
        self.headers: Counter[Path] = Counter()
        self.configs: Counter[Path] = Counter()
        self.handles: list[Any] = []

    def check(self, *expected: Path) -> None:
        """Each file at or below `expected` was opened once, its header parsed once; all are closed."""
        every = {
            file
            for path in expected
            for file in (path.rglob("*") if path.is_dir() else [path])
            if file.suffix in (".safetensors", ".gguf")
        }
        assert self.files == self.headers == Counter(dict.fromkeys(every, 1))
        assert all(count == 1 for count in self.configs.values()), self.configs
        assert all(handle.closed for handle in self.handles)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    seen = Opened()
    open_path, parse = Path.open, FileSource.__init__

    def counted_open(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = open_path(path, mode, *args, **options)
        if path.suffix in (".safetensors", ".gguf") and mode == "rb":
            seen.files[path] += 1
            seen.handles.append(file)
        return file

    def counted_parse(source: FileSource, path: Path, *args: Any) -> None:
        seen.headers[path] += 1
        parse(source, path, *args)

    def counted_read(file: Path) -> dict[str, Any]:
        seen.configs[file] += 1
        return read_json(file)

    for reader in (kiwi_folder, qwen_config, dit_lora_file):
        monkeypatch.setattr(reader, "read_json", counted_read)
    monkeypatch.setattr(Path, "open", counted_open)
    monkeypatch.setattr(FileSource, "__init__", counted_parse)
    yield seen


def test_the_counters_count(opened: Opened, shipped: Path) -> None:
    file = next(shipped.rglob("*.safetensors"))
    with file.open("rb") as handle:
        assert isinstance(handle, io.IOBase)
    assert opened.files == {file: 1} and not opened.headers


# --- loading -------------------------------------------------------------------------------------------------------


def test_a_load_enters_formats_once(small: Small) -> None:
    """From name to model: weights.py asks formats/ one time, which comes back with modules for the pipeline."""
    own = Path(instructx_core.__file__).parent
    entered = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back
        if event == "call" and caller is not None and Path(caller.f_code.co_filename).parent == own:
            if own / "formats" in Path(frame.f_code.co_filename).parents:
                entered.append((Path(caller.f_code.co_filename).name, frame.f_code.co_name))

    load_pipeline(small.root)  # what is imported is not what is asked
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        load_pipeline(small.root)
    finally:
        sys.setprofile(before)
    built = ("denoiser.py", "register")  # a parameter of a module that is being built empty
    assert [each for each in entered if each != built] == [("weights.py", "read_model")]


def test_the_shipped_model(opened: Opened, shipped: Path) -> None:
    load_pipeline()
    opened.check(SHIPPED)


def others(small: Small, *left_out: str) -> dict[str, Path]:
    parts = {name: getattr(small.files, name) for name in ("denoiser", "vae", "text_encoder", "tokenizer")}
    return {name: path for name, path in parts.items() if name not in left_out}


def test_a_kiwi_training_file(opened: Opened, small: Small, tmp_path: Path) -> None:
    file = small.training_file(tmp_path / "stage3.safetensors")
    load_pipeline(file, **others(small, "denoiser"))
    opened.check(file, small.files.vae, small.files.text_encoder)


def test_a_kiwi_training_file_with_a_lora_of_the_dit(opened: Opened, small: Small, tmp_path: Path) -> None:
    file = small.training_file(tmp_path / "stage3.safetensors", dit="lora")
    dit = put(tmp_path / "wan.safetensors", small.dit)
    load_pipeline(file, **{**others(small), "denoiser": dit})
    opened.check(file, dit, small.files.vae, small.files.text_encoder)


def test_a_kiwi_folder(opened: Opened, small: Small, tmp_path: Path) -> None:
    root = small.kiwi_folder(tmp_path / "kiwi")
    load_pipeline(root)
    opened.check(root)
    assert any(file.parent.name == "ref_embedder" for file in opened.configs)


def test_shards(opened: Opened, small: Small, tmp_path: Path) -> None:
    dit, qwen = small.diffusers_dit(tmp_path / "dit", sharded=True), small.hub_qwen(tmp_path / "qwen")
    parts = {"denoiser": dit, "text_encoder": qwen, "adapter": small.files.adapter}
    load_pipeline(**{**others(small), **parts})
    opened.check(dit, qwen, small.files.vae, small.files.adapter)


def test_gguf(opened: Opened, small: Small, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    dit, _ = packed(tmp_path / "wan", "Q8_0", small.dit)
    qwen = llama_cpp_pair(tmp_path / "qwen", small.qwen)
    parts = {"denoiser": dit, "text_encoder": qwen, "adapter": small.files.adapter}
    load_pipeline(**{**others(small), **parts})
    opened.check(dit, qwen.parent, small.files.vae, small.files.adapter)


def test_an_adapter_with_what_gives_it_its_sizes(opened: Opened, small: Small, tmp_path: Path) -> None:
    """What ComfyUI's nodes ask for."""
    root = small.kiwi_folder(tmp_path / "kiwi")
    load_adapter(root)
    opened.check(root)


# --- telling -------------------------------------------------------------------------------------------------------


def test_inspect(opened: Opened, small: Small, tmp_path: Path) -> None:
    root, dit = small.kiwi_folder(tmp_path / "kiwi"), shards(tmp_path / "dit", small.dit)
    qwen_of_the_folder = set((root / "mllm_encoder").glob("model-*"))  # not looked into
    paths = [dit, root, small.files.adapter]
    assert main(["inspect", *map(str, paths)]) == 0
    seen = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*.safetensors"))}
    opened.check(*(seen - qwen_of_the_folder))


@pytest.mark.parametrize("full", [False, True])
def test_verify(opened: Opened, small: Small, full: bool) -> None:
    assert verify(small.root, full).good
    opened.check(small.root)


def test_verify_of_a_kiwi_folder(opened: Opened, small: Small, tmp_path: Path) -> None:
    root = small.kiwi_folder(tmp_path / "kiwi")
    assert verify(root, full=True).good
    opened.check(root)


@pytest.mark.parametrize("full", [False, True])
def test_verify_of_two_halves_of_a_qwen(opened: Opened, small: Small, tmp_path: Path, full: bool) -> None:
    """mmproj comes first by name here: the language model opens it before it has its own turn."""
    pytest.importorskip("gguf")
    folder = tmp_path / "models" / "text_encoders"
    llama_cpp_pair(folder, small.qwen)
    assert [check.state for check in verify(tmp_path / "models", full).checks] == ["ok", "ok"]
    opened.check(folder)


# --- converting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["original", "diffusers", "fp8"])
def test_convert(opened: Opened, small: Small, tmp_path: Path, to: str) -> None:
    target = tmp_path / ("out" if to == "diffusers" else "out.safetensors")
    convert(small.files.denoiser, target, to)
    opened.check(small.files.denoiser)


@pytest.mark.parametrize("to", ["original", "adapter"])
def test_convert_a_kiwi_file(opened: Opened, small: Small, tmp_path: Path, to: str) -> None:
    file = small.training_file(tmp_path / "stage3.safetensors")
    beside = Options(encoder=small.files.text_encoder, vae=small.files.vae) if to == "adapter" else Options()
    convert(file, tmp_path / "out.safetensors", to, beside)
    opened.check(file, *((small.files.text_encoder, small.files.vae) if to == "adapter" else ()))


def test_convert_a_kiwi_folder(opened: Opened, small: Small, tmp_path: Path) -> None:
    root = small.kiwi_folder(tmp_path / "kiwi")
    convert(root, tmp_path / "out.safetensors", "adapter")
    opened.check(root)


@pytest.mark.parametrize("part", ["denoiser", "text_encoder"])
def test_convert_merges(opened: Opened, small: Small, tmp_path: Path, part: str) -> None:
    lora = put(tmp_path / "lora.safetensors", dit_lora(small.dit)) if part == "denoiser" else small.files.adapter
    source = getattr(small.files, part)
    convert(source, tmp_path / "out.safetensors", "merged", Options(lora=lora))
    opened.check(source, lora)


# --- failing -------------------------------------------------------------------------------------------------------


def test_what_fails_leaves_nothing_open(opened: Opened, small: Small, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    half.write_bytes(small.files.vae.read_bytes()[:-9])
    wrong = put(tmp_path / "wrong.safetensors", small.vae)
    parts = {**others(small), "adapter": small.files.adapter}
    for given in ({"vae": half}, {"denoiser": wrong}, {"text_encoder": wrong}, {"adapter": wrong}):
        with pytest.raises(InputError):
            load_pipeline(**{**parts, **given})
    for to in ("original", "adapter"):
        with pytest.raises(InputError):
            convert(half, tmp_path / "out.safetensors", to)
    pytest.importorskip("gguf")
    qwen = llama_cpp_pair(tmp_path / "qwen", {**small.qwen, "lm_head.weight": small.qwen["model.norm.weight"]})
    qwen.with_name("mmproj-qwen.gguf").write_bytes(qwen.read_bytes())  # both hold the same names
    with pytest.raises(InputError, match="both hold"):
        load_pipeline(**{**parts, "text_encoder": qwen})
    assert opened.handles and all(handle.closed for handle in opened.handles)
