"""Tensor names: original Wan <-> diffusers, both ways from one table, for the DiT and the VAE.

Files carry ORIGINAL names, because that is what every Wan loader (ComfyUI, GGUF tools, Wan's own code) reads; modules
in memory carry diffusers' names. A table row is a pair of patterns: `#` is a number, `*` the rest of the name.
Strings only, so that nodes and tools can use it without torch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from ...config import VaeConfig
from ...errors import InputError

Rows = tuple[tuple[str, str], ...]

DIT_ROWS: Rows = (
    ("patch_embedding.*", "patch_embedding.*"),
    ("text_embedding.0.*", "condition_embedder.text_embedder.linear_1.*"),
    ("text_embedding.2.*", "condition_embedder.text_embedder.linear_2.*"),
    ("time_embedding.0.*", "condition_embedder.time_embedder.linear_1.*"),
    ("time_embedding.2.*", "condition_embedder.time_embedder.linear_2.*"),
    ("time_projection.1.*", "condition_embedder.time_proj.*"),
    ("blocks.#.modulation", "blocks.#.scale_shift_table"),
    *(
        (f"blocks.#.{ours}.{short}.*", f"blocks.#.{theirs}.{long}.*")
        for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for short, long in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    ),
    ("blocks.#.norm3.*", "blocks.#.norm2.*"),
    ("blocks.#.ffn.0.*", "blocks.#.ffn.net.0.proj.*"),
    ("blocks.#.ffn.2.*", "blocks.#.ffn.net.2.*"),
    ("head.modulation", "scale_shift_table"),
    ("head.head.*", "proj_out.*"),
)

# Inside a residual block; every other tail (resample.1, time_conv, norm, to_qkv, proj) is spelled alike.
_RESIDUAL_TAILS = (
    ("residual.0", "norm1"),
    ("residual.2", "conv1"),
    ("residual.3", "norm2"),
    ("residual.6", "conv2"),
    ("shortcut", "conv_shortcut"),
)


def _residual_rows(original: str, diffusers: str) -> list[tuple[str, str]]:
    return [(f"{original}.{ours}.*", f"{diffusers}.{theirs}.*") for ours, theirs in _RESIDUAL_TAILS]


def _level_rows(vae: VaeConfig) -> list[tuple[str, str]]:
    """Rows of the encoder's and decoder's resolution levels. Wan2.1 numbers blocks flat, Wan2.2 nests them by level."""
    levels, n = len(vae.dim_mult), vae.num_res_blocks
    rows: list[tuple[str, str]] = []
    samplers = ((n, "downsampler"), (n + 1, "upsampler"))
    for level in range(levels):
        nested_in, nested_out = f"encoder.downsamples.{level}.downsamples", f"decoder.upsamples.{level}.upsamples"
        for j in range(n + 2):
            down, up = level * (n + 1) + j, level * (n + 2) + j
            if vae.is_residual:
                tail_in, tail_out = (f"resnets.{j}" if j < end else sampler for end, sampler in samplers)
                encoder = (f"{nested_in}.{j}", f"encoder.down_blocks.{level}.{tail_in}")
                decoder = (f"{nested_out}.{j}", f"decoder.up_blocks.{level}.{tail_out}")
            else:
                encoder = (f"encoder.downsamples.{down}", f"encoder.down_blocks.{down}")
                tail = f"resnets.{j}" if j <= n else "upsamplers.0"
                decoder = (f"decoder.upsamples.{up}", f"decoder.up_blocks.{level}.{tail}")
            if j <= n:
                rows += _residual_rows(*encoder) if j < n else [(f"{encoder[0]}.*", f"{encoder[1]}.*")]
            rows += _residual_rows(*decoder) if j <= n else [(f"{decoder[0]}.*", f"{decoder[1]}.*")]
    return rows


@functools.cache
def vae_rows(vae: VaeConfig) -> Rows:
    """The table of one VAE; it depends on the block counts and on the family (Wan2.1 flat, Wan2.2 nested)."""
    rows = [("conv1.*", "quant_conv.*"), ("conv2.*", "post_quant_conv.*")]
    for half in ("encoder", "decoder"):
        rows += [(f"{half}.conv1.*", f"{half}.conv_in.*"), (f"{half}.head.0.*", f"{half}.norm_out.*")]
        rows += [(f"{half}.head.2.*", f"{half}.conv_out.*")]
        rows += [(f"{half}.middle.1.*", f"{half}.mid_block.attentions.0.*")]
        for original, diffusers in (("middle.0", "resnets.0"), ("middle.2", "resnets.1")):
            rows += _residual_rows(f"{half}.{original}", f"{half}.mid_block.{diffusers}")
    return tuple(rows + _level_rows(vae))


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)"))


def _template(pattern: str) -> str:
    parts = iter(range(1, 10))
    return re.sub(r"[#*]", lambda _: rf"\g<{next(parts)}>", pattern)


@functools.cache
def _renamer(rows: Rows, to_original: bool) -> Callable[[str], str]:
    order = (1, 0) if to_original else (0, 1)
    compiled = [(_compile(row[order[0]]), _template(row[order[1]])) for row in rows]

    @functools.cache
    def rename(key: str) -> str:
        for pattern, template in compiled:
            match = pattern.fullmatch(key)
            if match:
                return match.expand(template)
        raise InputError(f"unknown tensor name {key!r}; it belongs to no known Wan layout")

    return rename


def dit_to_original(key: str) -> str:
    """diffusers DiT name -> original Wan name. Raises InputError for an unknown one."""
    return _renamer(DIT_ROWS, True)(key)


def dit_to_diffusers(key: str) -> str:
    """Original Wan DiT name -> diffusers name. Raises InputError for an unknown one."""
    return _renamer(DIT_ROWS, False)(key)


@functools.cache
def is_diffusers_dit(key: str) -> bool:
    """True for a DiT tensor in diffusers' spelling (also for the few that are spelled alike)."""
    return any(_compile(diffusers).fullmatch(key) for _, diffusers in DIT_ROWS)


def vae_to_original(key: str, vae: VaeConfig) -> str:
    """diffusers VAE name -> original Wan name. Raises InputError for an unknown one."""
    return _renamer(vae_rows(vae), True)(key)


def vae_to_diffusers(key: str, vae: VaeConfig) -> str:
    """Original Wan VAE name -> diffusers name. Raises InputError for an unknown one."""
    return _renamer(vae_rows(vae), False)(key)
