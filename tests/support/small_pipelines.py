"""diffusers' own pipelines at their smallest, with random weights, for tests of whatever calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_mllm_pipelines import omnigen, qwen_image_edit, qwen_image_edit_plus


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
        guidance_embeds=True,
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
    "qwen-image-edit": qwen_image_edit,
    "qwen-image-edit-plus": qwen_image_edit_plus,
    "omnigen": omnigen,
    "vace": vace,
    "wan-v2v": wan_v2v,
}


def wan_animate() -> Any:
    from diffusers import WanAnimatePipeline, WanAnimateTransformer3DModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    transformer = WanAnimateTransformer3DModel(
        **WAN | {"in_channels": 36},
        latent_channels=16,
        image_dim=4,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    vision = CLIPVisionConfig(
        hidden_size=4,
        projection_dim=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=4,
        intermediate_size=16,
        patch_size=1,
    )
    seer = {
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "image_processor": CLIPImageProcessor(crop_size=4, size=4),
    }
    return WanAnimatePipeline(**wan_parts(), **seer, transformer=transformer)
