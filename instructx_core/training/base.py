"""Public base weights -> the modules of a run at paper size (paper 3.3): Qwen2.5-VL, Wan DiT and VAE from their files.

Two steps, because samples are encoded before the model is shared out: `open_base` builds everything without values and
reads the VAE and the vision tower alone, or neither where nothing is left to encode; `complete` gives the rest its
rows, after sharding.py has split it over the processes. What is in no file starts as it does in the library: LoRA B at
zero, queries as small noise.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import EMBEDDERS, InstructXConfig
from ..data.encoding import is_tower_trained
from ..denoiser import build_denoiser
from ..encoder.designs import build_encoder
from ..encoder.tokenizer import load_tokenizer
from ..errors import InputError, some
from ..formats.containers.tensor_source import TensorSource
from ..formats.layouts.checkpoints import open_dit
from ..formats.layouts.dit import dit_names, fitting_shapes, stays_fp32
from ..formats.layouts.encoder import mllm_places
from ..formats.layouts.files import BaseFiles
from ..formats.layouts.modules import empty_parameters
from ..formats.layouts.qwen_config import check_encoder
from ..formats.layouts.vae import check_vae, read_vae
from ..formats.layouts.weight_file import OpenFiles
from ..precision import dtype_of
from ..vae import build_vae
from . import distributed, rng
from .filling import Rows, fill_empty, final_rows, finite_rows, open_final_weights
from .parts import Parts
from .recipes.base import FROM_BASE, Recipe
from .recipes.registry import command_of
from .trainable import select

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

BASE_FILE = "base.json"


def remember_base(output: Path, given: BaseFiles | None, config: InstructXConfig) -> BaseFiles:
    """The base of all runs under `output`: `given`, noted in base.json at the first run, or what is noted there.

    Raises InputError when there is neither, `given` are other files, or they are not of `config`'s model; nothing is
    written then. The tokenizer is copied beside it.
    """
    path = output / BASE_FILE
    if path.is_file():
        noted = {name: Path(value) for name, value in json.loads(path.read_text()).items()}
        if given is None:
            given = BaseFiles(**noted)
        parts = ("denoiser", "vae", "text_encoder")
        sizes = [[size_of_weights(getattr(given, name)), size_of_weights(noted[name])] for name in parts]
        if any(size != other for size, other in sizes if other):
            raise InputError(f"the runs in {output} started from other files ({path}); use those or another --output")
    if given is None:
        raise InputError(
            "no base weights; give --base FOLDER with diffusion_models, vae and text_encoders, or --part NAME=FILE for "
            "each of denoiser, vae, text_encoder and tokenizer"
        )
    gone = path.is_file() and not size_of_weights(given.vae)  # it is not missed where all samples are encoded
    with OpenFiles() as opened, empty_parameters():
        _check_files(opened, build_denoiser(config), build_encoder(config), config, given, vae=not gone)
    if not distributed.rank():
        output.mkdir(parents=True, exist_ok=True)
        if not (output / "tokenizer.json").is_file():
            load_tokenizer(given.tokenizer).save(str(output / ".tokenizer.json"))
            (output / ".tokenizer.json").replace(output / "tokenizer.json")
        named = {name: str(getattr(given, name).resolve()) for name in BaseFiles.__dataclass_fields__}
        (output / ".base.json").write_text(json.dumps(named, indent=1) + "\n")
        (output / ".base.json").replace(path)  # whole at once: the other processes may be reading it
    distributed.wait()
    return given


def size_of_weights(path: Path) -> int:
    """Bytes of the weights there; 0 when they are not there any more."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass(frozen=True, slots=True)
