"""LoRA files of the DiT in every spelling: what they change, what is left out, what is refused."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from small import config, save, state

from instructx_core.denoiser import build_denoiser
from instructx_core.errors import InputError
from instructx_core.formats.layouts import keymaps, lora
from instructx_core.formats.layouts.dit_lora import DitLora
from instructx_core.formats.layouts.weight_file import open_weights

RANK = 4
LAYERS = [f"blocks.{n}.{part}" for n in (0, 1) for part in ("self_attn.q", "cross_attn.o", "ffn.0", "ffn.2")]


@pytest.fixture(scope="module")
def dit():
    model = build_denoiser(config()).eval()
    state(model, str)
    return model


def apply_lora(model, path, *args, **options):
    with open_weights(path) as file:
        return lora.apply_lora(model, file, *args, **options)


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


@pytest.fixture(scope="module")
def halves(dit):
    """Original layer name -> (down, up)."""
    generator, table = torch.Generator().manual_seed(1), shapes(dit)
    found = {}
    for layer in LAYERS:
        rows, columns = table[keymaps.dit_to_diffusers(f"{layer}.weight")]
        draw = lambda *size: torch.randn(*size, generator=generator) * 0.1  # noqa: E731
        found[layer] = draw(RANK, columns), draw(rows, RANK)
    return found


def theirs(layer):
    return keymaps.dit_to_diffusers(f"{layer}.weight").removesuffix(".weight")


SPELLINGS = {
    "comfyui": lambda layer, half: f"diffusion_model.{layer}.lora_{'down' if half else 'up'}.weight",
    "comfyui-ab": lambda layer, half: f"diffusion_model.{layer}.lora_{'A' if half else 'B'}.weight",
    "bare": lambda layer, half: f"{layer}.lora_{'down' if half else 'up'}.weight",
    "diffusers": lambda layer, half: f"transformer.{theirs(layer)}.lora_{'A' if half else 'B'}.weight",
    "older": lambda layer, half: f"transformer.{theirs(layer)}.lora.{'down' if half else 'up'}.weight",
    "peft": lambda layer, half: f"base_model.model.{layer}.lora_{'A' if half else 'B'}.weight",
    "kiwi": lambda layer, half: f"pipe.dit.{layer}.lora_{'A' if half else 'B'}.default.weight",
    "musubi": lambda layer, half: f"lora_unet_{layer.replace('.', '_')}.lora_{'down' if half else 'up'}.weight",
    "fun": lambda layer, half: f"lora_unet__{layer.replace('.', '_')}.lora_{'down' if half else 'up'}.weight",
}


def spelled(halves, spelling):
    name = SPELLINGS[spelling]
    return {name(k, half): v for k, (down, up) in halves.items() for half, v in ((True, down), (False, up))}


def merged(dit, path, **options):
    model = copy.deepcopy(dit)
    return model, apply_lora(model, path, **options)


def changes(model, dit):
    before = dict(dit.named_parameters())
    return {
        name: value - before[name] for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_changes_the_same_layers(dit, halves, tmp_path, spelling):
    path = save(tmp_path / "x.safetensors", spelled(halves, spelling))
    model, report = merged(dit, path, strength=0.5)
    assert len(report.consumed) == 2 * len(LAYERS) and not report.ignored
    assert f"rank {RANK} on {len(LAYERS)} weights" in report.kind and "strength 0.5, merged" in report.kind
    before = dict(dit.named_parameters())
    touched = {keymaps.dit_to_diffusers(f"{layer}.weight"): parts for layer, parts in halves.items()}
    for name, value in model.named_parameters():
        want = before[name]
        if name in touched:
            down, up = touched[name]
            want = want + 0.5 * (up.double() @ down.double()).float()
        torch.testing.assert_close(value, want, rtol=1e-6, atol=1e-6)


def test_alpha_scales_and_bf16_is_rounded_once(dit, halves, tmp_path):
    alphas = {f"diffusion_model.{layer}.alpha": torch.tensor(8.0) for layer in LAYERS}
    path = save(tmp_path / "x.safetensors", spelled(halves, "comfyui") | alphas)
    short = copy.deepcopy(dit).bfloat16()
    report = apply_lora(short, path)
    assert len(report.consumed) == 3 * len(LAYERS)
    down, up = halves["blocks.0.ffn.0"]
    base = dit.blocks[0].ffn.net[0].proj.weight.bfloat16().float()
    assert torch.equal(short.blocks[0].ffn.net[0].proj.weight, (base + 8.0 / RANK * (up @ down)).bfloat16())


@pytest.mark.parametrize("place", ["metadata", "folder"])
def test_alpha_of_peft_lies_apart(dit, halves, tmp_path, place):
    told = {"r": RANK, "lora_alpha": 2 * RANK, "use_rslora": place == "folder", "alpha_pattern": {}}
    metadata = {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in told.items()})}
    path = save(tmp_path / "x.safetensors", spelled(halves, "peft"), metadata if place == "metadata" else None)
    if place == "folder":
        (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    model, _ = merged(dit, path)
    down, up = halves["blocks.1.ffn.2"]
    scale = 2.0 if place == "metadata" else 2 * RANK / math.sqrt(RANK)
    change = changes(model, dit)["blocks.1.ffn.net.2.weight"]
    torch.testing.assert_close(change, scale * (up @ down), rtol=1e-4, atol=1e-5)


def distilled(dit, halves):
    """What lightx2v's files carry beside the low-rank part."""
    generator = torch.Generator().manual_seed(2)
    extra = {
        "blocks.0.self_attn.norm_q.diff": "blocks.0.attn1.norm_q.weight",
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "head.diff_m": "scale_shift_table",
        "patch_embedding.diff": "patch_embedding.weight",
    }
    sizes = shapes(dit)
    values = {key: torch.randn(sizes[name], generator=generator) * 0.1 for key, name in extra.items()}
    file = {f"diffusion_model.{key}": value for key, value in values.items()}
    conv = torch.randn(RANK, 16, 1, 2, 2, generator=generator), torch.randn(128, RANK, 1, 1, 1, generator=generator)
    file["diffusion_model.patch_embedding.lora_down.weight"], file["diffusion_model.patch_embedding.lora_up.weight"] = (
        conv
    )
    return spelled(halves, "comfyui") | file, {extra[key]: value for key, value in values.items()}, conv


