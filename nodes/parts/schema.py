"""What the nodes' schemas share: one category, the types of our own wires, inputs of several nodes, older hosts.

Hosts differ in which keywords `io.Schema` and the inputs take (0.3.75 lacks search_aliases and advanced); an unknown
one would disable the whole pack, so keywords that a host lacks are dropped here.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

from .fitting import CROP, SIZE_RULES
from .host_model import sampler_names
from .settings import CFG, PIPELINE_SCHEDULE, SHIFT, STEPS, schedules

CATEGORY = "InstructX"
MAX_REFERENCES = 4
DTYPES = ("auto", "bf16", "fp16", "fp32")
DEVICES = ("auto", "cpu")

# Wires of our own; everything else is a native type.
Encoder = io.Custom("INSTRUCTX_ENCODER")
QueriesWire = io.Custom("INSTRUCTX_QUERIES")


def schema(node_id: str, display_name: str, description: str, **keywords: Any) -> io.Schema:
    """io.Schema in our category, without the keywords this host does not know."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    chosen = {"category": CATEGORY, **keywords}
    return io.Schema(
        node_id=node_id,
        display_name=f"{display_name} (InstructX)",
        description=description,
        **{key: value for key, value in chosen.items() if key in known},
    )


def make(kind: Any, id: str, **keywords: Any) -> Any:
    """`kind.Input(id, ...)` without the keywords this host does not know, e.g. advanced. kind: io.Int, io.Combo ..."""
    known = inspect.signature(kind.Input.__init__).parameters
    return kind.Input(id, **{key: value for key, value in keywords.items() if key in known})


def source_input(tooltip: str, **keywords: Any) -> Any:
    """The `source` input: an IMAGE batch or a VIDEO."""
    return io.MultiType.Input("source", types=[io.Image, io.Video], tooltip=tooltip, **keywords)


def reference_inputs() -> list[Any]:
    """reference_1 ... reference_4: optional IMAGE inputs; each may hold a batch, and sizes may differ between them."""
    tooltip = "A picture the instruction refers to, any size; a batch counts as several."
    names = [f"reference_{number}" for number in range(1, MAX_REFERENCES + 1)]
    return [io.Image.Input(name, optional=True, tooltip=tooltip) for name in names]


def mask_input() -> Any:
    return make(
        io.Mask,
        "mask",
        optional=True,
        tooltip="Where the edit may change the picture (white); drawn on the source, of its size or any other. It goes "
        "into the latent, for any sampler, moved with the source by resize and length.",
    )


def vae_input() -> Any:
    return io.Vae.Input("vae", tooltip="The checkpoint's VAE: Wan2.1 (16 channels) or Wan2.2 5B (48 channels).")


def encoder_input() -> Any:
    return Encoder.Input("encoder", tooltip="From Load Encoder or Load Checkpoint (InstructX).")


def instruction_input() -> Any:
    return io.String.Input(
        "instruction",
        multiline=True,
        default="",
        placeholder="instruction: what to change",
        tooltip='What to change, as a sentence: "make the circle blue". At most 2048 tokens.',
    )


def fallback_instruction_input() -> Any:
    return io.String.Input(
        "instruction_if_empty",
        optional=True,
        force_input=True,
        tooltip="What to change while the instruction box is empty, e.g. from Sample (InstructX). What is typed into "
        "the box wins.",
    )


def asked_for(instruction: str | None, if_empty: str | None) -> str:
    """The instruction of an edit: what is in the box, else what is on the wire; None is what nodes without one give."""
    given = instruction or ""
    return given if given.strip() or not if_empty else if_empty


def size_rule_input() -> Any:
    return io.Combo.Input(
        "resize",
        options=list(SIZE_RULES),
        default=CROP,
        tooltip="What to do when the source's sides are no multiples of 16 (32 for Wan2.2 5B) pixels. crop: cut up to "
        "15 (31) pixels, centred. pad: repeat the right and lower edge; Sampler and Long Video (InstructX) cut it off "
        "again. error: stop and say so. Nothing is ever scaled.",
    )


def weight_inputs() -> list[Any]:
    """dtype and device of an encoder."""
    return [
        make(
            io.Combo,
            "dtype",
            options=list(DTYPES),
            default="auto",
            advanced=True,
            tooltip="Number format of the encoder's weights. auto: bf16 where the device computes in it, else fp32. "
            "bf16 and fp16 take half the memory of fp32; fp16 may overflow.",
        ),
        make(
            io.Combo,
            "device",
            options=list(DEVICES),
            default="auto",
            advanced=True,
            tooltip="Where the encoder runs. auto: the device ComfyUI uses for text encoders, weights moved out when "
            "memory is short. cpu: slow, takes no video memory.",
        ),
    ]


def sampling_inputs(seed_bits: int) -> list[Any]:
    """seed (0 to 2^seed_bits - 1), steps, cfg, shift, sampler_name, scheduler."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**seed_bits - 1,
            control_after_generate=True,
            tooltip=f"Number that fixes the noise, 0 to 2^{seed_bits} - 1. The same number gives the same result.",
        ),
        io.Int.Input(
            "steps",
            default=50,
            min=STEPS[0],
            max=STEPS[1],
            tooltip="Denoising steps, 1 to 1000; more are slower. 50, tiny model 4.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=CFG[0],
            max=CFG[1],
            step=0.1,
            tooltip="Guidance, 0 to 30. 1: off, one model call a step. Above 1: follows the instruction harder, with "
            "two calls a step.",
        ),
        io.Float.Input(
            "shift",
            default=5.0,
            min=SHIFT[0],
            max=SHIFT[1],
            step=0.01,
            tooltip="How many steps go to high noise, 0.01 to 100: 1 even, above 1 more. 5, tiny model 3. Replaces "
            "that of Model Sampling SD3.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=sampler_names(),
            default="euler",
            tooltip="The host's method of taking a step. euler: one model call, as the models were tested. Some others "
            "take two, or add noise.",
        ),
        io.Combo.Input(
            "scheduler",
            options=schedules(),
            default=PIPELINE_SCHEDULE,
            tooltip="Noise levels of the steps. instructx: even, then shifted, as trained. Others: the host's.",
        ),
    ]
