"""Qwen2.5-VL from every layout gives the same encoder; what is no complete 3B is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from kiwi_files import adapter, config, pipe, qwen_folder, qwen_state
from safetensors.torch import load_file
from small import save, scaled, unscaled

from instructx_core.config import LORA_TARGETS, LoraConfig, MllmConfig, VisionConfig
from instructx_core.encoder.forward import PlainEncoder
from instructx_core.errors import InputError
from instructx_core.formats.layouts.encoder import read_encoder
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.qwen_config import check_encoder, infer_mllm
from instructx_core.formats.layouts.weight_file import open_weights

CONFIG = config()


def load(path, settings=CONFIG, tensors=None, **options):
    with empty_parameters():
        module = PlainEncoder(settings)
    tensors = adapter(settings) if tensors is None else tensors
    with open_weights(path) as file:
        return module, read_encoder(module, file, settings, tensors, torch.float32, **options)


def merged(settings=CONFIG):
    """State of the pipeline's encoder with its LoRA folded in by PEFT."""
    import copy

    encoder = copy.deepcopy(pipe(settings).encoder)
    encoder.merge_lora()
    return encoder.state_dict()


def same(module, want) -> None:
    have = module.state_dict()
    assert have.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(have[name], value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("newer", [False, True], ids=["first names", "second names"])
@pytest.mark.parametrize("shards", [1, 3])
def test_folders_of_the_model_hub(tmp_path, newer: bool, shards: int) -> None:
    folder = qwen_folder(tmp_path / "Qwen2.5-VL-3B-Instruct", CONFIG, newer, shards)
    module, report = load(folder)
    same(module, merged())
    assert len(report.consumed) == len(qwen_state(CONFIG)) and not report.ignored and len(report.files) == shards
    assert "LoRA of rank 4 on 8 layers" in str(report)


def test_one_file_and_its_list_of_shards(tmp_path) -> None:
    """OmniGen2's repackaging is one file with an lm_head, which is not needed."""
    state = {**qwen_state(CONFIG), "lm_head.weight": torch.zeros(3, 3)}
    module, report = load(save(tmp_path / "qwen_2.5_vl_fp16.safetensors", state))
    same(module, merged())
    assert report.ignored == ("lm_head.weight",)
    names = sorted(qwen_state(CONFIG))
    halves = [save(tmp_path / f"{n}.safetensors", {k: state[k] for k in names[n::2]}) for n in range(2)]
    same(load(halves)[0], merged())


@pytest.mark.parametrize("spelling", [".scale_weight", ".weight_scale"])
def test_fp8_scaled_files(tmp_path, spelling: str) -> None:
    state = qwen_state(CONFIG)
    module, report = load(save(tmp_path / "qwen_2.5_vl_fp8_scaled.safetensors", scaled(state, spelling)))
    plain, _ = load(save(tmp_path / "plain.safetensors", unscaled(state)))
    same(module, plain.state_dict())
    assert "fp8_scaled (F8_E4M3)" in report.kind


def test_plain_fp8_files(tmp_path) -> None:
    state = {k: v.to(torch.float8_e4m3fn) if v.ndim == 2 else v for k, v in qwen_state(CONFIG).items()}
    module, _ = load(save(tmp_path / "qwen_fp8_e4m3fn.safetensors", state))
    plain, _ = load(save(tmp_path / "plain.safetensors", {k: v.float() for k, v in state.items()}))
    same(module, plain.state_dict())


# --- the config of a file ------------------------------------------------------------------------------------------


def test_config_from_config_json(tmp_path) -> None:
    folder = qwen_folder(tmp_path / "qwen", CONFIG)
    with open_weights(folder) as source:
        assert infer_mllm(source) == CONFIG.mllm
    told = json.loads((folder / "config.json").read_text())
    vision, theta, rope = told.pop("vision_config"), told.pop("rope_theta"), told.pop("rope_scaling")
    newer = {"text_config": {**told, "rope_parameters": {**rope, "rope_theta": theta}}, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(newer))
    with open_weights(folder) as source:
        assert infer_mllm(source) == CONFIG.mllm
    (folder / "config.json").write_text("[1]")
    with open_weights(folder) as source, pytest.raises(InputError, match="no JSON object"):
        infer_mllm(source)


def test_config_from_shapes_alone(tmp_path) -> None:
    """Qwen2.5-VL's own heads, RoPE and windows: what a single file does not say."""
    vision = VisionConfig(depth=8, hidden_size=64, intermediate_size=48, full_attention_blocks=(7,))
    mllm = MllmConfig(
        vocab_size=300, hidden_size=256, intermediate_size=64, num_layers=3, num_heads=2, num_kv_heads=1, vision=vision
    )
    wide = dataclasses.replace(CONFIG, mllm=mllm)
    with torch.device("meta"):
        names = {k: v.shape for k, v in PlainEncoder(wide).mllm.state_dict().items()}
    file = save(tmp_path / "qwen.safetensors", {k: torch.zeros(shape) for k, shape in names.items()})
    with open_weights(file) as source:
        assert infer_mllm(source) == mllm


# --- what is refused -----------------------------------------------------------------------------------------------


def without(state, start: str):
    return {name: value for name, value in state.items() if not name.startswith(start)}


def test_incomplete_and_other_models_are_refused_by_name(tmp_path) -> None:
    state = qwen_state(CONFIG)
    file = save(tmp_path / "qwen_2.5_vl_fp16.safetensors", without(state, "visual."))
    with pytest.raises(InputError, match=r"no vision tower .*Qwen2\.5-VL-3B-Instruct"):
        load(file)
    with pytest.raises(InputError, match="no language model"):
        load(save(tmp_path / "vision.safetensors", without(state, "model.")))
    wide = {k: v for k, v in state.items() if "embed_tokens" not in k}
    wide["model.embed_tokens.weight"] = torch.zeros(8, 3584)
    with pytest.raises(InputError, match=r"width 3584 \(Qwen2\.5-VL-7B\), but the adapter small_kiwi needs width 128"):
        load(save(tmp_path / "qwen_2.5_vl_7b.safetensors", wide))
    short = {k: v for k, v in state.items() if ".layers.1." not in k}
    with pytest.raises(InputError, match="missing"):
        load(save(tmp_path / "short.safetensors", short), tensors=without(adapter(CONFIG), "model.layers.1."))
    both = {**state, "model.language_model.norm.weight": state["model.norm.weight"]}
    with pytest.raises(InputError, match="two spellings"):
        load(save(tmp_path / "both.safetensors", both))
    odd = {**state, "model.norm.weight": torch.zeros(5)}
    with pytest.raises(InputError, match=r"model\.norm\.weight is \(5,\), expected \(128,\)"):
        load(save(tmp_path / "odd.safetensors", odd))
    broken = {**state, "model.norm.weight": state["model.norm.weight"] * float("nan")}
    with pytest.raises(InputError, match="NaN or infinity"):
        load(save(tmp_path / "nan.safetensors", broken))


def test_a_check_reads_no_tensor(tmp_path) -> None:
    with open_weights(save(tmp_path / "qwen.safetensors", qwen_state(CONFIG))) as source:
        source.source.get = None  # type: ignore[method-assign, assignment]
        check_encoder(source, CONFIG)


# --- LoRA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lora",
    [
        LoraConfig(rank=2, alpha=6, targets=LORA_TARGETS, scope="mllm"),
        LoraConfig(rank=7, alpha=7, targets=("v_proj", "qkv"), scope="mllm"),
        LoraConfig(rank=3, alpha=1, targets=("down_proj",), scope="language_model"),
    ],
    ids=["7 names everywhere", "vision attention", "one name"],
)
def test_any_rank_and_targets(tmp_path, lora: LoraConfig) -> None:
    settings = config(lora)
    module, report = load(save(tmp_path / "qwen.safetensors", qwen_state(settings)), settings)
    same(module, merged(settings))
    assert f"rank {lora.rank} on" in str(report)


