"""The Wan DiT with source and reference latents: sigma, noisy latent and context in, velocity out.

Paper 3.1: the connector's output replaces the text features, so `text_embedding` is bypassed unless `text=True`.
It subclasses diffusers' WanTransformer3DModel and keeps every module name, so that diffusers' caches, offloading,
layerwise casting, quantisers, LoRA loaders, attention backends and context parallelism apply unchanged.
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent size, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import peft as peft_loader
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin as ModelMixin  # DiffusionPipeline.from_pretrained looks here
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
from diffusers.utils import scale_lora_layers, unscale_lora_layers
from torch import Tensor, nn

from . import conditioning as cond
from .config import InstructXConfig, ReferencePosition, SourceScale, TimestepRounding
from .errors import InputError

if TYPE_CHECKING:
    from diffusers.configuration_utils import FrozenDict

    class DenoiserArguments(FrozenDict):
        """The arguments that are read again: diffusers types them as a dict, and gives them as attributes as well."""

        patch_size: tuple[int, int, int]
        num_attention_heads: int
        attention_head_dim: int
        in_channels: int
        text_dim: int
        source_scale: SourceScale
        reference_embedding: str
        reference_position: ReferencePosition
        context: str
        timestep_rounding: TimestepRounding


# Releases below 0.37 know the classes that may scale LoRA adapters by name; newer ones take any.
_known_to_lora = getattr(peft_loader, "_SET_ADAPTER_SCALE_FN_MAPPING", {})
_known_to_lora.setdefault("InstructXTransformer3DModel", lambda model_cls, weights: weights)


class CachedRotaryPosEmbed(WanRotaryPosEmbed):
    """Wan's 3D RoPE that keeps the tables of the last grid: every step and every layer of an edit share one."""

    _last: tuple[Any, Any] = (None, None)

    def forward(self, hidden_states: Tensor) -> Any:
        """cos and sin, each (1, L, 1, head_dim), for the grid of `hidden_states` (only its shape is read).

        Raises InputError when the grid is larger than the table.
        """
        if torch.compiler.is_compiling():
            return super().forward(hidden_states)
        shape = tuple(hidden_states.shape[2:])
        if max(n // p for n, p in zip(shape, self.patch_size, strict=True)) > self.max_seq_len:
            raise InputError(f"latent grid {shape} exceeds {self.max_seq_len} patches a side; use a smaller clip")
        key = (shape, self.freqs_cos.device, self.freqs_cos.dtype)
        if self._last[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._last = (key, super().forward(hidden_states))
        return self._last[1]


class StepConstants(Protocol):
    """Keeps what is the same in every step of one edit. Who runs the steps lends the model one (speed/constants.py)."""

    def get(self, name: Any, source: Tensor, make: Callable[[], Any]) -> Any:
        """make(), or what it gave before for this very `source`."""
        ...


class InstructXTransformer3DModel(WanTransformer3DModel):
    """Wan DiT + source latent + reference latents.

    Arguments are WanTransformer3DModel's (image_dim, added_kv_proj_dim and pos_embed_seq_len, the parts of its
    image-to-video variant, must stay None), plus:
        source_embedding: "tied" adds the source latent to the noisy latent before the patch embedding;
            "own" adds the output of `source_embedder`, a Conv3d that starts at zero.
        source_scale: "sigma" multiplies the own embedder's output by the noise level. Raises InputError with "tied".
        reference_embedding: "tied" embeds references with the patch embedding, "own" with `reference_embedder`; "none"
            refuses them.
        reference_position: "last" puts references after the video (RoPE t = T..T+R-1), "first" before (t = 0..R-1).
        context: "direct" takes the context as it is, "text" sends it through `text_embedder` first.
        timestep_rounding: "bfloat16" rounds the timestep before its embedding, as Kiwi-Edit does.
    """

    _skip_layerwise_casting_patterns: ClassVar[list[str]] = [
        *WanTransformer3DModel._skip_layerwise_casting_patterns,
        "source_embedder",
        "reference_embedder",
    ]
    _keep_in_fp32_modules: ClassVar[list[str]] = [
        *WanTransformer3DModel._keep_in_fp32_modules,
        "source_embedder",
        "reference_embedder",
    ]

    config: DenoiserArguments
    constants: StepConstants | None = None  # lent for the steps of one edit
    source_embedder: nn.Conv3d | None
    reference_embedder: nn.Conv3d | None

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: None = None,
        added_kv_proj_dim: None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: None = None,
        source_embedding: str = "tied",
        source_scale: str = "none",
        reference_embedding: str = "tied",
        reference_position: str = "last",
        context: str = "direct",
        timestep_rounding: str = "none",
    ) -> None:
        _check_choice("source_embedding", source_embedding, ("tied", "own"))
        _check_choice("source_scale", source_scale, ("none", "sigma"))
        _check_choice("reference_embedding", reference_embedding, ("tied", "own", "none"))
        _check_choice("reference_position", reference_position, ("last", "first"))
        _check_choice("context", context, ("direct", "text"))
        _check_choice("timestep_rounding", timestep_rounding, ("none", "bfloat16"))
        if source_embedding == "tied" and source_scale != "none":
            raise InputError(f"source_scale {source_scale!r} needs source_embedding 'own'; set it to 'none'")
        if (image_dim, added_kv_proj_dim, pos_embed_seq_len) != (None, None, None):
            raise InputError("image_dim, added_kv_proj_dim and pos_embed_seq_len must be None: use a text-to-video DiT")
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            rope_max_seq_len=rope_max_seq_len,
        )
        dim = num_attention_heads * attention_head_dim
        self.rope = CachedRotaryPosEmbed(attention_head_dim, patch_size, rope_max_seq_len)
        embedders = {"source_embedder": source_embedding, "reference_embedder": reference_embedding}
        for name, mode in embedders.items():
            setattr(self, name, cond.latent_embedder(in_channels, dim, patch_size) if mode == "own" else None)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        source: Tensor | None = None,
        references: Tensor | None = None,
        text: bool | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity v = eps - x0 of the noisy latent.

        hidden_states (B, C, T, H, W): x_sigma = (1 - sigma) x0 + sigma eps, H and W even.
        timestep (B,): 1000 * sigma, fp32.
        encoder_hidden_states (B, L, D): the context; with text=True (B, L, text_dim) features for the text embedding.
        text: None follows the config (True when its context is "text").
        source (B, C, T, H, W): normalised VAE latent of the source. references (B, C, R, H, W): of the references.
        attention_kwargs: {"scale": s} scales LoRA layers for this call, as in every diffusers transformer.
        Raises InputError when shapes disagree.
        """
        text = self.config.context == "text" if text is None else text
        grid = self._check_inputs(hidden_states, timestep, encoder_hidden_states, source, references, text)
        with _lora_scale(self, attention_kwargs):
            velocity_BCTHW = self._denoise(
                hidden_states, timestep, encoder_hidden_states, source, references, grid, text
            )
        if not return_dict:
            return (velocity_BCTHW,)
        return Transformer2DModelOutput(sample=velocity_BCTHW)

    def _denoise(
        self,
        noisy_BCTHW: Tensor,
        timestep_B: Tensor,
        states_BLD: Tensor,
        source_BCTHW: Tensor | None,
        references_BCRHW: Tensor | None,
        grid: tuple[int, int, int],
        text: bool,
    ) -> Tensor:
        rotary_emb = self.rope(_grid_of(noisy_BCTHW, references_BCRHW))
        token_BLD = self._embed(noisy_BCTHW, timestep_B, source_BCTHW, references_BCRHW)
        temb_BD, temb_B6D, context_BLD = self._condition(timestep_B, states_BLD, text)

        if torch.is_grad_enabled() and self.gradient_checkpointing:
            assert self._gradient_checkpointing_func is not None
            for block in self.blocks:
                token_BLD = self._gradient_checkpointing_func(block, token_BLD, context_BLD, temb_B6D, rotary_emb)
        else:
            for block in self.blocks:
                token_BLD = block(token_BLD, context_BLD, temb_B6D, rotary_emb)

        # References are dropped after proj_out, not before: context parallelism gathers the sequence there.
        shift_B1D, scale_B1D = (self.scale_shift_table.to(temb_BD.device) + temb_BD[:, None]).chunk(2, dim=1)
        shift_B1D, scale_B1D = shift_B1D.to(token_BLD.device), scale_B1D.to(token_BLD.device)
        normed_BLD = self.norm_out(token_BLD.float()) * (1 + scale_B1D) + shift_B1D
        patch_BLP = self.proj_out(normed_BLD.type_as(token_BLD))
        patch_BLP = cond.drop_references(patch_BLP, grid[0] * grid[1] * grid[2], self.config.reference_position)
        return cond.from_tokens(patch_BLP, grid, self.config.patch_size)

    def _embed(
        self, noisy_BCTHW: Tensor, timestep_B: Tensor, source_BCTHW: Tensor | None, references_BCRHW: Tensor | None
    ) -> Tensor:
        """Tokens (B, L, D) of the noisy latent with its source, and of the references."""
        source = self.source_embedder
        reference = self.patch_embedding if self.reference_embedder is None else self.reference_embedder
        embedders = cond.Embedders(
            noisy=self.patch_embedding,
            source=None if source is None else lambda latent: self._embed_once("source", source, latent),
            reference=lambda latent: self._embed_once("references", reference, latent),
        )
        config = self.config
        grid_BDTHW = cond.embed_latents(
            noisy_BCTHW,
            timestep_B,
            source_BCTHW,
            references_BCRHW,
            embedders,
            config.source_scale,
            config.reference_position,
        )
        return cond.to_tokens(grid_BDTHW)

    def _embed_once(self, name: str, embedder: nn.Conv3d, latent_BCTHW: Tensor) -> Tensor:
        return self._once(name, latent_BCTHW, lambda: embedder(latent_BCTHW.to(embedder.weight.dtype)))

    def _once(self, name: str, source: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """make(), what is the same in every step for the same `source`."""
        return make() if self.constants is None else self.constants.get(name, source, make)

    def _condition(self, timestep_B: Tensor, states_BLD: Tensor, text: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Time embedding (B, D), its six modulations (B, 6, D) and the context (B, L, D)."""
        embedder = self.condition_embedder
        wave_BD = embedder.timesteps_proj(cond.round_timestep(timestep_B, self.config.timestep_rounding))
        dtype = next(iter(embedder.time_embedder.parameters())).dtype
        if dtype.is_floating_point:
            wave_BD = wave_BD.to(dtype)
        temb_BD = embedder.time_embedder(wave_BD).type_as(states_BLD)
        temb_B6D = embedder.time_proj(embedder.act_fn(temb_BD)).unflatten(1, (6, -1))
        if not text:
            return temb_BD, temb_B6D, states_BLD
        return temb_BD, temb_B6D, self._once("text", states_BLD, lambda: embedder.text_embedder(states_BLD))

    def _check_inputs(
        self,
        noisy_BCTHW: Tensor,
        timestep_B: Tensor,
        states_BLD: Tensor,
        source_BCTHW: Tensor | None,
        references_BCRHW: Tensor | None,
        text: bool,
    ) -> tuple[int, int, int]:
        config = self.config
        if noisy_BCTHW.ndim != 5 or noisy_BCTHW.shape[1] != config.in_channels:
            raise InputError(f"latent {tuple(noisy_BCTHW.shape)} must be (B, {config.in_channels}, T, H, W)")
        (t, h, w), (p, q, r) = noisy_BCTHW.shape[2:], config.patch_size
        if t % p or h % q or w % r:
            raise InputError(
                f"latent size {(t, h, w)} must be a multiple of the patch {(p, q, r)}; crop the source to the "
                "profile's size multiple"
            )
        if timestep_B.ndim != 1 or timestep_B.shape[0] != noisy_BCTHW.shape[0]:
            raise InputError(f"timestep {tuple(timestep_B.shape)} must be ({noisy_BCTHW.shape[0]},), one a sample")
        width = config.text_dim if text else config.num_attention_heads * config.attention_head_dim
        if states_BLD.ndim != 3 or states_BLD.shape[-1] != width:
            what = "text features" if text else "the connector's output"
            raise InputError(f"context {tuple(states_BLD.shape)} must be (B, L, {width}): {what}")
        if source_BCTHW is not None:
            cond.check_source(noisy_BCTHW, source_BCTHW)
        if references_BCRHW is not None:
            if config.reference_embedding == "none":
                raise InputError("this checkpoint takes no references; leave the reference out or use another one")
            cond.check_references(noisy_BCTHW, references_BCRHW)
        return t // p, h // q, w // r


