"""The wire INSTRUCTX_QUERIES: made by the encoder from source and instruction, turned into CONDITIONING.

What the nodes Query Embeddings and Connector do, one after the other, and Long Video for every window.
Legend: B batch (pictures that are edited apart, else 1), L tokens, Q queries, D width of the MLLM or the DiT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...instructx_core.errors import InputError
from .guard import only_patched
from .keys import FPS, KEY, PICTURES, REFERENCE_COUNT
from .media import SourceClip, are_unrelated

if TYPE_CHECKING:
    from ...instructx_core.encoder.inputs import EncoderInputs
    from .encoder_model import LoadedEncoder


@dataclass(frozen=True, eq=False)
class Queries:
    """The wire INSTRUCTX_QUERIES. Features fp32, on the CPU; reference_BLD only where the profile uses it; fps, Hz."""

    encoder: LoadedEncoder
    query_BQD: Tensor
    reference_BLD: Tensor | None
    modality: str
    references: int
    fps: float

    @property
    def has_reference(self) -> bool:
        return self.references > 0


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the encoder is to look at. modality: auto, image or video. fps: in Hz, where the clip brings none; 0: the
    model's usual."""

    clip: SourceClip
    references: Sequence[Tensor]
    modality: str = "auto"
    fps: float = 0.0


def ask(
    encoder: LoadedEncoder, instruction: str, shown: Sight, drop_instruction: bool = False
) -> tuple[Queries, EncoderInputs]:
    """The queries, and what the encoder was given. Raises InputError for what it cannot read.

    drop_instruction: it looks without being told what to do.
    """
    from ...instructx_core.encoder import inputs as core

    config, references = encoder.config, list(shown.references)
    sources, fps = edits_of(shown.clip, shown.modality), shown.clip.fps or shown.fps or config.sampling.fps
    prepared = core.prepare_inputs(
        encoder.tokenizer,
        config,
        [instruction] * len(sources),
        sources,
        [references] * len(sources) if references else None,
        fps,
        modality=None if shown.modality == "auto" else shown.modality,
        allow_empty=drop_instruction,
    )
    if drop_instruction:
        prepared = core.drop_instruction(encoder.tokenizer, config, prepared)
    query_BQD, reference_BLD = encoder.features(prepared)
    return Queries(encoder, query_BQD, reference_BLD, prepared.modality, len(references), fps), prepared


def edits_of(clip: SourceClip, modality: str) -> list[Tensor]:
    """The sources of the edits: one clip or picture, or each picture of an IMAGE batch that is to be images.

    Raises InputError when nobody said which of the two a batch is and its pictures have nothing to do with each other.
    """
    frames_FHWC = clip.frames_FHWC
    if modality == "image" and clip.fps is None:
        return list(frames_FHWC.split(1))
    if modality == "auto" and clip.fps is None and are_unrelated(frames_FHWC):
        raise InputError(
            f"the source is a batch of {len(frames_FHWC)} pictures that do not look like one clip; set modality to "
            "image to edit each by itself, or to video if they are a clip"
        )
    return [frames_FHWC]


def connect(queries: Queries) -> list[Any]:
    """CONDITIONING for the DiT (paper 3.1). The adapter travels in its dict, so that no other wire is needed."""
    context_BLD = queries.encoder.connect(queries.query_BQD, queries.reference_BLD)
    options = {
        KEY: queries.encoder.adapter,
        REFERENCE_COUNT: queries.references,
        FPS: queries.fps,
        PICTURES: len(context_BLD) if queries.modality == "image" else 0,
        "hooks": only_patched(),
    }
    return [[context_BLD, options]]
