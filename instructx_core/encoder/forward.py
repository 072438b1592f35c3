"""The encoder's forward, without diffusers or peft: EncoderInputs -> query features -> context (paper 3.1, 3.2).

Qwen2.5-VL reads the source and the instruction; learnable queries at the end of its sequence collect what to do; their
output states go through the connector to the DiT's cross-attention. InstructXEncoder (model.py) is this as a diffusers
model; PlainEncoder is it for programs without diffusers, such as a ComfyUI.
Data flow: inputs -> encode_vision -> encode_features -> connect.
Legend: B batch, L tokens, S patches, P values a patch, Q queries, D width, grid (t, h, w) in patches.
"""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor, nn

from ..config import InstructXConfig
from ..connector import Connector
from ..errors import InputError
from .inputs import EncoderInputs
from .positions import Grid
from .qwen import build_mllm, restore_rotary
from .vision import vision_forward


def query_sets(config: InstructXConfig) -> dict[str, int]:
    """Learnable queries by the name of their set; those of clips are the images' where a model shares them."""
    modalities = ("image",) if config.design.shared_queries else ("image", "video")
    sets = {name: config.appended_queries(name) for name in modalities}
    if any(sets.values()):
        sets["reference"] = config.instruction.num_reference_queries
    return {name: count for name, count in sets.items() if count}


class EncoderForward:
    """Mixin of an nn.Module: its parts and its forward. Query vectors start as normal noise of std 0.02 (not in paper).

    Raises InputError when inputs lack what a step needs.
    """

    instructx: InstructXConfig
    queries: nn.ParameterDict
    connector: nn.Module
    reference_connector: nn.Module | None

    def make_parts(self, config: InstructXConfig) -> None:
        """The MLLM, queries and connectors of `config`, random; called once by the constructor."""
        rule, width = config.instruction, config.mllm.hidden_size
        self.instructx = config
        self.mllm = build_mllm(config.mllm)
        self.queries = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(count, width) * 0.02) for name, count in query_sets(config).items()}
        )
        context = config.denoiser.context_dim
        self.connector = self.make_connector(config)
        self.reference_connector = Connector(width, context) if rule.reference_in_context else None

    def make_connector(self, config: InstructXConfig) -> nn.Module:
        """What makes the context; other designs have another one."""
        return Connector(config.mllm.hidden_size, config.denoiser.context_dim, layers=config.design.mlp_layers)

    def encode_vision(self, patches_BSP: Tensor, *grids: Grid) -> Tensor:
        """Vision tokens (B, S/4, D) of one grid, or of several grids one after the other (references)."""
        sizes = [t * h * w for t, h, w in grids]
        if sum(sizes) != patches_BSP.shape[1]:
            raise InputError(f"{patches_BSP.shape[1]} patches for grids {grids}; expected {sum(sizes)}")
        visual, vision = self.mllm.visual, self.instructx.mllm.vision
        parts = patches_BSP.split(sizes, dim=1)
        return torch.cat([vision_forward(visual, part, g, vision) for part, g in zip(parts, grids, strict=True)], dim=1)

    def _embed(self, inputs: EncoderInputs, vision_BSD: Tensor, reference_BSD: Tensor | None) -> Tensor:
        """Token embeddings with vision tokens and queries in their places."""
        text_BLD = self.mllm.language_model.get_input_embeddings()(inputs.input_ids_BL)
        query_QD = self.queries[inputs.query_set] if inputs.query_count else text_BLD.new_empty(0, text_BLD.shape[2])
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
            reference_vision_BSD = self.encode_vision(inputs.reference_patches_BSP, *inputs.reference_grid)
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

    def encode_features(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What the connectors need: query features (B, Q, D), and those of the reference's vision tokens or None."""
        hidden_BLD = self.encode_hidden(inputs, vision_BSD, reference_vision_BSD)
        query_BQD = self._queries_of(hidden_BLD, inputs)
        if self.reference_connector is None or not inputs.reference_grid:
            return query_BQD, None
        merge = self.instructx.mllm.vision.spatial_merge_size**2
        spans = zip(inputs.reference_starts, inputs.reference_grid, strict=True)
        tokens = [hidden_BLD[:, start : start + t * h * w // merge] for start, (t, h, w) in spans]
        return query_BQD, torch.cat(tokens, dim=1)

    def connect(self, query_BQD: Tensor, reference_BLD: Tensor | None = None) -> Tensor:
        """Features -> context (B, L, config.denoiser.context_dim): [reference tokens,] queries."""
        context_BLD = self.connector(query_BQD)
        if reference_BLD is None or self.reference_connector is None:
            return context_BLD
        return torch.cat([self.reference_connector(reference_BLD), context_BLD], dim=1)

    def forward(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> Tensor:
        """Context (B, L, config.denoiser.context_dim) for the DiT's cross-attention: [reference tokens,] queries."""
        return self.connect(*self.encode_features(inputs, vision_BSD, reference_vision_BSD))


class PlainEncoder(EncoderForward, nn.Module):
    """The encoder as a plain module, for inference without diffusers. State dict as InstructXEncoder's."""

    def __init__(self, config: InstructXConfig) -> None:
        super().__init__()
        self.make_parts(config)