@contextmanager
def _lora_scale(model: nn.Module, attention_kwargs: dict[str, Any] | None) -> Iterator[None]:
    scale = (attention_kwargs or {}).get("scale", 1.0)
    if scale == 1.0:
        yield
        return
    scale_lora_layers(model, scale)
    try:
        yield
    finally:
        unscale_lora_layers(model, scale)


def _grid_of(noisy_BCTHW: Tensor, references_BCRHW: Tensor | None) -> Tensor:
    """A storage-free tensor with the video's and references' frames on one time axis: all that RoPE reads is its shape.

    Both orders are covered: whatever stands first in the sequence gets the first temporal positions.
    """
    extra = 0 if references_BCRHW is None else references_BCRHW.shape[2]
    b, c, t, h, w = noisy_BCTHW.shape
    return noisy_BCTHW.new_empty(1).expand(b, c, t + extra, h, w)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} {value!r} is unknown; use one of {', '.join(allowed)}")


def build_denoiser(config: InstructXConfig) -> InstructXTransformer3DModel:
    """Randomly initialised DiT of `config`; works under torch.device("meta")."""
    dit = config.denoiser
    return InstructXTransformer3DModel(
        patch_size=dit.patch_size,
        num_attention_heads=dit.num_heads,
        attention_head_dim=dit.dim // dit.num_heads,
        in_channels=dit.in_channels,
        out_channels=dit.out_channels,
        text_dim=dit.text_dim,
        freq_dim=dit.freq_dim,
        ffn_dim=dit.ffn_dim,
        num_layers=dit.num_layers,
        eps=dit.eps,
        source_embedding=dit.source_embedder,
        source_scale=dit.source_scale,
        reference_embedding=dit.reference_embedder,
        reference_position=dit.reference_position,
        context=dit.context,
        timestep_rounding=dit.timestep_rounding,
    )