def test_differences_biases_modulations_and_convolutions(dit, halves, tmp_path):
    file, values, (down, up) = distilled(dit, halves)
    values["patch_embedding.weight"] = values["patch_embedding.weight"] + torch.einsum("orxyz,ricjk->oicjk", up, down)
    model, report = merged(dit, save(tmp_path / "x.safetensors", file))
    have = changes(model, dit)
    assert len(have) == len(LAYERS) + len(values) == len(set(have)) and not report.ignored
    for name, value in values.items():
        torch.testing.assert_close(have[name], value, rtol=1e-4, atol=1e-5, msg=name)
    with pytest.raises(InputError, match="changes 7 weights directly"):
        merged(dit, tmp_path / "x.safetensors", merge=False)


def test_layers_self_leaves_the_rest_out(dit, halves, tmp_path):
    file, _, _ = distilled(dit, halves)
    path = save(tmp_path / "x.safetensors", file)
    model, report = merged(dit, path, layers="self")
    have = changes(model, dit)
    assert set(have) == {
        f"blocks.{n}.{part}.weight" for n in (0, 1) for part in ("attn1.to_q", "ffn.net.0.proj", "ffn.net.2")
    } | {"blocks.0.attn1.norm_q.weight", "blocks.0.attn1.to_q.bias"}
    assert "11 tensors of other layers" in str(report) and len(report.consumed) == 14
    cross = {key: value for key, value in file.items() if "cross_attn" in key}
    with pytest.raises(InputError, match="4 are of layers left out"):
        merged(dit, save(path, cross), layers="self")


def test_beside_the_weights_is_the_same_model(dit, halves, tmp_path):
    pytest.importorskip("peft")
    path = save(
        tmp_path / "a.safetensors", spelled(halves, "musubi") | {"lora_unet_blocks_0_ffn_0.alpha": torch.tensor(2.0)}
    )
    beside, report = merged(dit, path, strength=0.7, merge=False)
    assert "beside the weights" in report.kind
    apply_lora(beside, path, 0.2, layers="self", merge=False, name="second")
    both, _ = merged(dit, path, strength=0.7)
    apply_lora(both, path, 0.2, layers="self")
    given = torch.randn(1, 16, 2, 4, 4), torch.tensor([500.0]), torch.randn(1, 3, 128)
    with torch.no_grad():
        have, want, plain = (model(*given, return_dict=False)[0] for model in (beside, both, dit))
    torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(have, plain, atol=1e-3)
    with pytest.raises(InputError, match="called second is there already"):
        apply_lora(beside, path, merge=False, name="second")


