"""Node Source and Reference: MODEL and conditionings get the source's and the references' latents (paper 3.1).

After Connector, before any sampler. The model patch is in here, so it cannot be forgotten. The LATENT is the source's
own encoding: its grid is the output's, and noise masks and denoise below 1 work on it.
Legend: B pictures, F frames, H W pixels, C channels; T R h w latent frames, references, height, width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch import Tensor

from .parts.fitting import LENGTH_RULES, PAD, cut_back
from .parts.keys import CONNECTOR_NODE
from .parts.media import clipped_notes, read_references
from .parts.notes import SAYS_AGAIN, Note, note, notes_ui
from .parts.prepare import EditMaterial, prepare_edit
from .parts.schema import make, mask_input, reference_inputs, schema, size_rule_input, source_input, vae_input

if TYPE_CHECKING:
    from .parts.dit_adapter import DitAdapter


class InstructXSourceReference(io.ComfyNode):
    """MODEL, conditionings, VAE, source, [mask], references -> MODEL, positive, negative, LATENT, IMAGE, fps, AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXSourceReference",
            "Source and Reference",
            "Gives the model the picture or clip to edit, and references. Use model, positive, negative and latent for "
            "sampling: they belong together.",
            search_aliases=["edit", "apply source", "reference image", "video edit"],
            **SAYS_AGAIN,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The Wan DiT of the checkpoint, from any loader; LoRA before or behind."
                ),
                io.Conditioning.Input("positive", tooltip=f"From {CONNECTOR_NODE}."),
                vae_input(),
                source_input("The picture or clip to edit. The result has its size and length."),
                size_rule_input(),
                io.Combo.Input(
                    "length",
                    options=list(LENGTH_RULES),
                    default=PAD,
                    tooltip="What to do when a clip has not 4n+1 frames (1, 5, 9, ...). pad: repeat the last frame; "
                    "Sampler (InstructX) cuts it off again. trim: drop up to 3 frames at the end. error: stop and "
                    "say so.",
                ),
                make(
                    io.Conditioning,
                    "negative",
                    optional=True,
                    tooltip=f"For cfg above 1: from a second {CONNECTOR_NODE} whose queries drop the instruction. "
                    "Without it sample at cfg 1.",
                ),
                *reference_inputs(),
                mask_input(),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        vae: Any,
        source: Any,
        resize: str,
        length: str,
        negative: Any = None,
        mask: Tensor | None = None,
        **references: Tensor | None,
    ) -> io.NodeOutput:
        given = EditMaterial(
            model=model,
            vae=vae,
            source=source,
            references=read_references(references),
            rules=(resize, length),
            mask=mask,
        )
        made = prepare_edit(given, positive, negative)
        frames_FHWC, placement = made.fitted.frames_FHWC, made.fitted.placement
        tokens = token_note(made.source_BCTHW, made.references_BCRHW, made.adapter)
        notes = [*made.fitted.notes, *clipped_notes({"mask": mask}), tokens]
        return io.NodeOutput(
            made.edit.model,
            made.edit.positive,
            made.edit.negative,
            made.edit.latent,
            cut_back(frames_FHWC[:, None] if made.apart else frames_FHWC[None], placement),
            made.fps,
            made.sound,
            ui=notes_ui("InstructXSourceReference", notes),
        )


def _outputs() -> list[Any]:
    return [
        io.Model.Output("MODEL", display_name="model", tooltip="The patched model."),
        io.Conditioning.Output("POSITIVE", display_name="positive", tooltip="With source and references."),
        io.Conditioning.Output("NEGATIVE", display_name="negative", tooltip="With source and references."),
        io.Latent.Output("LATENT", display_name="latent", tooltip="The source's latent: sample this one."),
        io.Image.Output(
            "IMAGE",
            display_name="source",
            tooltip="The source as it is edited, cropped or trimmed where it had to be: before for Compare.",
        ),
        io.Float.Output(
            "FPS",
            display_name="fps",
            tooltip="Frames per second of the VIDEO; of an IMAGE batch those that Query Embeddings was told.",
        ),
        io.Audio.Output("AUDIO", display_name="audio", tooltip="The sound of the VIDEO, where it has one."),
    ]


def token_note(source_BCTHW: Tensor, references_BCRHW: Tensor | None, adapter: DitAdapter) -> Note:
    """What the DiT will see, in tokens."""
    count, _, t, h, w = source_BCTHW.shape
    p, q, r = adapter.denoiser.patch_size
    cells = (h // q) * (w // r)
    values = {"tokens": t // p * cells, "grid": f"{t}x{h}x{w}"}
    if references_BCRHW is not None:
        more = references_BCRHW.shape[2]
        return note("tokens_and_references", **values, more=more * cells, references=more)
    return note("tokens_of_pictures", **values, count=count) if count > 1 else note("tokens", **values)