class Base:
    """A model whose VAE and vision tower are there, or left out as nothing is to be encoded; the rest is shapes until
    `complete`."""

    parts: Parts
    recipe: Recipe
    config: InstructXConfig
    files: BaseFiles
    output: Path

    def decoder(self, device: torch.device) -> AutoencoderKLWan | None:
        """The VAE, read now where it was left out; None where its file is gone."""
        if self.parts.vae is not None or not size_of_weights(self.files.vae):
            return self.parts.vae
        with OpenFiles() as opened:
            return _open_vae(opened, self.config, self.files, self.recipe, device)

    def complete(self, device: torch.device) -> dict[str, nn.Parameter]:
        """Reads what is missing, this process's rows of it, and gives the trained tensors.

        Raises InputError when files do not fit, or a run before has no final weights.
        """
        root = self.parts.root
        with ExitStack() as stack:
            opened = stack.enter_context(OpenFiles())
            rows = new_rows(root, self.recipe.seed) | base_rows(opened, self.parts, self.config, self.files)
            for required in self.recipe.requires:
                if required != FROM_BASE:
                    path = self.output / required / "final.safetensors"
                    rows |= final_rows(stack.enter_context(open_final_weights(path, command_of(required))), root)
            start_reference_embedder(rows, root)
            fill_empty(root, rows, device)
        return select(self.recipe.trained_groups(), self.parts.encoder, self.parts.denoiser)


def open_base(
    recipe: Recipe, config: InstructXConfig, output: Path, files: BaseFiles, device: torch.device, encode: bool
) -> Base:
    """Builds the model without values, with what encodes samples read, on `device`.

    encode: whether samples are to be encoded; else the VAE is left out, and the vision tower where it is frozen.
    Raises InputError when files do not fit the preset.
    """
    frozen = dtype_of(recipe.precision, device)
    with empty_parameters():
        encoder, denoiser = build_encoder(config), build_denoiser(config)
    with OpenFiles() as opened:
        vae = _open_vae(opened, config, files, recipe, device) if encode else None
        _check_files(opened, denoiser, encoder, config, files, vae=encode)
        if encode or is_tower_trained(config):
            _read_tower(encoder.mllm.visual.to(frozen), opened.open(files.text_encoder).plain, encoder, device)
        else:
            encoder.mllm.register_module("visual", None)
    with empty_parameters():
        encoder.add_lora(config.lora)
    modules: dict[str, nn.Module] = {"encoder": encoder, "denoiser": denoiser}
    parts = Parts(vae, encoder, denoiser, nn.ModuleDict(modules if vae is None else {"vae": vae} | modules))
    trained = select(recipe.trained_groups(), encoder, denoiser)
    for name, parameter in parts.root.named_parameters():
        if parameter.is_meta and not name.startswith("vae."):
            kept = name in trained or (name.startswith("denoiser.") and stays_fp32(denoiser, name))
            parameter.data = parameter.data.to(torch.float32 if kept else frozen)
    return Base(parts, recipe, config, files, output)


def _open_vae(
    opened: OpenFiles, config: InstructXConfig, files: BaseFiles, recipe: Recipe, device: torch.device
) -> AutoencoderKLWan:
    """Raises InputError for the file of another VAE, or none."""
    if not size_of_weights(files.vae):
        raise InputError(
            f"{files.vae} is gone, and not all samples of {recipe.name} are encoded; put the VAE back, or encode them "
            "with `instructx data cache` first"
        )
    with empty_parameters():
        vae = build_vae(config.vae)
    read_vae(vae, opened.open(files.vae), config, dtype_of(recipe.precision, device), device)
    return vae.requires_grad_(False).eval()


def _read_tower(tower: nn.Module, qwen: TensorSource, encoder: nn.Module, device: torch.device) -> None:
    places = mllm_places(qwen, encoder)
    rows = {
        name: finite_rows(qwen, places[f"visual.{name}"], tuple(parameter.shape))
        for name, parameter in tower.named_parameters()
        if f"visual.{name}" in places
    }
    fill_empty(tower, rows, device)