def test_a_layer_that_the_model_lacks_is_ignored_and_told(dit, halves, tmp_path):
    more = {"diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.ones(RANK, 4), "ss_tag": torch.ones(1)}
    _, report = merged(dit, save(tmp_path / "x.safetensors", spelled(halves, "comfyui") | more))
    assert sorted(report.ignored) == sorted(more) and "2 ignored" in str(report)


def test_what_is_refused(dit, halves, tmp_path):
    path, name = tmp_path / "x.safetensors", "diffusion_model.blocks.0.ffn.0"
    file = spelled(halves, "comfyui")
    down, up = halves["blocks.0.ffn.0"]
    cases = [
        ({"lora_te_text_model.lora_down.weight": down, "lora_te_text_model.lora_up.weight": up}, "changes no layer"),
        ({f"{name}.lora_down.weight": down}, "lacks its other half"),
        ({f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}, "lacks its other half"),
        (file | {f"{name}.lora_down.weight": down[:, :5]}, "does not fit the layer"),
        (file | {f"{name}.lora_up.weight": up[:, :2]}, "does not fit the layer"),
        (file | {f"{name}.lora_down.weight": torch.tensor(1.0)}, "does not fit the layer"),
        (file | {f"{name}.diff": torch.ones(3)}, "the layer"),
        (file | {f"{name}.alpha": torch.ones(2)}, "no single number"),
        (file | {f"{name}.lora_A.weight": down}, "two spellings"),
        (file | {f"{name}.lora_down.weight": torch.full_like(down, float("nan"))}, "NaN"),
        (file | {f"{name}.lora_down.weight": down.to(torch.int32)}, "no plain number"),
        ({f"{name}.lokr_w1": down}, "LoKr"),
        ({f"{name}.hada_w1_a": down}, "LoHa"),
        (file | {f"{name}.dora_scale": down}, "DoRA"),
        (file | {f"{name}.lora_magnitude_vector": down}, "DoRA"),
    ]
    for tensors, says in cases:
        model = copy.deepcopy(dit)
        with pytest.raises(InputError, match=says) as error:
            apply_lora(model, save(path, tensors))
        assert "\n" not in str(error.value) and not changes(model, dit), says
    save(path, file)
    with pytest.raises(InputError, match="strength nan"):
        merged(dit, path, strength=float("nan"))
    with open_weights(path) as lora_file, pytest.raises(InputError, match="use all or self"):
        DitLora(lora_file, shapes(dit), "cross")
    with pytest.raises(InputError, match="offloaded or quantised"):
        apply_lora(copy.deepcopy(dit).to("meta"), path)
    for told in ({"r": 4, "lora_alpha": 4, "rank_pattern": {"x": 2}}, {"r": 0, "lora_alpha": 1}, [1]):
        (tmp_path / "adapter_config.json").write_text(json.dumps(told))
        with pytest.raises(InputError, match=r"by layer|unreadable|holds no JSON object"):
            merged(dit, path)


def test_strength_in_the_command_line():
    from pathlib import Path

    from instructx_core.commands.model import parse_lora

    for text, want in {
        "a/b.safetensors": ("a/b.safetensors", 1.0),
        "a/b.v2.safetensors:0.7": ("a/b.v2.safetensors", 0.7),
        "C:\\x\\b.safetensors:-1": ("C:\\x\\b.safetensors", -1.0),
        "folder": ("folder", 1.0),
    }.items():
        assert parse_lora(text) == (Path(want[0]), want[1])
    with pytest.raises(InputError, match="'strong' is no strength"):
        parse_lora("b.safetensors:strong")


def test_the_command_line_merges_a_lora_and_reports_it(random_checkpoint, tmp_path, capsys):
    import argparse

    from instructx_core.commands.model import add_model_arguments, pipeline_of

    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    common = ["--model", str(random_checkpoint), "--device", "cpu", "--attention", "off"]
    plain = pipeline_of(parser.parse_args(common))
    weight = plain.transformer.blocks[1].ffn.net[0].proj.weight
    down, up = torch.ones(2, weight.shape[1]), torch.ones(weight.shape[0], 2)
    name = "lora_unet_blocks_1_ffn_0"
    path = save(tmp_path / "x.safetensors", {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up})
    pipe = pipeline_of(parser.parse_args([*common, "--lora", f"{path}:0.25", "--lora-layers", "self"]))
    assert list(changes(pipe.transformer, plain.transformer)) == ["blocks.1.ffn.net.0.proj.weight"]
    torch.testing.assert_close(pipe.transformer.blocks[1].ffn.net[0].proj.weight, weight + 0.5)
    assert len(pipe.load_reports) == len(plain.load_reports) + 1 and pipe.load_reports[-1].files == (path,)
    assert "rank 2 on 1 weights of the DiT, strength 0.25, merged" in capsys.readouterr().err
