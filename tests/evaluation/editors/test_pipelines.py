"""diffusers' own pipelines at their smallest, with random weights, saved and read as a user's folder.

QwenImageEdit's pipelines and OmniGen are not run here: the first work at 1024x1024 whatever they are given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.editors.pipelines import ADAPTERS, PipelineEditor, open_pipeline
from instructx_core.evaluation.editors.run import EditTask
from instructx_core.media.files import read_media, write_image, write_video

CPU = torch.device("cpu")


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "make", "it", "blue"]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )


def clip_text() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 1}
    tokens = {"vocab_size": 6, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(**sizes, **tokens))


def t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=6, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4))


def instruct_pix2pix() -> Any:
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )

    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=4,
        layers_per_block=1,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
    )
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = AutoencoderKL(block_out_channels=[8, 16], latent_channels=4, norm_num_groups=4, **kinds)
    return StableDiffusionInstructPix2PixPipeline(
        vae, clip_text(), tokenizer(), unet, EulerDiscreteScheduler(), None, None, requires_safety_checker=False
    )


def kontext() -> Any:
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxKontextPipeline,
        FluxTransformer2DModel,
    )

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKL(
        block_out_channels=(4,),
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
    scheduler = FlowMatchEulerDiscreteScheduler()
    return FluxKontextPipeline(scheduler, vae, clip_text(), tokenizer(), t5(), tokenizer(), transformer)


def wan_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler

    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return {"tokenizer": tokenizer(), "text_encoder": t5(), "vae": vae, "scheduler": FlowMatchEulerDiscreteScheduler()}


WAN = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}


def vace() -> Any:
    from diffusers import WanVACEPipeline, WanVACETransformer3DModel

    transformer = WanVACETransformer3DModel(**WAN, vace_layers=[0, 1], vace_in_channels=96)
    return WanVACEPipeline(**wan_parts(), transformer=transformer)


def wan_v2v() -> Any:
    from diffusers import WanTransformer3DModel, WanVideoToVideoPipeline

    return WanVideoToVideoPipeline(**wan_parts(), transformer=WanTransformer3DModel(**WAN))


MAKERS: dict[str, Callable[[], Any]] = {
    "instruct-pix2pix": instruct_pix2pix,
    "kontext": kontext,
    "vace": vace,
    "wan-v2v": wan_v2v,
}


def task(folder: Path, modality: Any, reference: bool = False) -> EditTask:
    write_image(folder / "in.png", np.full((48, 70, 3), 90, np.uint8))
    write_video(folder / "in.mp4", np.full((6, 32, 48, 3), 90, np.uint8), 8)
    end = "png" if modality == "image" else "mp4"
    item = EditRecord("a", "add", modality, "make it blue", Locator(f"in.{end}"))
    return EditTask(item, folder / f"in.{end}", folder / "in.png" if reference else None, folder / f"out.{end}", 3)


@pytest.mark.parametrize("name", MAKERS)
def test_an_item_through_a_folder_of_weights(name: str, tmp_path: Path) -> None:
    if name in ("vace", "wan-v2v"):
        pytest.importorskip("ftfy", reason="diffusers' Wan pipelines clean prompts with it")
    torch.manual_seed(0)
    MAKERS[name]().save_pretrained(tmp_path / "weights")
    pipe, adapter, place = open_pipeline(f"{name}:{tmp_path / 'weights'}", CPU, None)
    editor = PipelineEditor(pipe, adapter, weights=place, steps=2, guidance=1.5, max_pixels=48 * 64)
    modality = ADAPTERS[name].modality
    edit = task(tmp_path, modality)
    editor.edit(edit)
    first = read_media(edit.output)
    assert first.frames_FHWC.shape == ((6, 32, 48, 3) if modality == "video" else (1, 48, 64, 3))
    assert modality == "image" or first.fps == 8
    editor.edit(edit)
    assert (read_media(edit.output).frames_FHWC == first.frames_FHWC).all(), "the seed is the item's noise"
    editor.edit(dataclasses.replace(edit, seed=4))
    assert (read_media(edit.output).frames_FHWC != first.frames_FHWC).any()


@pytest.mark.parametrize(
    ("name", "modality", "reference", "said"),
    [
        ("kontext", "video", False, "edits pictures, not clips"),
        ("wan-v2v", "image", False, "edits clips, not pictures"),
        ("kontext", "image", True, "takes no reference picture"),
    ],
)
def test_items_that_are_not_for_it(name: str, modality: str, reference: bool, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        PipelineEditor(None, name).edit(task(tmp_path, modality, reference))


def test_folders_that_are_none(tmp_path: Path) -> None:
    for spec, said in (
        ("paint:x", "with NAME one of instruct-pix2pix, kontext"),
        ("kontext", "use NAME:DIR"),
        (f"kontext:{tmp_path}", "no model_index.json in it"),
    ):
        with pytest.raises(InputError) as caught:
            open_pipeline(spec, CPU, None)
        assert said in str(caught.value)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="is no FluxKontextPipeline that this diffusers reads"):
        open_pipeline(f"kontext:{tmp_path}", CPU, None)


def test_every_adapter_names_a_pipeline_and_its_arguments() -> None:
    """Of this diffusers: what is passed by name is taken by name."""
    import inspect

    import diffusers
    from PIL import Image

    from instructx_core.evaluation.editors.pipelines import PipelineCall

    picture = Image.new("RGB", (64, 48))
    for adapter in ADAPTERS.values():
        reference = picture if adapter.takes_reference else None
        taken = inspect.signature(getattr(diffusers, adapter.kind).__call__).parameters
        for size in (None, (48, 64)):
            given = adapter.arguments(PipelineCall("make it blue", [picture] * 5, reference, size))
            assert {*given, adapter.guidance, "prompt", "num_inference_steps", "generator"} <= taken.keys(), (
                adapter.kind
            )
