"""Node Load Checkpoint: a Kiwi-Edit training file or diffusers folder -> MODEL and INSTRUCTX_ENCODER.

For files that no native loader takes, because they hold a DiT, the adapter and (a folder) Qwen2.5-VL in one. Everything
else stays with Load Diffusion Model and Load Encoder. The VAE comes from Load VAE.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..instructx_core.formats.layouts.folders import CHECKPOINTS, DIFFUSERS
from .parts import host, host_model
from .parts.model_files import (
    ENCODERS,
    encoder_choices,
    encoder_files,
    file_dates,
    find_tokenizer,
    safetensors,
    torch_dtype,
)
from .parts.schema import Encoder, make, schema, weight_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..instructx_core.formats.layouts.report import LoadReport
    from ..instructx_core.formats.layouts.weight_file import OpenFiles
    from .parts.encoder_model import LoadedEncoder

FROM_CHECKPOINT = "from the checkpoint"
POSITIONS = ("auto", "last", "first")


class InstructXLoadCheckpoint(io.ComfyNode):
    """checkpoint, encoder file, reference position, dtype, device -> MODEL, INSTRUCTX_ENCODER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXLoadCheckpoint",
            "Load Checkpoint",
            "Loads a Kiwi-Edit training file or diffusers folder, which native loaders cannot take: the DiT and the "
            "encoder.",
            search_aliases=["kiwi", "kiwi-edit", "unigen", "diffusers folder"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_choices(),
                    tooltip="A training file from models/checkpoints, or a diffusers folder (with mllm_encoder in it) "
                    "from models/diffusers.",
                ),
                io.Combo.Input(
                    "encoder",
                    options=[FROM_CHECKPOINT, *encoder_choices()],
                    default=FROM_CHECKPOINT,
                    tooltip="A diffusers folder brings its Qwen2.5-VL. A training file does not: choose Qwen2.5-VL-3B "
                    "with its vision tower, from models/text_encoders.",
                ),
                make(
                    io.Combo,
                    "reference_position",
                    options=list(POSITIONS),
                    default="auto",
                    advanced=True,
                    tooltip="Where the model was trained to see references: after the video or before it. auto: what "
                    "its config or its name (pad_first) says, else last.",
                ),
                *weight_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    "MODEL", display_name="model", tooltip="The DiT, for Source and Reference (InstructX)."
                ),
                Encoder.Output("ENCODER", display_name="encoder", tooltip="For Query Embeddings (InstructX)."),
            ],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        encoder: str = FROM_CHECKPOINT,
        reference_position: str = "auto",
        dtype: str = "auto",
        device: str = "auto",
    ) -> io.NodeOutput:
        path = checkpoint_path(checkpoint)
        devices = host.encoder_devices(device)
        position = None if reference_position == "auto" else reference_position
        model, loaded, report = load_modules(path, encoder, position, torch_dtype(dtype, devices[0]), devices)
        return io.NodeOutput(model, loaded, ui={"text": str(report).splitlines()})

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str, encoder: str = FROM_CHECKPOINT, **_: Any
    ) -> list[tuple[str, int, int]]:
        """Changes when a file is replaced, so that the host loads it anew; an absent file is reported by execute."""
        try:
            path = checkpoint_path(checkpoint)
            given = [] if encoder == FROM_CHECKPOINT else encoder_files(host.model_path(ENCODERS, encoder))
        except ValueError:
            return []
        files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
        return file_dates([*files, *given])


def checkpoint_choices() -> list[str]:
    """Names for the list: folders of models/diffusers that are checkpoints, files of models/checkpoints."""
    from ..instructx_core.formats.layouts.checkpoints import folder_layout

    return [*host.model_folders(DIFFUSERS, lambda path: folder_layout(path) is not None), *safetensors(CHECKPOINTS)]


def checkpoint_path(name: str) -> Path:
    """Path of a choice. Raises ValueError where there is none."""
    return host.model_path(CHECKPOINTS if name.endswith(".safetensors") else DIFFUSERS, name)


def load_modules(
    path: Path, encoder: str, position: Any, dtype: Any, devices: tuple[Any, Any]
) -> tuple[Any, LoadedEncoder, LoadReport]:
    """The MODEL and the encoder of a checkpoint, and what the adapter in it gave. Opens each file once."""
    from ..instructx_core.formats.layouts.adapter import read_adapter
    from ..instructx_core.formats.layouts.checkpoints import checkpoint_files, open_model
    from ..instructx_core.formats.layouts.weight_file import OpenFiles
    from .parts.encoder_model import load_on_host

    with OpenFiles() as opened:
        files = encoder_of(opened, path, encoder)
        adapter = read_adapter(open_model(opened, path, text_encoder=files), position)
        brought = checkpoint_files(opened, path).get("tokenizer")
        tokenizer = find_tokenizer(files, adapter.config.mllm.vocab_size, brought)
        loaded = load_on_host(opened.open(files), adapter, tokenizer, dtype, devices)
        model = host_model.load_host_model(functools.partial(denoiser_state, opened, path))
    # What opens the file anew, for a host that reads it again later.
    model.cached_patcher_init = (host_model.load_host_model, (functools.partial(reopened_denoiser_state, path),))
    return model, loaded, adapter.report


def encoder_of(opened: OpenFiles, path: Path, choice: str) -> list[Path]:
    """Qwen's files for a checkpoint. Raises InputError when neither the checkpoint nor the choice names any."""
    from ..instructx_core.errors import InputError
    from ..instructx_core.formats.layouts.checkpoints import checkpoint_files

    if choice != FROM_CHECKPOINT:
        return encoder_files(host.model_path(ENCODERS, choice))
    brought = checkpoint_files(opened, path).get("text_encoder")
    if brought is not None:
        return [brought]
    raise InputError(f"{path.name} is one file and holds no Qwen2.5-VL; choose Qwen2.5-VL-3B under encoder")


def denoiser_state(opened: OpenFiles, path: Path) -> dict[str, Tensor]:
    """The DiT of a checkpoint in the names of Wan files. Raises InputError when it holds none of its own."""
    from ..instructx_core.formats.forms.pending import pending_dit
    from ..instructx_core.formats.layouts.checkpoints import open_dit
    from ..instructx_core.formats.layouts.dit import dit_report

    dit = open_dit(opened, path)
    dit_report(dit).log()
    return {item.name: item.read() for item in pending_dit(dit)}


def reopened_denoiser_state(path: Path) -> dict[str, Tensor]:
    """denoiser_state of a checkpoint that is no longer open."""
    from ..instructx_core.formats.layouts.weight_file import OpenFiles

    with OpenFiles() as opened:
        return denoiser_state(opened, path)
