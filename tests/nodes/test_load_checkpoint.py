"""Load Checkpoint on the host's classes: Kiwi-Edit's files give what the native loaders give from the parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="module")
def small(load_helper, tmp_path_factory: pytest.TempPathFactory) -> Any:
    models = load_helper("instructx_test_models", "formats/models.py")
    return models.Small(
        tmp_path_factory.mktemp("small") / "model", load_helper("instructx_test_tiny", "support/tiny.py")
    )


@pytest.fixture
def folders(comfy: Path, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's model folders with one of everything in them."""
    import folder_paths

    small.training_file(tmp_path / "checkpoints" / "stage3.safetensors")
    small.training_file(tmp_path / "checkpoints" / "stage3_pad_first.safetensors")
    small.training_file(tmp_path / "checkpoints" / "lora.safetensors", dit="lora")
    small.kiwi_folder(tmp_path / "diffusers" / "kiwi")
    (tmp_path / "diffusers" / "another").mkdir()
    for name in ("checkpoints", "diffusers"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], {".safetensors"}))
    for name in ("text_encoders", "model_patches", "diffusion_models"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(small.root / name)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    return tmp_path


@pytest.fixture
def node(pack: Callable[[str], ModuleType], folders: Path) -> Any:
    return pack("nodes.load_checkpoint").InstructXLoadCheckpoint


def weights(loaded: Any) -> dict[str, Tensor]:
    return {key: value.float() for key, value in loaded.patcher.model_state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_training_file_equals_its_parts(node: Any, pack: Callable[[str], ModuleType], small: Any) -> None:
    model, loaded = node.execute("stage3.safetensors", "instructx_kiwi_small.safetensors", dtype="bf16").args
    parts = (
        pack("nodes.load_encoder")
        .InstructXLoadEncoder.execute(
            "instructx_kiwi_small.safetensors", "instructx_kiwi_small.safetensors", dtype="bf16"
        )
        .args[0]
    )
    assert same(weights(loaded), weights(parts)), "encoder, LoRA, queries and connector"
    assert loaded.adapter.denoiser.reference_position == "last"
    for name in ("source_embedder", "reference_embedder"):
        ours, theirs = (getattr(which.adapter, name) for which in (loaded, parts))
        assert all(torch.equal(ours[part], theirs[part]) for part in ("weight", "bias"))
    from comfy.sd import load_diffusion_model_state_dict

    native = load_diffusion_model_state_dict(dict(small.dit))
    assert same(model.model.diffusion_model.state_dict(), native.model.diffusion_model.state_dict())
    again = model.cached_patcher_init[0](*model.cached_patcher_init[1])
    assert same(again.model.diffusion_model.state_dict(), native.model.diffusion_model.state_dict())


def test_a_folder_needs_nothing_beside_it(node: Any, small: Any) -> None:
    model, loaded = node.execute("kiwi", dtype="bf16").args
    for part in ("mllm", "denoiser"):  # as dicts: the pack's classes are not the library's
        assert dataclasses.asdict(getattr(loaded.config, part)) == dataclasses.asdict(getattr(small.config, part))
    training = node.execute("stage3.safetensors", "instructx_kiwi_small.safetensors", dtype="bf16").args
    assert same(weights(loaded), weights(training[1])), "merged by us, or by its converter: the same numbers"
    assert same(model.model.diffusion_model.state_dict(), training[0].model.diffusion_model.state_dict())


def test_position_of_the_reference(node: Any) -> None:
    def position(name: str, choice: str = "auto") -> str:
        result = node.execute(name, "instructx_kiwi_small.safetensors", reference_position=choice)
        return result.args[1].adapter.denoiser.reference_position

    assert position("stage3_pad_first.safetensors") == "first"
    assert position("stage3_pad_first.safetensors", "last") == "last"


def test_lists(pack: Callable[[str], ModuleType], folders: Path) -> None:
    listed = pack("nodes.load_checkpoint").checkpoint_choices()
    assert listed == ["kiwi", "lora.safetensors", "stage3.safetensors", "stage3_pad_first.safetensors"]


def test_a_layout_in_the_table_is_listed_and_loaded(
    node: Any, pack: Callable[[str], ModuleType], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pack("instructx_core.formats.layouts.checkpoints")
    kiwi, root = table.LAYOUTS[0], folders / "diffusers" / "kiwi"
    layout = dataclasses.replace(
        kiwi,
        kind="new",
        is_folder=lambda path: path.name == "another",
        files=lambda opened, path: kiwi.files(opened, root),
        adapter=lambda model, position: kiwi.adapter(dataclasses.replace(model, path=root), position),
        dit=lambda opened, path: kiwi.dit(opened, root),
    )
    monkeypatch.setattr(table, "LAYOUTS", (layout, *table.LAYOUTS))
    assert pack("nodes.load_checkpoint").checkpoint_choices()[:2] == ["another", "kiwi"]
    (model, loaded), (kiwi_model, kiwi_loaded) = (node.execute(name, dtype="bf16").args for name in ("another", "kiwi"))
    assert same(weights(loaded), weights(kiwi_loaded))
    assert same(model.model.diffusion_model.state_dict(), kiwi_model.model.diffusion_model.state_dict())


def test_wrong_choices_say_what_to_do(node: Any, folders: Path) -> None:
    encoder = "instructx_kiwi_small.safetensors"
    (folders / "diffusers" / "broken" / "mllm_encoder").mkdir(parents=True)
    (folders / "diffusers" / "broken" / "transformer").mkdir()
    (folders / "checkpoints" / "pickle.safetensors").write_bytes(b"\x80\x02" + bytes(99))
    for arguments, words in (
        (("stage3.safetensors",), "choose Qwen2.5-VL-3B under encoder"),
        (("lora.safetensors", encoder), "holds no DiT"),
        (("broken",), "download the whole folder"),
        (("pickle.safetensors", encoder), "pickle or zip"),
        (("gone.safetensors", encoder), "put it there"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            node.execute(*arguments)
        assert "\n" not in str(caught.value)


def test_a_replaced_file_is_loaded_anew(node: Any, small: Any, folders: Path) -> None:
    before = node.fingerprint_inputs("stage3.safetensors")
    small.training_file(folders / "checkpoints" / "stage3.safetensors", stage=2)
    assert before and before != node.fingerprint_inputs("stage3.safetensors")
    assert len(node.fingerprint_inputs("kiwi")) == 7 and node.fingerprint_inputs("gone.safetensors") == []
