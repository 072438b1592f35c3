"""Names of public weights by what their headers hold: sizes of Wan and Qwen, Wan's variants, models of other families.

Tables only: the one place for sizes and variants, asked by the readers and by telling/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WAN_LICENCE = "Wan weights: Apache-2.0"
QWEN_LICENCE = "Qwen2.5-VL-3B: Qwen Research Licence, non-commercial use only"
KIWI_LICENCE = "Kiwi-Edit's checkpoints state no licence; ask their authors before any use beyond trying them"
TINY = "of the size of the shipped tiny model"
# (dim, layers, channels in)
DIT_SIZES = {
    (1536, 30, 16): "2.1 T2V-1.3B",
    (5120, 40, 16): "2.1 T2V-14B, or a half of 2.2 T2V-A14B, whose header is the same",
    (3072, 30, 48): "2.2 TI2V-5B",
    (256, 6, 16): TINY,
}
# Tensors of a public model without the scales of quantised ones, and of Kiwi-Edit's 5B training files by stage.
DIT_TENSORS = {"2.1 T2V-1.3B": 825, "2.1 T2V-14B": 1095, "2.2 TI2V-5B": 825}
VAE_TENSORS = {"2.1": 194, "2.2": 196}
QWEN_TENSORS = (824, 825)  # the second with an lm_head, which is not used
KIWI_TENSORS = {1: 293, 2: 1121, 3: 1128}
QWEN_SIZES = {2048: "3B", 3584: "7B", 5120: "32B", 8192: "72B"}

# (mark in the tensor names, what it is); a plain text-to-video DiT has none of them
VARIANTS = (
    (r"^vace_", "VACE"),
    (r"^motion_encoder\.|^face_adapter\.|^pose_patch_embedding\.", "Animate"),
    (r"^patch_embedding_(mask|pose)\.", "SCAIL"),
    (r"^patch_embedding_global\.", "WanDancer"),
    (r"^audio_proj\.audio_proj_glob_1\.", "HuMo"),
    (r"\.cam_encoder\.", "ReCamMaster"),
    (r"^casual_audio_encoder\.|^audio_injector\.", "S2V"),
    (r"^audio_proj\.", "MultiTalk or InfiniteTalk"),
    (r"^control_adapter\.", "Fun camera control"),
    (r"^ref_conv\.", "Fun control with a reference"),
    (r"^img_emb\.|\.k_img\.|^condition_embedder\.image_embedder\.|\.add_k_proj\.", "image-to-video"),
)

# (mark, kind, what it is, why it is not needed)
FOREIGN = (
    (
        r"(^|\.)encoder\.block\.0\.layer\.0\.SelfAttention\.|^blocks\.0\.pos_embedding\.embedding\.|^enc\.blk\.0\.",
        "t5",
        "a T5 text encoder",
        "not needed: the connector takes the place of text prompts",
    ),
    (
        r"(^|\.)text_model\.encoder\.layers\.|(^|\.)vision_model\.encoder\.layers\.|visual\.transformer\.|"
        r"transformer\.resblocks\.0\.",
        "clip",
        "a CLIP model",
        "not needed: Qwen2.5-VL looks at the source",
    ),
    (
        r"(^|\.)decoder\.up\.0\.block\.0\.norm1",
        "vae-other",
        "an image VAE (Stable Diffusion, FLUX)",
        "it is no Wan VAE",
    ),
    (r"(^|\.)decoder\.up_blocks\.0\.resnets\.0\.norm1\.weight", "vae-other", "an image VAE", "it is no Wan VAE"),
    (r"(^|\.)input_blocks\.0\.0\.weight", "dit-other", "a Stable Diffusion UNet", "InstructX needs a Wan DiT"),
    (r"(^|\.)double_blocks\.0\.", "dit-other", "a FLUX or HunyuanVideo DiT", "InstructX needs a Wan DiT"),
    (r"(^|\.)joint_blocks\.0\.", "dit-other", "a Stable Diffusion 3 DiT", "InstructX needs a Wan DiT"),
    (r"(^|\.)transformer_blocks\.0\.", "dit-other", "a DiT of another family", "InstructX needs a Wan DiT"),
    (r"(^|\.)layers\.0\.self_attn\.q_proj\.", "llm-other", "a language model", "it is no Qwen2.5-VL"),
)


def vae_for(channels: int) -> str:
    """The VAE that a DiT of so many latent channels works with."""
    names = {48: "the Wan2.2 VAE (48 channels, wan2.2_vae)", 16: "the Wan2.1 VAE (16 channels, wan_2.1_vae)"}
    return names.get(channels, f"a Wan VAE of {channels} channels") + " (models/vae)"


def qwen_size(width: int) -> str:
    """ "3B" by the width of the language model, for a sentence after "Qwen2.5-VL"."""
    return QWEN_SIZES.get(width) or (TINY if width == 128 else f"of width {width}")


def variant_mark(names: Iterable[str]) -> str | None:
    """Which Wan of another kind the tensor names give away; None for a text-to-video DiT."""
    known = tuple(names)
    return next((title for mark, title in VARIANTS if any(re.search(mark, name) for name in known)), None)
