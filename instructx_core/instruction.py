"""Instruction encoder: source frames + instruction (+ references) -> query features -> context (paper 3.1, 3.2).

Qwen2.5-VL reads the source and the instruction; learnable queries at the end of its sequence collect what to do; their
output states go through the connector to the DiT's cross-attention. Token ids, frames, patches, windows, positions and
mask are computed by us and passed explicitly, so that any transformers from 4.57 on gives the same numbers.
Data flow: prepare_inputs -> encode_vision -> encode_queries -> forward (context).
Legend: B batch, L tokens, S patches, P values a patch, Q queries, D width, grid (t, h, w) in patches.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import repeat
from torch import Tensor, nn

from .config import InstructXConfig, LoraConfig
from .connector import Connector
from .errors import InputError
from .geometry import mllm_grid
from .positions import Grid, temporal_step
from .prompt import build_prompt, encode_instruction
from .qwen import build_mllm, inject_lora, merge_lora, restore_rotary
from .vision import check_frames, prepare_pictures, vision_forward


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInputs:
    """One batch for InstructXEncoder. All samples share grids, references and the layout of the sequence.

    Patches are None when vision features are given to the encoder instead. reference_grid holds one grid a reference;
    reference_patches_BSP their patches one after the other. *_start are token indices; temporal_step is kept so that
    drop_instruction can rebuild the positions.
    """

    input_ids_BL: Tensor
    attention_mask_BL: Tensor  # bool, False at pads
    position_ids_3BL: Tensor
    patches_BSP: Tensor | None
    grid: Grid
    reference_patches_BSP: Tensor | None
    reference_grid: tuple[Grid, ...] | None
    vision_start: int
    reference_starts: tuple[int, ...]
    query_start: int
    query_count: int
    query_set: str  # image, video or reference
    modality: str  # image or video
    temporal_step: float
    padded: bool

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> EncoderInputs:
        """Copy on `device`; dtype applies to the patches only."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return dataclasses.replace(self, **changed)


def _as_grids(grid: Grid | tuple[Grid, ...] | None) -> tuple[Grid, ...]:
    if grid is None:
        return ()
    return (grid,) if isinstance(grid[0], int) else tuple(grid)  # type: ignore[return-value]


def _stack_pictures(clips: list[Tensor], config: InstructXConfig, kind: str) -> tuple[Tensor, Grid]:
    pairs = [prepare_pictures(clip, config, kind) for clip in clips]
    grids = {grid for _, grid in pairs}
    if len(grids) != 1:
        raise InputError(f"the {kind}s of one batch have grids {sorted(grids)}; batch equal sizes and lengths together")
    return torch.stack([patches for patches, _ in pairs]), grids.pop()


def _stack_references(references: list[list[Tensor]], config: InstructXConfig) -> tuple[Tensor, tuple[Grid, ...]]:
    counts = {len(sample) for sample in references}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"samples of one batch have {sorted(counts)} references; give all the same number, at least 1")
    slots = [
        _stack_pictures([image[None] if image.ndim == 3 else image for image in slot], config, "reference")
        for slot in zip(*references, strict=True)
    ]
    return torch.cat([patches for patches, _ in slots], dim=1), tuple(grid for _, grid in slots)


def prepare_inputs(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: list[str],
    frames: list[Tensor] | None = None,
    references: list[list[Tensor]] | None = None,
    fps: float = 16.0,
    *,
    num_frames: int | None = None,
    grid: Grid | None = None,
    reference_grid: Grid | tuple[Grid, ...] | None = None,
    allow_empty: bool = False,
    text_length: int | None = None,
) -> EncoderInputs:
    """Everything the encoder needs for B samples.

    instructions: B strings. frames: B uint8 (F, H, W, 3) tensors, the whole clips at `fps` Hz; F == 1 is an image.
    references: B lists of uint8 (H, W, 3). With precomputed vision features leave frames (and references) out and give
    num_frames (of the whole clip, 1 = image), `grid` and `reference_grid` instead (geometry.mllm_grid).
    allow_empty: "" is the unconditional branch of guidance. text_length: pad instructions to a fixed length.
    Raises InputError on empty or overlong text, unequal samples, wrong shapes or dtypes.
    """
    if isinstance(instructions, str) or not instructions:
        raise InputError(f"instructions is {instructions!r}; give a non-empty list of strings")
    patches_BSP = reference_patches_BSP = None
    if frames is not None:
        for clip in frames:
            check_frames(clip, "source")
        lengths = {len(clip) for clip in frames}
        if len(frames) != len(instructions) or len(lengths) != 1:
            raise InputError(
                f"{len(frames)} clips of {sorted(lengths)} frames for {len(instructions)} instructions; "
                "give one clip an instruction, all of one length"
            )
        num_frames = lengths.pop()
        patches_BSP, grid = _stack_pictures(frames, config, "image" if num_frames == 1 else "video")
    if grid is None or num_frames is None:
        raise InputError("no frames given; give `frames`, or `num_frames` and `grid` with precomputed vision features")
    if references is not None:
        if len(references) != len(instructions):
            raise InputError(f"{len(references)} reference lists for {len(instructions)} instructions; give one each")
        reference_patches_BSP, reference_grid = _stack_references(references, config)
    return _assemble(
        tokenizer, config, instructions, grid, _as_grids(reference_grid),
        modality="image" if num_frames == 1 else "video", step=temporal_step(config, num_frames, fps),
        patches=(patches_BSP, reference_patches_BSP), allow_empty=allow_empty, text_length=text_length,
    )  # fmt: skip


