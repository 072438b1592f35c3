"""Load Encoder, Query Embeddings and Connector on the host's classes: what they give, and how wrong inputs fail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

NAME = "instructx_tiny.safetensors"
Edit = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def models(comfy: Path, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's model folders, holding a copy of the random checkpoint."""
    import folder_paths

    root = tmp_path / "models"
    shutil.copytree(random_checkpoint, root)
    for folder in ("text_encoders", "model_patches"):
        entry = ([str(root / folder)], {".safetensors"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, entry)
    folder_paths.filename_list_cache.clear()
    return root


@pytest.fixture
def load(pack: Callable[[str], ModuleType], models: Path) -> Callable[..., Any]:
    node = pack("nodes.load_encoder").InstructXLoadEncoder
    return lambda encoder=NAME, adapter=NAME, **options: node.execute(encoder, adapter, **options).args[0]


def rewrite(file: Path, edit: Edit, metadata: bool = True) -> None:
    """Change the tensors of a file; without metadata it is a plain Qwen file."""
    with safe_open(str(file), framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}
        kept = handle.metadata() if metadata else None
    edit(tensors)
    save_file(tensors, str(file), metadata=kept)


def image(count: int = 1, height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, 3, generator=generator)


def ask(
    pack: Callable[[str], ModuleType], encoder: Any, source: Any, text: str = "make it blue", **options: Any
) -> Any:
    return pack("nodes.query_embeddings").InstructXQueryEmbeddings.execute(encoder, text, source, **options)


def test_an_empty_box_takes_the_wire(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    """instruction_if_empty, e.g. from Sample: used while nothing is typed, and said on the node."""
    encoder, source = load(dtype="fp32"), image()
    typed = ask(pack, encoder, source, "make it red").args[0].query_BQD
    other = ask(pack, encoder, source, "make it blue").args[0].query_BQD
    assert not torch.equal(typed, other)
    wired = ask(pack, encoder, source, " \n", instruction_if_empty="make it red")
    assert torch.equal(wired.args[0].query_BQD, typed) and "asks: make it red" in wired.ui["text"]
    both = ask(pack, encoder, source, "make it blue", instruction_if_empty="make it red")
    assert torch.equal(both.args[0].query_BQD, other) and not [text for text in both.ui["text"] if "asks" in text]
    with pytest.raises(ValueError, match="the instruction is empty; say what to change"):
        ask(pack, encoder, source, "", instruction_if_empty="")


# --- wrong files: one sentence that names the remedy -----------------------------------------------------------------


def widen(tensors: dict[str, Tensor]) -> None:
    tensors["model.embed_tokens.weight"] = torch.zeros(300, 3584)


def blind(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if key.startswith("visual.")]:
        del tensors[key]


def headless(tensors: dict[str, Tensor]) -> None:
    del tensors["model.embed_tokens.weight"]


def torn(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def renamed(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if ".lora_" in key]:
        tensors[key.replace("layers.", "blocks.")] = tensors.pop(key)


def unpaired(tensors: dict[str, Tensor]) -> None:
    del tensors[next(key for key in sorted(tensors) if ".lora_B" in key)]


def without_connector(tensors: dict[str, Tensor]) -> None:
    del tensors["connector.0.weight"]


def narrow_connector(tensors: dict[str, Tensor]) -> None:
    tensors["connector.0.weight"] = tensors["connector.0.weight"][:, :64].contiguous()


@pytest.mark.parametrize(
    ("folder", "edit", "message"),
    [
        ("text_encoders", widen, r"width 3584 \(Qwen2.5-VL-7B\), but the adapter tiny needs width 128; choose that"),
        ("text_encoders", blind, r"no vision tower .*; choose a complete Qwen2.5-VL"),
        ("text_encoders", headless, r"no language model .*; choose a Qwen2.5-VL file"),
        ("text_encoders", torn, r"1 missing \(model.layers.1.mlp.up_proj.weight\); use the file of this model"),
        ("model_patches", renamed, r"(\d+) of \1 LoRA layers of the adapter are not in .*; use the files of one model"),
        ("model_patches", unpaired, r"lora_B.weight is missing; use the whole adapter file"),
        ("model_patches", without_connector, r"1 missing \(connector.0.weight\)"),
        ("model_patches", narrow_connector, r"connector.0.weight \(256, 64\), expected \(256, 128\)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_files(load: Callable[..., Any], models: Path, folder: str, edit: Edit, message: str) -> None:
    if folder == "model_patches":
        add_lora(models)
    rewrite(models / folder / NAME, edit, metadata=folder == "model_patches")
    with pytest.raises(ValueError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


def add_lora(models: Path) -> None:
    """LoRA on one layer of the language model, at the config's rank (32)."""

    def edit(tensors: dict[str, Tensor]) -> None:
        stem = "model.layers.0.self_attn.q_proj"
        tensors[f"{stem}.lora_A.weight"] = torch.full((32, 128), 0.01, dtype=torch.bfloat16)
        tensors[f"{stem}.lora_B.weight"] = torch.full((128, 32), 0.01, dtype=torch.bfloat16)

    rewrite(models / "model_patches" / NAME, edit)


def test_lora_is_folded_in(load: Callable[..., Any], models: Path) -> None:
    weight = "encoder.mllm.language_model.layers.0.self_attn.q_proj.weight"
    before = load(dtype="fp32").patcher.model_state_dict()[weight].clone()
    add_lora(models)
    after = load(dtype="fp32").patcher.model_state_dict()[weight]
    torch.testing.assert_close(after - before, torch.full((128, 128), 32 * 1e-4), rtol=0.01, atol=1e-6)


def test_adapter_and_encoder_swapped(load: Callable[..., Any], models: Path) -> None:
    shutil.copy(models / "model_patches" / NAME, models / "text_encoders" / "adapter.safetensors")
    with pytest.raises(ValueError, match="no language model"):
        load(encoder="adapter.safetensors")
    rewrite(models / "text_encoders" / NAME, lambda tensors: None, metadata=False)
    shutil.copy(models / "text_encoders" / NAME, models / "model_patches" / "qwen.safetensors")
    with pytest.raises(ValueError, match="carries no InstructX config; it is not an adapter file"):
        load(adapter="qwen.safetensors")
    with pytest.raises(ValueError, match=r"no gone.safetensors in models/text_encoders; put it there"):
        load(encoder="gone.safetensors")
    with pytest.raises(ValueError, match="put it there"):
        load(encoder="../vae/instructx_tiny.safetensors")


# --- files, shards, tokenizers, dtypes -------------------------------------------------------------------------------


def test_shards_are_one_choice(pack: Callable[[str], ModuleType], load: Callable[..., Any], models: Path) -> None:
    import folder_paths

    folder = models / "text_encoders" / "qwen"
    folder.mkdir()
    with safe_open(str(models / "text_encoders" / NAME), framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}
    keys = sorted(tensors)
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        save_file({key: tensors[key] for key in part}, str(folder / f"model-0000{number}-of-00002.safetensors"))
    shutil.copy(models / "tokenizer.json", folder)
    folder_paths.filename_list_cache.clear()
    assert pack("nodes.parts.model_files").encoder_choices() == [NAME, "qwen"]
    whole, sharded = load().patcher.model_state_dict(), load(encoder="qwen").patcher.model_state_dict()
    assert all(torch.equal(whole[key], sharded[key]) for key in whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="qwen holds 1 of 2 shards; download the missing ones"):
        load(encoder="qwen")


def test_a_gguf_of_llama_cpp_and_its_tower_are_one_choice(
    pack: Callable[[str], ModuleType], load: Callable[..., Any], models: Path, load_helper: Any
) -> None:
    """Names as llama.cpp's converter writes them (checked against the package gguf in tests/formats)."""
    pytest.importorskip("gguf")
    small = load_helper("instructx_test_format_files", "formats/small.py")
    folder = models / "text_encoders"
    with safe_open(str(folder / NAME), framework="pt") as handle:
        state = {key: handle.get_tensor(key) for key in handle.keys()}
    text, tower = small.llama_cpp_names(state)
    for name, part in (("qwen.gguf", text), ("mmproj-qwen.gguf", tower)):
        small.write_gguf(
            folder / name, {k: ("F32", v.float().numpy()) for k, v in part.items()}, architecture="qwen2vl"
        )
    node, choices = pack("nodes.load_encoder"), pack("nodes.parts.model_files").encoder_choices
    assert choices() == [NAME, "qwen.gguf"], "the tower is no choice of its own"
    whole = load().patcher.model_state_dict()
    packed = load(encoder="qwen.gguf").patcher.model_state_dict()
    assert whole.keys() == packed.keys() and all(torch.equal(whole[key], packed[key]) for key in whole)
    adapter = models / "model_patches" / NAME
    seen = node.InstructXLoadEncoder.fingerprint_inputs("qwen.gguf", adapter.name)
    assert any("mmproj" in file for file, *_ in seen), "a new tower is loaded anew"
    (folder / "mmproj-qwen.gguf").unlink()
    with pytest.raises(ValueError, match="put the mmproj file of the same model into its folder"):
        load(encoder="qwen.gguf")


def test_list_of_gguf_files_is_kept_until_a_folder_changes(
    pack: Callable[[str], ModuleType], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    walk, walked = folder_paths.recursive_search, []
    monkeypatch.setattr(folder_paths, "recursive_search", lambda *given: walked.append(given[0]) or walk(*given))
    folder, names = models / "text_encoders", pack("nodes.parts.host").gguf_files
    (folder / "deep").mkdir()
    assert names("text_encoders") == names("text_encoders") == []
    assert walked == [str(folder)], "walked once"
    for number, path in enumerate((folder / "a.gguf", folder / "deep" / "b.gguf"), start=1):
        path.touch()
        os.utime(path.parent, (number, number))  # two changes within one tick of the clock would look like none
        assert len(names("text_encoders")) == number
    (folder / "deep" / "b.gguf").unlink()
    (folder / "deep").rmdir()
    assert names("text_encoders") == ["a.gguf"]


def test_comfyui_gguf_reads_the_same_from_these_files(
    gguf_pack: Callable[[str], ModuleType], pack: Callable[[str], ModuleType], models: Path, load_helper: Any
) -> None:
    small = load_helper("instructx_test_format_files", "formats/small.py")
    with safe_open(str(models / "text_encoders" / NAME), framework="pt") as handle:
        path = small.llama_cpp_pair(models / "text_encoders", {key: handle.get_tensor(key) for key in handle.keys()})
    theirs = gguf_pack("loader").gguf_clip_loader(str(path))
    with pack("instructx_core.formats.layouts.weight_file").open_weights(path) as file:
        ours = file.source
        parts = {key for key in theirs if ".attn_" in key}  # of q, k and v, which it leaves beside the whole
        assert set(ours.keys()) == set(theirs) - parts
        for key in ours.keys():
            want = gguf_pack("dequant").dequantize_tensor(theirs[key], torch.float32)
            torch.testing.assert_close(
                ours.get(key), want.float(), rtol=1e-3, atol=1e-4, msg=key
            )  # some of theirs: fp16


def test_tokenizer_must_be_found(load: Callable[..., Any], models: Path) -> None:
    (models / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer.json for instructx_tiny.safetensors; put the one"):
        load()


def test_dtype_and_fingerprint(pack: Callable[[str], ModuleType], load: Callable[..., Any], models: Path) -> None:
    assert {t.dtype for t in load(dtype="bf16").patcher.model.parameters()} == {torch.bfloat16}
    assert load().dtype == torch.float32  # auto on a CPU
    fingerprint = pack("nodes.load_encoder").InstructXLoadEncoder.fingerprint_inputs
    first = fingerprint(NAME, NAME)
    assert first == fingerprint(NAME, NAME, dtype="bf16")
    add_lora(models)
    assert first != fingerprint(NAME, NAME) and fingerprint("gone", NAME) == []


# --- queries and conditioning ----------------------------------------------------------------------------------------


def test_conditioning(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    encoder = load()
    answer = ask(pack, encoder, image(), reference_1=image(2, 40, 30), reference_2=None, reference_3=image(1, 30, 90))
    queries = answer.args[0]
    assert (queries.modality, queries.references, queries.has_reference) == ("image", 3, True)
    assert "3 reference(s)" in answer.ui["text"][0]
    ((context, options),) = pack("nodes.connector").InstructXConnector.execute(queries).args[0]
    rule, dim = encoder.config.instruction, encoder.config.denoiser.dim
    assert context.shape == (1, rule.num_image_queries, dim) and context.dtype == torch.float32
    assert options["instructx"] is encoder.adapter and options["instructx_references"] == 3


def test_modality(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    encoder = load()
    rule = encoder.config.instruction
    for source, modality, count in (
        (clip(5), "auto", rule.num_video_queries),
        (image(1), "video", rule.num_video_queries),
    ):
        queries = ask(pack, encoder, source, modality=modality).args[0]
        assert queries.modality == "video" and queries.query_BQD.shape[1] == count


def test_a_batch_of_photos(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    """Unrelated pictures are not taken for a clip: the choice is asked for, and each can be an edit of its own."""
    encoder = load()
    photos = torch.cat([photo(seed) for seed in range(3)])
    with pytest.raises(
        ValueError, match=r"a batch of 3 pictures that do not look like one clip; set modality to image"
    ):
        ask(pack, encoder, photos)
    assert ask(pack, encoder, photos, modality="video").args[0].modality == "video"
    answer = ask(pack, encoder, photos, modality="image", reference_1=image(1, 30, 40))
    queries = answer.args[0]
    assert queries.query_BQD.shape[:2] == (3, encoder.config.instruction.num_image_queries)
    assert "image: 3 pictures, each seen as" in answer.ui["text"][0]
    ((context, options),) = pack("nodes.connector").InstructXConnector.execute(queries).args[0]
    assert context.shape[0] == 3 and options["instructx_pictures"] == 3
    for number in range(3):
        alone = ask(pack, encoder, photos[number : number + 1], reference_1=image(1, 30, 40)).args[0]
        assert (queries.query_BQD[number] - alone.query_BQD[0]).abs().max() < 1e-4
    ((_, options),) = pack("nodes.connector").InstructXConnector.execute(ask(pack, encoder, clip(5)).args[0]).args[0]
    assert options["instructx_pictures"] == 0


def photo(seed: int) -> Tensor:
    """A picture of six by four patches of colour."""
    patches = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(patches, (48, 64)).movedim(1, -1)


def clip(frames: int) -> Tensor:
    """A smooth picture that moves two pixels a frame."""
    row = torch.linspace(0, 1, 64 + 2 * frames)
    return torch.stack([row[2 * f : 2 * f + 64].expand(48, 64) for f in range(frames)])[..., None].repeat(1, 1, 1, 3)


def test_what_looks_like_a_clip(pack: Callable[[str], ModuleType]) -> None:
    are_unrelated = pack("nodes.parts.media").are_unrelated
    levels = lambda frames: (frames * 255).to(torch.uint8)  # noqa: E731
    moving, other = levels(clip(6)), levels(clip(1).flip(2))
    assert not are_unrelated(moving) and not are_unrelated(moving[:1])
    assert not are_unrelated(torch.cat([moving, other, moving]))  # one flash, or two cuts
    assert not are_unrelated(torch.full((4, 48, 64, 3), 90, dtype=torch.uint8))  # nothing to correlate
    assert are_unrelated(torch.cat([moving[:1], other, moving[:1]]))
    assert are_unrelated(torch.cat([levels(photo(seed)) for seed in range(4)]))


def test_the_batch_is_called_a_clip(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    assert "edited as one clip; set modality to image" in ask(pack, load(), clip(5)).ui["text"][1]
    assert "one clip" not in str(ask(pack, load(), clip(5), modality="video").ui["text"])


def test_the_shipped_model_says_what_it_is_for(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    """To an artist who connects a photo; in Chinese where that was chosen. Its own pictures need no word."""
    encoder = load()
    assert "expect toy results on photos" in ask(pack, encoder, image(1, 480, 640)).ui["text"][-1]
    assert "expect" not in str(ask(pack, encoder, image(1, 64, 64)).ui["text"])
    note = pack("nodes.parts.notes").note("small_world", model="tiny", world="w")
    assert re.search(r"[\u4e00-\u9fff]", note.text("zh")) and note.text("zh-TW") == note.text("zh")
    assert note.text("fr") == note.text("../en") == note.text("en")


def test_video_is_read_with_its_rate(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    """A VIDEO equals the IMAGE batch of its frames at its rate; the rate matters to the encoder."""
    from comfy_api.latest import InputImpl, Types

    encoder, frames = load(), clip(9)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, audio=None, frame_rate=Fraction(4)))
    have = ask(pack, encoder, video).args[0].query_BQD
    assert torch.equal(have, ask(pack, encoder, frames, fps=4.0).args[0].query_BQD)
    assert not torch.equal(have, ask(pack, encoder, frames).args[0].query_BQD)
    with pytest.raises(ValueError, match="source is a str; connect an IMAGE"):
        ask(pack, encoder, "clip.mp4")


def test_dropped_instruction(pack: Callable[[str], ModuleType], load: Callable[..., Any]) -> None:
    """The negative of guidance: the text has no influence, the picture has."""
    encoder = load()
    first = ask(pack, encoder, image(), "make it blue", drop_instruction=True).args[0].query_BQD
    assert torch.equal(first, ask(pack, encoder, image(), "", drop_instruction=True).args[0].query_BQD)
    assert not torch.equal(first, ask(pack, encoder, image(), "make it blue").args[0].query_BQD)
    assert not torch.equal(first, ask(pack, encoder, image(seed=1), "", drop_instruction=True).args[0].query_BQD)
    with pytest.raises(ValueError, match="the instruction is empty; say what to change"):
        ask(pack, encoder, image(), "  ")
    with pytest.raises(ValueError, match="has no letter and no digit"):
        ask(pack, encoder, image(), "\u200b.")
