"""diffusers' pipelines whose text is read by a model of pictures (Qwen-Image-Edit) or by the DiT (OmniGen), at their
smallest, with random weights. Qwen-Image-Edit sees its sources at 1024x1024 whatever it is given, so a run takes
seconds; what its reader of pictures sees is made small by its own setting."""

from __future__ import annotations

from typing import Any

PICTURE_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TURNS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokenizer() -> Any:
    """Qwen's tokenizer with a token a byte and no merges."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    names = [*TURNS, *PICTURE_TOKENS, *sorted(ByteLevel.alphabet())]
    vocabulary = {name: number for number, name in enumerate(names)}
    return Qwen2Tokenizer(vocabulary, [], additional_special_tokens=[*TURNS, *PICTURE_TOKENS])


def qwen_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = byte_tokenizer()
    width = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    layers = {"num_hidden_layers": 1, "num_key_value_heads": 2}
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    names = ("vision_start", "vision_end", "image", "video")
    ids = {f"{name}_token_id": len(TURNS) + number for number, name in enumerate(names)}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    mllm = Qwen2_5_VLConfig(
        text_config={
            **width,
            **layers,
            **ends,
            "vocab_size": len(tokenizer),
            "rope_scaling": rope,
            "rope_theta": 10000.0,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        **ids,
    )
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    looks = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": vae,
        "text_encoder": Qwen2_5_VLForConditionalGeneration(mllm),
        "tokenizer": tokenizer,
        "processor": Qwen2VLProcessor(looks, tokenizer, Qwen2VLVideoProcessor()),
        "transformer": transformer,
    }


def qwen_image_edit() -> Any:
    from diffusers import QwenImageEditPipeline

    return QwenImageEditPipeline(**qwen_parts())


def qwen_image_edit_plus() -> Any:
    from diffusers import QwenImageEditPlusPipeline

    return QwenImageEditPlusPipeline(**qwen_parts())


def omnigen() -> Any:
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        OmniGenPipeline,
        OmniGenTransformer2DModel,
    )

    tokenizer = byte_tokenizer()
    transformer = OmniGenTransformer2DModel(
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=32,
        num_layers=1,
        pad_token_id=0,
        vocab_size=len(tokenizer),
        time_step_dim=4,
        rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]},
    )
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae = AutoencoderKL(block_out_channels=[4] * 4, latent_channels=4, norm_num_groups=4, **kinds)
    return OmniGenPipeline(transformer, FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae, tokenizer)
