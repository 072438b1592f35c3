"""Names of public weights by what their headers hold: sizes of Wan and Qwen, Wan's variants, models of other families.

The one place for sizes, counts and variants, asked by the readers and by telling/; those of the tiny model: config.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...config import tiny

WAN_LICENCE = "Wan weights: Apache-2.0"
QWEN_LICENCE = "Qwen2.5-VL-3B: Qwen Research Licence, non-commercial use only"
KIWI_LICENCE = "Kiwi-Edit's checkpoints state no licence; ask their authors before any use beyond trying them"
WAN_HEAD_DIM = 128  # of every public Wan
QWEN_HEAD_DIM = 128  # of every size of Qwen2.5-VL; a config.json says otherwise for a model of your own
TINY = "of the size of the shipped tiny model"
_SHIPPED = tiny()  # and its successor, of the same sizes


@dataclass(frozen=True, slots=True)
class PublicDit:
    """name: of the release. channels: of the latent. tensors: in its file, without the scales of a quantised one."""

    name: str
    dim: int
    layers: int
    channels: int
    tensors: int
    also: str = ""  # another release with the same header


@dataclass(frozen=True, slots=True)
class PublicVae:
    """channels: of the latent. spatial: pixels a latent cell spans. file: what artists know it as."""

    version: str
    channels: int
    spatial: int
    tensors: int
    file: str


DITS = (
    PublicDit("2.1 T2V-1.3B", 1536, 30, 16, 825),
    PublicDit("2.1 T2V-14B", 5120, 40, 16, 1095, ", or a half of 2.2 T2V-A14B, whose header is the same"),
    PublicDit("2.2 TI2V-5B", 3072, 30, 48, 825),
)
VAES = (PublicVae("2.1", 16, 8, 194, "wan_2.1_vae"), PublicVae("2.2", 48, 16, 196, "wan2.2_vae"))
QWEN_SIZES = {2048: "3B", 3584: "7B", 5120: "32B", 8192: "72B"}  # by width
QWEN_NEEDED = "3B"  # what the paper's model and the public adapters are made for
QWEN_TENSORS = (824, 825)  # of that size; the second with an lm_head, which is not used
KIWI_TENSORS = {1: 293, 2: 1121, 3: 1128}  # Kiwi-Edit's 5B training files, by stage
KIWI_DIT = DITS[2]  # what those were trained on

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


def public_dit(sizes: Mapping[str, int]) -> PublicDit | None:
    """The release of these sizes (dit_sizes.py), if any."""
    key = _key(sizes)
    return next((dit for dit in DITS if (dit.dim, dit.layers, dit.channels) == key), None)


def dit_title(sizes: Mapping[str, int]) -> str:
    """What the models of these sizes are called."""
    public, key = public_dit(sizes), _key(sizes)
    if public is not None:
        return public.name + public.also
    shipped = (_SHIPPED.denoiser.dim, _SHIPPED.denoiser.num_layers, _SHIPPED.denoiser.in_channels)
    return TINY if key == shipped else f"of no public size (width {key[0]}, {key[1]} layers, {key[2]} channels)"


def _key(sizes: Mapping[str, int]) -> tuple[int, int, int]:
    return sizes.get("dim", 0), sizes.get("layers", 0), sizes.get("in_channels", 0)


def dits_of_width(width: int) -> tuple[PublicDit, ...]:
    return tuple(dit for dit in DITS if dit.dim == width)


def latent_channels(width: int) -> int:
    """Of the public Wan of that width; of most, for one that is not public."""
    return next((dit.channels for dit in dits_of_width(width)), VAES[0].channels)


def public_vae(nested: bool) -> PublicVae:
    """By the family that the names tell (vae.py)."""
    return VAES[1] if nested else VAES[0]


def vae_for(channels: int) -> str:
    """The VAE that a DiT of so many latent channels works with."""
    names = {vae.channels: f"the Wan{vae.version} VAE ({vae.channels} channels, {vae.file})" for vae in VAES}
    return names.get(channels, f"a Wan VAE of {channels} channels") + " (models/vae)"


def qwen_size(width: int) -> str:
    """ "3B" by the width of the language model, for a sentence after "Qwen2.5-VL"."""
    return QWEN_SIZES.get(width) or (TINY if width == _SHIPPED.mllm.hidden_size else f"of width {width}")


def variant_mark(names: Iterable[str]) -> str | None:
    """Which Wan of another kind the tensor names give away; None for a text-to-video DiT."""
    known = tuple(names)
    return next((title for mark, title in VARIANTS if any(re.search(mark, name) for name in known)), None)
