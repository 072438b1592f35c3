"""instructx convert: lossless round trips, fp8, and nothing overwritten or left behind."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import packed
from torch import Tensor

from instructx_core.cli import main
from instructx_core.config import kiwi_5b, paper_14b
from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantised import dequantised
from instructx_core.formats.convert import convert
from instructx_core.formats.forms.request import Options
from instructx_core.formats.layouts.keymaps import dit_to_diffusers, dit_to_original, vae_to_diffusers, vae_to_original
from instructx_core.formats.telling.identify import identify

SIZES = ("1.3B", "14B", "5B")


@pytest.fixture(scope="session")
def real(load_helper) -> ModuleType:
    return load_helper("instructx_test_real", "formats/real.py")


def narrow(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A public shape with its widths divided by 64; channels and kernels stay."""
    return tuple(n // 64 if n >= 256 else n for n in shape)


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """bf16, with norms and modulation in fp32, as some files have them."""
    generator = torch.Generator().manual_seed(seed)
    state = {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}
    return {key: value if "norm" in key or "modulation" in key else value.bfloat16() for key, value in state.items()}


@pytest.fixture(scope="session")
def narrow_dit(real, tmp_path_factory: pytest.TempPathFactory):
    """narrow_dit("5B") -> a file with all names, layers and channels of a public DiT, at 1/64 of its widths."""
    folder = tmp_path_factory.mktemp("dits")

    def make(size: str) -> Path:
        path = folder / f"{size}.safetensors"
        if not path.exists():
            save_file(random_state({key: narrow(shape) for key, (_, shape) in real.dit(size).items()}), str(path))
        return path

    return make


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("size", SIZES)
def test_names_of_the_public_sizes_go_both_ways(real, size: str) -> None:
    ours, theirs = real.dit(size), real.dit(size, diffusers=True)
    assert {dit_to_diffusers(key) for key in ours} == set(theirs)
    assert all(dit_to_original(dit_to_diffusers(key)) == key for key in ours)
    config = real.SIZES[size]().vae
    ours, theirs = real.vae(size), real.vae(size, diffusers=True)
    assert {vae_to_diffusers(key, config) for key in ours} == set(theirs)
    assert all(vae_to_original(vae_to_diffusers(key, config), config) == key for key in ours)


@pytest.mark.parametrize("size", SIZES)
def test_dit_to_diffusers_and_back(narrow_dit, real, tmp_path: Path, size: str) -> None:
    from diffusers import WanTransformer3DModel

    source = narrow_dit(size)
    folder = convert(source, tmp_path / "transformer", "diffusers").path
    model = WanTransformer3DModel.from_pretrained(folder)
    assert (model.config["num_layers"], model.config["in_channels"]) == (
        {"14B": 40}.get(size, 30),
        48 if size == "5B" else 16,
    )
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    shapes = {key: narrow(shape) for key, (_, shape) in real.dit(size, diffusers=True).items()}
    assert shapes == {key: tuple(value.shape) for key, value in stored.items()}
    assert same(source, convert(folder, tmp_path / "back.safetensors", "original").path)


def test_wrapped_names_are_unwrapped_and_metadata_stay(narrow_dit, tmp_path: Path) -> None:
    state = load_file(narrow_dit("1.3B"))
    wrapped = tmp_path / "wrapped.safetensors"
    save_file({f"model.diffusion_model.{k}": v for k, v in state.items()}, str(wrapped), metadata={"author": "x"})
    plain = convert(wrapped, tmp_path / "plain.safetensors", "original").path
    assert same(plain, narrow_dit("1.3B"))
    with open_source(plain) as source:
        assert source.metadata["author"] == "x"


@pytest.mark.parametrize("preset", [paper_14b, kiwi_5b])
def test_vae_to_diffusers_and_back(tmp_path: Path, preset) -> None:
    from diffusers import AutoencoderKLWan

    from instructx_core.vae import build_vae

    full = preset().vae
    wide = None if full.decoder_base_dim is None else 8
    config = dataclasses.replace(full, base_dim=4, decoder_base_dim=wide)
    torch.manual_seed(0)
    state = {vae_to_original(k, config): v.contiguous() for k, v in build_vae(config).bfloat16().state_dict().items()}
    save_file(state, str(tmp_path / "vae.safetensors"))
    folder = convert(tmp_path / "vae.safetensors", tmp_path / "vae", "diffusers").path
    model = AutoencoderKLWan.from_pretrained(folder)
    assert model.config["z_dim"] == full.z_dim and len(model.config["latents_mean"]) == full.z_dim
    assert same(tmp_path / "vae.safetensors", convert(folder, tmp_path / "back.safetensors", "original").path)


def test_fp8(narrow_dit, tmp_path: Path) -> None:
    source = narrow_dit("5B")
    slim = convert(source, tmp_path / "slim.safetensors", "fp8").path
    assert slim.stat().st_size < 0.65 * source.stat().st_size  # tiny widths: the rest weighs more than in a public file
    assert identify(slim).values["quantisation"] == "fp8_scaled"
    full, stored = load_file(source), load_file(slim)
    assert stored["scaled_fp8"].numel() == 2
    with dequantised(open_source(slim)) as plain:
        assert sorted(plain.keys()) == sorted(full)
        for key, want in full.items():
            have = plain.get(key)
            if want.ndim == 2:
                step = want.abs().max().item() / 448 * 2**-9  # half a subnormal step
                error = (have - want.float()).abs()
                assert bool((error <= want.float().abs() * 2**-4 + step).all()), key
                assert stored[key].dtype == torch.float8_e4m3fn
            else:
                assert torch.equal(stored[key], want), key
    back = convert(slim, tmp_path / "back.safetensors", "original").path
    assert {value.dtype for value in load_file(back).values()} == {torch.bfloat16, torch.float32}
    with pytest.raises(InputError, match="quantised already"):
        convert(slim, tmp_path / "again.safetensors", "fp8")


def test_all_zero_matrices_survive_fp8(narrow_dit, tmp_path: Path) -> None:
    state = load_file(narrow_dit("1.3B"))
    state["blocks.0.ffn.0.weight"].zero_()
    save_file(state, str(tmp_path / "zero.safetensors"))
    slim = convert(tmp_path / "zero.safetensors", tmp_path / "slim.safetensors", "fp8").path
    with dequantised(open_source(slim)) as plain:
        assert not plain.get("blocks.0.ffn.0.weight").any()


def test_gguf_becomes_a_plain_file(narrow_dit, tmp_path: Path) -> None:
    path, values = packed(tmp_path / "wan", "F32", load_file(narrow_dit("1.3B")))
    plain = load_file(convert(path, tmp_path / "plain.safetensors", "original").path)
    assert plain.keys() == values.keys()
    assert all(torch.equal(plain[key], value) and plain[key].shape == value.shape for key, value in values.items())


# --- LoRA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", ["all", "self"])
def test_dit_lora_is_merged(narrow_dit, tmp_path: Path, layers: str) -> None:
    """W + strength * alpha / rank * B A, in fp32 and rounded once; the rest stays bit for bit."""
    source, generator = narrow_dit("1.3B"), torch.Generator().manual_seed(3)
    full, lora = load_file(source), {}
    for name in ("blocks.3.self_attn.q", "blocks.7.cross_attn.k", "blocks.9.ffn.2"):
        rows, columns = full[f"{name}.weight"].shape
        lora[f"diffusion_model.{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
        lora[f"diffusion_model.{name}.lora_up.weight"] = torch.randn(rows, 4, generator=generator)
        lora[f"diffusion_model.{name}.alpha"] = torch.tensor(2.0)
    save_file({**lora, "nowhere.lora_down.weight": torch.ones(1, 1)}, str(tmp_path / "lora.safetensors"))
    done = convert(
        source,
        tmp_path / "merged.safetensors",
        "merged",
        Options(lora=tmp_path / "lora.safetensors", strength=0.5, layers=layers),
    )
    count = 3 if layers == "all" else 2
    assert done.notes[0] == f"lora.safetensors: {count} weights changed" and "1 tensors match no layer" in done.notes[1]
    assert len(done.notes) == (2 if layers == "all" else 3)
    for key, have in load_file(done.path).items():
        stem = f"diffusion_model.{key.removesuffix('.weight')}"
        want = full[key]
        if f"{stem}.lora_down.weight" in lora and (layers == "all" or "cross" not in key):
            delta = lora[f"{stem}.lora_up.weight"] @ lora[f"{stem}.lora_down.weight"]
            want = (want.float() + 0.5 * (2.0 / 4) * delta).to(want.dtype)
        assert torch.equal(have, want), key


def test_a_lora_of_another_model_changes_nothing(narrow_dit, tmp_path: Path) -> None:
    stem = "blocks.0.self_attn.q"
    lora = {f"{stem}.lora_A.weight": torch.ones(1, 7), f"{stem}.lora_B.weight": torch.ones(7, 1)}
    save_file(lora, str(tmp_path / "l.safetensors"))
    with pytest.raises(InputError, match="does not fit the layer"):
        convert(narrow_dit("5B"), tmp_path / "out.safetensors", "merged", Options(lora=tmp_path / "l.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()


def test_lora_of_an_adapter_is_merged_into_qwen(random_checkpoint: Path, tmp_path: Path) -> None:
    """Qwen with the LoRA in it and the adapter without give the same encoder as the two as they were."""
    from instructx_core.formats.layouts.adapter import load_adapter
    from instructx_core.formats.loading import load_encoder

    qwen, adapter = (next((random_checkpoint / f).glob("*")) for f in ("text_encoders", "model_patches"))
    with open_source(adapter) as source:
        tensors, metadata = {key: source.get(key) for key in source.keys()}, dict(source.metadata)
    generator = torch.Generator().manual_seed(5)
    for stem in ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"):
        tensors[f"{stem}.lora_A.weight"] = torch.randn(32, 128, generator=generator) * 0.1
        tensors[f"{stem}.lora_B.weight"] = torch.randn(128, 32, generator=generator) * 0.1
    with_lora = tmp_path / "adapter.safetensors"
    save_file(tensors, str(with_lora), metadata=metadata)
    merged = convert(qwen, tmp_path / "qwen.safetensors", "merged", Options(lora=with_lora))
    bare = convert(with_lora, tmp_path / "bare.safetensors", "adapter", Options(without_lora=True))
    assert merged.notes == ("adapter.safetensors: 2 weights changed",)
    assert bare.notes[-1] == "4 tensors of the LoRA left out"
    config = load_adapter(with_lora).config
    one, two = (
        load_encoder(encoder, config, load_adapter(file).tensors, torch.bfloat16).state_dict()
        for encoder, file in ((qwen, with_lora), (merged.path, bare.path))
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(InputError, match="0 LoRA layers"):
        convert(qwen, tmp_path / "again.safetensors", "merged", Options(lora=bare.path))


def test_the_command_explains_every_form() -> None:
    from instructx_core.commands.convert import FORMS as EXPLAINED
    from instructx_core.formats.convert import FORMS

    assert list(EXPLAINED) == list(FORMS)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_or_left_behind(narrow_dit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = narrow_dit("1.3B")
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        convert(source, taken, "original")
    assert taken.read_bytes() == b"mine"
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        convert(source, tmp_path / "folder", "diffusers")
    broken = tmp_path / "broken.safetensors"
    state = load_file(source)
    state["head.head.weight"].view(-1)[3] = float("nan")
    save_file(state, str(broken))
    before = sorted(tmp_path.iterdir())
    for target, to in (("out.safetensors", "original"), ("out.safetensors", "fp8"), ("out", "diffusers")):
        with pytest.raises(InputError, match="NaN"):
            convert(broken, tmp_path / target, to)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match=r"0.00 GB free, out.safetensors needs"):
        convert(source, tmp_path / "out.safetensors", "original")
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_go_together(
    narrow_dit, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = narrow_dit("1.3B"), tmp_path / "out.safetensors"
    adapter = next((shipped / "model_patches").glob("*.safetensors"))
    for arguments, words in (
        ((source, out, "upside-down"), "is unknown"),
        ((source, tmp_path / "out.bin", "original"), "must end in .safetensors"),
        ((source, tmp_path / "none" / "out.safetensors", "original"), "does not exist"),
        ((source, out, "original", Options(lora=adapter)), "--lora belongs to"),
        ((adapter, out, "original"), "is adapter, --to original takes"),
        ((adapter, out, "fp8"), "is adapter, --to fp8 takes"),
    ):
        with pytest.raises(InputError, match=words):
            convert(*arguments)
    assert main(["convert", str(source), str(out), "--to", "fp8"]) == 0
    said = capsys.readouterr().out
    assert "fp8_scaled" in said and "Load Diffusion Model" in said
    assert main(["convert", str(source), str(out), "--to", "fp8"]) == 2
    assert "exists" in capsys.readouterr().err