def _assemble(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: list[str],
    grid: Grid,
    reference_grids: tuple[Grid, ...],
    *,
    modality: str,
    step: float,
    patches: tuple[Tensor | None, Tensor | None],
    allow_empty: bool,
    text_length: int | None = None,
) -> EncoderInputs:
    rule = config.instruction
    suffix = rule.reference_suffix if reference_grids else ""
    query_set = "reference" if reference_grids and rule.num_reference_queries else modality
    query_count = rule.query_count(modality, bool(reference_grids))
    prompt = build_prompt(
        tokenizer,
        config,
        [encode_instruction(tokenizer, text, suffix, allow_empty) for text in instructions],
        grid,
        reference_grids,
        is_video=modality == "video",
        query_count=query_count,
        step=step,
        text_length=text_length,
    )
    return EncoderInputs(
        input_ids_BL=prompt.input_ids_BL,
        attention_mask_BL=prompt.attention_mask_BL,
        position_ids_3BL=prompt.position_ids_3BL,
        patches_BSP=patches[0],
        grid=grid,
        reference_patches_BSP=patches[1],
        reference_grid=reference_grids or None,
        vision_start=prompt.vision_start,
        reference_starts=prompt.reference_starts,
        query_start=prompt.query_start,
        query_count=query_count,
        query_set=query_set,
        modality=modality,
        temporal_step=step,
        padded=prompt.padded,
    )


def drop_instruction(tokenizer: Any, config: InstructXConfig, inputs: EncoderInputs) -> EncoderInputs:
    """The unconditional branch of guidance: the same pictures, no instruction. Guidance itself is not in the paper."""
    device = inputs.input_ids_BL.device
    batch = inputs.input_ids_BL.shape[0]
    return _assemble(
        tokenizer, config, [""] * batch, inputs.grid, inputs.reference_grid or (), modality=inputs.modality,
        step=inputs.temporal_step, patches=(inputs.patches_BSP, inputs.reference_patches_BSP), allow_empty=True,
    ).to(device)  # fmt: skip