def trained_on_base(recipe: Recipe, config: InstructXConfig, output: Path) -> Parts:
    """The model in bf16, on the CPU, with the weights of all runs that the recipe requires: what is exported."""
    cpu, recipe = torch.device("cpu"), dataclasses.replace(recipe, precision="bf16")
    base = open_base(recipe, config, output, remember_base(output, None, config), cpu, encode=True)
    for parameter in base.parts.root.parameters():
        if parameter.is_meta:
            parameter.data = parameter.data.to(torch.bfloat16)
    base.complete(cpu)
    return base.parts


def _check_files(
    opened: OpenFiles, denoiser: Any, encoder: Any, config: InstructXConfig, files: BaseFiles, vae: bool
) -> None:
    """Raises InputError for files of another model, before any of them is read in full. vae: whether it is needed."""
    fitting_shapes(denoiser, open_dit(opened, files.denoiser), config, _own(denoiser))
    if vae:
        check_vae(opened.open(files.vae), config)
    qwen = opened.open(files.text_encoder)
    check_encoder(qwen, config)
    places = mllm_places(qwen.plain, encoder)
    missing = [name for name in encoder.mllm.state_dict() if name not in places]
    if missing:
        raise InputError(f"{qwen.path.name} lacks {len(missing)} tensors ({some(missing)}); download it again")


def _own(denoiser: nn.Module) -> dict[str, Tensor]:
    """The embedders that no public file has."""
    return {name: value for name, value in denoiser.state_dict().items() if name.startswith(EMBEDDERS)}


def base_rows(opened: OpenFiles, parts: Parts, config: InstructXConfig, files: BaseFiles) -> dict[str, Rows]:
    """The rows of every tensor of the model that a public file holds, by its name in `parts.root`."""
    dit = open_dit(opened, files.denoiser)
    shapes, (names, _) = fitting_shapes(parts.denoiser, dit, config, _own(parts.denoiser)), dit.once(dit_names)
    rows = {f"denoiser.{name}": finite_rows(dit.plain, key, shapes[name]) for name, key in names.items()}
    qwen = opened.open(files.text_encoder).plain
    shapes = {name: tuple(parameter.shape) for name, parameter in parts.encoder.mllm.named_parameters()}
    plain = {name.replace(".base_layer.", "."): name for name in shapes}
    for name, key in mllm_places(qwen, parts.encoder).items():
        if name in plain:
            rows[f"encoder.mllm.{plain[name]}"] = finite_rows(qwen, key, shapes[plain[name]])
    return rows


def new_rows(root: nn.Module, seed: int) -> dict[str, Rows]:
    """The start of what InstructX adds, from (seed, name), so that it does not depend on who holds which rows."""
    added = ("encoder.queries.", "encoder.connector.", "encoder.reference_connector.", "denoiser.source_embedder.")
    return {
        name: _new(name, tuple(parameter.shape), seed)
        for name, parameter in root.named_parameters()
        if ".lora_" in name or name.startswith(added)
    }


def _new(name: str, shape: tuple[int, ...], seed: int) -> Rows:
    """Zeros for LoRA B, biases and the source embedder; normal noise of std 0.02 for queries; else torch's usual
    uniform noise by the number of inputs. None of it is in the paper."""

    def draw(start: int, stop: int) -> Tensor:
        if ".lora_B." in name or name.endswith("bias") or "source_embedder" in name:
            return torch.zeros(stop - start, *shape[1:])
        generator = rng.torch_generator(seed, zlib.crc32(name.encode()))
        if ".queries." in name:
            return torch.randn(shape, generator=generator)[start:stop] * 0.02
        bound = shape[1] ** -0.5
        return torch.rand(shape, generator=generator)[start:stop] * (2 * bound) - bound

    return draw


def start_reference_embedder(rows: dict[str, Rows], root: nn.Module) -> None:
    """An own reference embedder starts as the DiT's patch embedding, as in parts.py, unless a run has trained it."""
    for name, _ in root.named_parameters():
        if name.startswith("denoiser.reference_embedder.") and name not in rows:
            rows[name] = rows[name.replace("reference_embedder", "patch_embedding")]