def test_ranks_and_alphas_may_differ_by_layer(tmp_path) -> None:
    tensors = adapter(CONFIG)
    stem = "model.layers.0.self_attn.q_proj"
    tensors[f"{stem}.lora_A.weight"] = torch.randn(9, 128)
    tensors[f"{stem}.lora_B.weight"] = torch.randn(128, 9)
    tensors[f"{stem}.alpha"] = torch.tensor(3.0)
    file = save(tmp_path / "qwen.safetensors", qwen_state(CONFIG))
    module, report = load(file, tensors=tensors)
    weight = load_file(file)[f"{stem}.weight"]
    want = weight + 3.0 / 9 * tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
    have = module.mllm.language_model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(have.data, want, rtol=1e-5, atol=1e-5)
    assert "rank 4, 9" in str(report)


def test_broken_lora_is_refused(tmp_path) -> None:
    file = save(tmp_path / "qwen.safetensors", qwen_state(CONFIG))
    tensors, stem = adapter(CONFIG), "model.layers.0.self_attn.q_proj"
    for change, message in (
        ({f"{stem}.lora_B.weight": torch.zeros(128, 5)}, r"LoRA of model\.layers\.0.* the layer is \(128, 128\)"),
        ({f"{stem}.lora_B.weight": torch.zeros(128)}, "no matrix"),
        ({"model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 128)}, "lora_B.weight is missing"),
        (
            {f"model.layers.9.mlp.up_proj.lora_{h}.weight": torch.zeros(4, 4) for h in "AB"},
            "1 of 9 LoRA layers of the adapter are not in qwen.safetensors",
        ),
    ):
        with pytest.raises(InputError, match=message):
            load(file, tensors={**tensors, **change})