class InstructXEncoder(ModelMixin, ConfigMixin):
    """Qwen2.5-VL, the learnable queries and the connector(s).

    instructx: the InstructXConfig as a dict of plain JSON values (use build_encoder). lora: built with LoRA layers.
    Query vectors start as normal noise of std 0.02 (not in paper; Kiwi-Edit's value).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"]
    _skip_layerwise_casting_patterns = ("patch_embed", "norm", "ln_q", "queries")

    @register_to_config
    def __init__(self, instructx: dict[str, Any], lora: bool = False) -> None:
        super().__init__()
        self.instructx = InstructXConfig.from_json(json.dumps(instructx))
        config, rule = self.instructx, self.instructx.instruction
        width = config.mllm.hidden_size
        self.mllm = build_mllm(config.mllm)
        counts = {"image": rule.num_image_queries, "video": rule.num_video_queries}
        if rule.num_reference_queries:
            counts["reference"] = rule.num_reference_queries
        self.queries = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(count, width) * 0.02) for name, count in counts.items()}
        )
        self.connector = Connector(width, config.denoiser.dim)
        self.reference_connector = Connector(width, config.denoiser.dim) if rule.reference_in_context else None
        if lora:
            self.add_lora(config.lora)

    def encode_vision(self, patches_BSP: Tensor, grid: Grid | tuple[Grid, ...]) -> Tensor:
        """Vision tokens (B, S/4, D) of one grid, or of several grids one after the other (references)."""
        grids = _as_grids(grid)
        sizes = [t * h * w for t, h, w in grids]
        if sum(sizes) != patches_BSP.shape[1]:
            raise InputError(f"{patches_BSP.shape[1]} patches for grids {grids}; expected {sum(sizes)}")
        visual, vision = self.mllm.visual, self.instructx.mllm.vision
        parts = patches_BSP.split(sizes, dim=1)
        return torch.cat([vision_forward(visual, part, g, vision) for part, g in zip(parts, grids, strict=True)], dim=1)

    def _embed(self, inputs: EncoderInputs, vision_BSD: Tensor, reference_BSD: Tensor | None) -> Tensor:
        """Token embeddings with vision tokens and queries in their places."""
        text_BLD = self.mllm.language_model.get_input_embeddings()(inputs.input_ids_BL)
        query_QD = self.queries[inputs.query_set]
        if query_QD.shape[0] != inputs.query_count:
            raise InputError(
                f"inputs hold {inputs.query_count} {inputs.query_set} queries, the encoder {query_QD.shape[0]}: "
                "prepare them with the encoder's own config (encoder.instructx)"
            )
        fills = [(inputs.vision_start, vision_BSD)]
        if reference_BSD is not None:
            merge = self.instructx.mllm.vision.spatial_merge_size**2
            sizes = [t * h * w // merge for t, h, w in inputs.reference_grid or ()]
            fills += zip(inputs.reference_starts, reference_BSD.split(sizes, dim=1), strict=True)
        fills.append((inputs.query_start, repeat(query_QD, "q d -> b q d", b=text_BLD.shape[0])))
        parts, at = [], 0
        for start, fill in fills:
            parts += [text_BLD[:, at:start], fill.to(text_BLD)]
            at = start + fill.shape[1]
        return torch.cat([*parts, text_BLD[:, at:]], dim=1)

    def encode_hidden(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> Tensor:
        """Output states of the whole sequence (B, L, D), after the final norm. Raises InputError without vision."""
        if vision_BSD is None:
            if inputs.patches_BSP is None:
                raise InputError("inputs hold no patches; give vision_BSD or prepare the inputs with frames")
            vision_BSD = self.encode_vision(inputs.patches_BSP, inputs.grid)
        if inputs.reference_grid and reference_vision_BSD is None:
            if inputs.reference_patches_BSP is None:
                raise InputError("inputs hold no reference patches; give reference_vision_BSD or prepare them with it")
            reference_vision_BSD = self.encode_vision(inputs.reference_patches_BSP, inputs.reference_grid)
        embeds_BLD = self._embed(inputs, vision_BSD, reference_vision_BSD if inputs.reference_grid else None)
        mask = None  # SDPA's own causal mask
        if inputs.padded:
            length = embeds_BLD.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=embeds_BLD.device).tril()
            mask = causal & inputs.attention_mask_BL[:, None, None, :]
        restore_rotary(self.mllm.language_model, self.instructx.mllm, embeds_BLD.device)
        return self.mllm.language_model(
            inputs_embeds=embeds_BLD,
            position_ids=inputs.position_ids_3BL,
            attention_mask={"full_attention": mask},  # ready-made: no release rebuilds it
            use_cache=False,
            return_dict=True,
        ).last_hidden_state

    def _queries_of(self, hidden_BLD: Tensor, inputs: EncoderInputs) -> Tensor:
        if self.instructx.instruction.query_slice == "tail":
            return hidden_BLD[:, -inputs.query_count :]
        return hidden_BLD[:, inputs.query_start : inputs.query_start + inputs.query_count]

    def encode_queries(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> Tensor:
        """Query features (B, Q, D) of the MLLM; vision features may be given (cached in training)."""
        return self._queries_of(self.encode_hidden(inputs, vision_BSD, reference_vision_BSD), inputs)

    def forward(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> Tensor:
        """Context (B, L, DiT width) for the DiT's cross-attention: [reference tokens,] queries."""
        hidden_BLD = self.encode_hidden(inputs, vision_BSD, reference_vision_BSD)
        context_BLD = self.connector(self._queries_of(hidden_BLD, inputs))
        if self.reference_connector is None or not inputs.reference_grid:
            return context_BLD
        merge = self.instructx.mllm.vision.spatial_merge_size**2
        spans = zip(inputs.reference_starts, inputs.reference_grid, strict=True)
        tokens = [hidden_BLD[:, start : start + t * h * w // merge] for start, (t, h, w) in spans]
        return torch.cat([self.reference_connector(torch.cat(tokens, dim=1)), context_BLD], dim=1)

    def grid_of(self, frames: int, height: int, width: int, kind: str) -> Grid:
        """Patch grid of a clip or picture in this model; see geometry.mllm_grid."""
        return mllm_grid(frames, height, width, self.instructx, kind)

    def add_lora(self, lora: LoraConfig) -> None:
        """Adds LoRA layers named "default" to the MLLM; B starts at zero, so the output does not change yet."""
        inject_lora(self.mllm if lora.scope == "mllm" else self.mllm.language_model, lora)
        self.register_to_config(lora=True)

    def merge_lora(self) -> None:
        """Folds the LoRA layers into the weights and removes them."""
        merge_lora(self.mllm)
        self.register_to_config(lora=False)

    def lora_state_dict(self) -> dict[str, Tensor]:
        """LoRA tensors by their full name in this module, without the adapter name (`...q_proj.lora_A.weight`)."""
        return {
            name.replace(".default.", "."): value.detach()
            for name, value in self.named_parameters()
            if ".lora_" in name
        }

    def enable_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        """Recompute activations of both halves of the MLLM in the backward pass."""
        self.mllm.gradient_checkpointing_enable(*args, **kwargs)

    def disable_gradient_checkpointing(self) -> None:
        self.mllm.gradient_checkpointing_disable()


def build_encoder(config: InstructXConfig) -> InstructXEncoder:
    """Random encoder of `config`, without LoRA layers. Works under torch.device("meta")."""
    return InstructXEncoder(json.loads(config.to_json()))
