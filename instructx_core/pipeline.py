"""InstructXPipeline: source clip or image + instruction (+ references) -> edited frames.

Paper Fig. 2 in four stages, each a free function of sampling/: instruction and pictures are encoded, noise is drawn,
the DiT denoises it, the VAE decodes. Here they get their modules, and what makes them faster or smaller (speed/). A
diffusers pipeline: schedulers, LoRA, offloading, callbacks and save/load work as in every other one.
Legend: B batch, F pixel frames, T latent frames, R references, C channels, H W, L tokens, D width.
"""

# No `from __future__ import annotations`: diffusers reads the annotations of __init__, older releases not as strings.

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, overload

import numpy as np
import torch
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.models import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .config import InstructXConfig
from .denoiser import InstructXTransformer3DModel
from .encoder import instruction as instruction  # diffusers looks there, in what an earlier version saved
from .encoder.context_encoder import ContextEncoder
from .errors import InputError
from .formats.layouts.lora import apply_lora
from .formats.layouts.report import LoadReport
from .formats.layouts.weight_file import open_weights
from .kernels import Session
from .sampling.arguments import OUTPUT_TYPES as OUTPUT_TYPES  # part of this module's interface
from .sampling.arguments import check_arguments
from .sampling.batch import Clip, EditBatch, check_batch, edit_batch
from .sampling.decode import decode_video
from .sampling.denoise import NO_GUIDANCE, OnStep, denoise
from .sampling.encode import Contexts, PictureLatents, encode_instructions, encode_pictures
from .sampling.guidance import Conditions, Guidance
from .sampling.noise import Generators, initial_noise
from .sampling.pinning import PinnedFrames, pin, pin_source
from .sampling.schedule import Level, start
from .speed.attention import use_attention
from .speed.constants import constants_of
from .speed.memory import MemoryPlan, within_memory
from .speed.parallel import one_clip
from .speed.placement import check_offload, store_in_fp8, stream_groups
from .speed.reuse import ENTRIES, Reuse, content_key, weights_key
from .speed.step_cache import StepCache
from .vae_layers import use_fast_layers
from .version import __version__

Result = TypeVar("Result")

# (pipe, step, timestep, tensors by name) -> tensors to replace
StepCallback = Callable[["InstructXPipeline", int, Tensor, dict[str, Tensor]], "dict[str, Tensor] | None"]


@dataclass
class InstructXPipelineOutput(BaseOutput):
    """frames: the edited clips, one an edit, [0, 1].

    "np": array (B, F, H, W, 3). "pt": tensor (B, F, 3, H, W). "pil": B lists of F images. "latent": (B, C, T, h, w).
    """

    frames: np.ndarray | Tensor | list[list[Image.Image]]


class InstructXPipeline(DiffusionPipeline, WanLoraLoaderMixin):
    """Edits an image or a clip by instruction.

    Components: vae, transformer (the DiT), encoder (MLLM, queries, connector), tokenizer, scheduler (any flow-matching
    one of diffusers). instructx: the InstructXConfig, or its JSON, stored with the pipeline; required (it has a default
    only because diffusers stores optional arguments alone).
    """

    load_reports: tuple[LoadReport, ...] = ()  # what load_pipeline and load_dit_lora read, in order
    model_cpu_offload_seq = "encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "context", "negative_context"]

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: InstructXTransformer3DModel,
        encoder: ContextEncoder,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        instructx: Union[str, InstructXConfig, None] = None,  # noqa: UP007 - older diffusers reads only this spelling
    ) -> None:
        super().__init__()
        if instructx is None:
            raise InputError("instructx is missing; give the InstructXConfig of these components or its JSON")
        config = InstructXConfig.from_json(instructx) if isinstance(instructx, str) else instructx
        use_fast_layers(vae)  # one that diffusers has loaded has its own
        self.register_modules(
            vae=vae, transformer=transformer, encoder=encoder, tokenizer=tokenizer, scheduler=scheduler
        )
        self.register_to_config(instructx=config.to_json())
        self.instructx_config = config
        self.video_processor = VideoProcessor(vae_scale_factor=config.vae.scale_factor_spatial)
        self.memory = MemoryPlan()  # tiles of the VAE, offload: speed/memory.py
        self.step_cache: StepCache | None = None
        self.reuse: Reuse | None = None
        self._guidance_scale = 1.0
        self._num_timesteps = 0
        self._current_timestep: Tensor | None = None
        self._interrupt = False

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1.0

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def current_timestep(self) -> Tensor | None:
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        """Set to True from a callback to stop after the current step; what is there is decoded."""
        return self._interrupt

    def load_dit_lora(
        self, path: str | Path, strength: float = 1.0, layers: str = "all", merge: bool = True, name: str | None = None
    ) -> LoadReport:
        """Add a LoRA file to the DiT; see apply_lora. layers="self" is for step-distilled ones (lightx2v, FastWan)."""
        name = name or Path(path).stem.replace(".", "_")
        with open_weights(path) as file:
            report = apply_lora(self.transformer, file, strength, layers, merge, name).log()
        self.load_reports = (*self.load_reports, report)
        return report

    def use_attention(self, mode: str = "auto") -> Session:
        """Attention of the DiT: "auto" (fastest that is proven on the card), "exact", "int8" or "off" (stock).

        The session returned says what ran and why (docs/kernels.md). Raises InputError for an unknown mode.
        """
        return use_attention(self.transformer, mode, self.instructx_config.name)

    def within_memory(self, stage: str, run: Callable[[], Result]) -> Result:
        """run(), and where memory ends again under each next smaller plan; InputError when there is none left."""
        device = self._execution_device
        movable = device.type != "cpu" and importlib.util.find_spec("accelerate") is not None
        offload = partial(self.enable_model_cpu_offload, device=device) if movable else None
        return within_memory(self.memory, stage, run, offload)

    def split(self, output: Path) -> AbstractContextManager[Path]:
        """In the block the processes of torchrun make one edit together; gives the file to write."""
        return one_clip(self.transformer, self.memory, self._execution_device, output)

    def enable_cache(self, cache: str | StepCache = "first-block") -> None:
        """Leave out blocks in steps that change little: "first-block", "mag" or "taylorseer", ":threshold" after it.

        Changes the picture a little, a higher threshold more. Raises InputError for an unknown one.
        """
        self.step_cache = StepCache.parse(cache) if isinstance(cache, str) else cache

    def disable_cache(self) -> None:
        self.step_cache = None

    def enable_reuse(self, folder: str | Path | None = None, entries: int = ENTRIES) -> None:
        """Keep what encoder and VAE make of a source, and find it again by content; in `folder` also for later runs.

        LoRA scales of the encoder that are switched without changing weights are not noticed. Raises InputError.
        """
        self.reuse = Reuse(folder, entries)

    def disable_reuse(self) -> None:
        self.reuse = None

    def place(self, offload: str, device: torch.device, fp8: bool = False) -> None:
        """Move a pipeline that was loaded on the CPU to `device`.

        offload: "none"; "model": one part at a time, the encoder leaves before the first step; "group": blocks of the
        DiT stream in one after the other, encoder and VAE by their layers. fp8: the DiT's linear layers are stored in
        float8_e4m3fn and computed in its dtype. Raises InputError for what this machine cannot do.
        """
        check_offload(offload, device)
        if fp8:
            store_in_fp8(self.transformer)
        self.memory.offloaded = self.memory.offloaded or offload != "none"
        if offload == "none":
            self.to(device)
        elif offload == "model":
            self.enable_model_cpu_offload(device=device)
        else:
            stream_groups(self.transformer, (self.encoder, self.vae), device)

    # --- one edit, or a batch of them ---

    @torch.no_grad()
    def __call__(
        self,
        source: Clip | Sequence[Clip],
        instruction: str | Sequence[str] | None = None,
        reference: Clip | Sequence[Clip | None] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        sigma_min: float | None = None,
        latents: Tensor | None = None,
        pinned: int = 0,
        context: Tensor | None = None,
        negative_context: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> InstructXPipelineOutput | tuple[np.ndarray | Tensor | list[list[Image.Image]]]:
        """Edit `source` as `instruction` says; or B sources by a list of B instructions, in one batch.

        source: PIL image, list of them, or uint8 / float [0,1] tensor or array (F, H, W, 3) or (H, W, 3). One frame is
            an image edit. F must be 4n+1, H and W multiples of `config.size_multiple`: nothing is resized here.
            A batch: a list of B of these, of one size and length, or a tensor or array (B, F, H, W, 3).
        reference: one such picture or several; padded with white to the output's size. A batch: a list of B of these.
        num_inference_steps, guidance_scale, fps (Hz): default to the config's sampling. guidance_scale 1 = no guidance,
            one forward a step; any other value costs a second one, without the instruction but with the same pictures.
        generator: of any device; the noise is drawn on its device. A batch: one each, and each edit has the noise that
            it has alone. Its result is then the same up to the rounding of larger matrix products.
        height, width: a check of the source's size. sigma_min: last noise level before the shift; default the config's.
        latents: initial noise (B, C, T, h, w). pinned: so many latent frames at the start stay the source's own; the
            rest follows them (sampling/pinning.py). context, negative_context: (B, L, D), instead of the instruction.
        output_type: one of OUTPUT_TYPES. callback_on_step_end(pipe, step, timestep, tensors) may return changed ones.
        Each stage runs within_memory. Raises InputError on unusable input, FloatingPointError for a step not finite.
        """
        check_arguments(locals())
        sampling = self.instructx_config.sampling
        steps = sampling.num_steps if num_inference_steps is None else num_inference_steps
        self._guidance_scale = float(sampling.guidance_scale if guidance_scale is None else guidance_scale)
        guidance = Guidance(self._guidance_scale, attention_kwargs)
        names = tuple(getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs))
        self.check_inputs(instruction, context, names)
        batch = edit_batch(source, instruction, reference, None if context is None else len(context))
        check_batch(batch, self.instructx_config, height, width)
        if self.step_cache is not None:
            self.step_cache.check_batch(len(batch), steps)
        fps, run = sampling.fps if fps is None else fps, self.within_memory
        contexts = run("encoding", partial(self._contexts, batch, fps, context, negative_context))
        pictures = run("encoding", partial(self.encode_pictures, batch))
        conditions = self.conditions(contexts, pictures)
        noise_BCTHW = self.prepare_latents(pictures.source, generator, latents)
        pins = pin_source(pictures.source, noise_BCTHW, pinned)
        hook = None if callback_on_step_end is None else self._step_hook(callback_on_step_end, names)
        latents = run("sampling", lambda: self.denoise(noise_BCTHW, conditions, steps, guidance, sigma_min, pins, hook))
        frames = latents if output_type == "latent" else run("decoding", partial(self.decode, latents, output_type))
        self.maybe_free_model_hooks()
        return InstructXPipelineOutput(frames=frames) if return_dict else (frames,)

    def _contexts(self, batch: EditBatch, fps: float, context: Tensor | None, negative: Tensor | None) -> Contexts:
        """Those given; what is not given is made of the instructions. Raises InputError for one of another batch."""
        for name, part in (("context", context), ("negative_context", negative)):
            if part is not None and (part.ndim != 3 or len(part) != len(batch)):
                raise InputError(
                    f"{name} is {tuple(part.shape)}; it must be (B, L, D) with a row for each of {len(batch)} edits"
                )
        if context is not None:
            return Contexts(context, negative)
        made = self.encode_instruction(batch, fps, self.do_classifier_free_guidance and negative is None)
        return made if negative is None else replace(made, negative=negative)

    @torch.no_grad()
    def encode_instruction(self, batch: EditBatch, fps: float, unconditional: bool = False) -> Contexts:
        """Contexts (B, L, D) of the instructions, and those without instruction (same pictures) when asked for."""
        device, encoder, tokenizer = self._execution_device, self.encoder, self.tokenizer
        make = partial(encode_instructions, encoder, tokenizer, batch, fps, device, unconditional)
        if self.reuse is None:
            return make()
        pictures = [list(each) for each in batch.references]
        parts = (batch.clips_BFHWC, list(batch.instructions), pictures, float(fps), unconditional)
        key = content_key("contexts", *self._provenance(self.encoder), *parts)
        return self.reuse.get(key, Contexts, make, device)

    @torch.no_grad()
    def encode_pictures(self, batch: EditBatch) -> PictureLatents:
        """Latents of the sources (B, C, T, h, w) and of the references (B, C, R, h, w) or None, normalised, fp32."""
        device = self._execution_device
        make = partial(encode_pictures, self.vae, self.instructx_config, batch, self.memory, device)
        if self.reuse is None:
            return make()
        pictures = [list(each) for each in batch.references]
        parts = (repr(self.memory.tile), batch.clips_BFHWC, pictures)
        key = content_key("picture latents", *self._provenance(self.vae), *parts)
        return self.reuse.get(key, PictureLatents, make, device)

    def _provenance(self, module: ContextEncoder | AutoencoderKLWan) -> tuple[str, ...]:
        """What a kept result depends on beside its inputs."""
        device, config = self._execution_device, self.instructx_config
        return __version__, config.to_json(), weights_key(module), str(module.dtype), device.type

    def conditions(self, contexts: Contexts, pictures: PictureLatents) -> Conditions:
        """What the DiT is given in every step, on its device and in its number format."""
        given = Conditions(contexts.positive, contexts.negative, pictures.source, pictures.references)
        return given.to(self._execution_device, self.transformer.dtype)

    def prepare_latents(self, source: Tensor, generator: Generators = None, latents: Tensor | None = None) -> Tensor:
        """Initial noise of the source latents' shape, fp32, drawn on the generator's device."""
        return initial_noise(source, generator, latents)

    @torch.no_grad()
    def denoise(
        self,
        noise: Tensor,
        conditions: Conditions,
        num_inference_steps: int,
        guidance: Guidance = NO_GUIDANCE,
        sigma_min: float | None = None,
        pinned: PinnedFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Noise (B, C, T, h, w), fp32 -> edited latents, under `conditions` as self.conditions gives them.

        Constants are hoisted, and the step cache is on, for as long as it runs.
        """
        guidance.check(conditions)
        model, device = self.transformer, noise.device
        sigma_min = self.instructx_config.sampling.sigma_min if sigma_min is None else sigma_min
        levels = start(self.scheduler, num_inference_steps, device, sigma_min)
        self._num_timesteps, self._interrupt, self._guidance_scale = len(levels), False, guidance.scale
        cached = nullcontext()
        if self.step_cache is not None:
            self.step_cache.check_batch(len(noise), num_inference_steps)
            cached = self.step_cache.around(model, num_inference_steps, guidance.branches)
        latents = pin(noise, pinned, levels[0].sigma)
        with constants_of(model), cached, self.progress_bar(total=num_inference_steps) as progress:
            walk = self._walk(levels, progress.update)
            return denoise(model, self.scheduler, latents, conditions, walk, guidance, pinned, on_step)

    def _walk(self, levels: Sequence[Level], update: Callable[[], Any]) -> Iterator[Level]:
        """The levels, until a callback interrupts; what diffusers shows of the loop is set meanwhile."""
        for level in levels:
            if self._interrupt:
                break
            self._current_timestep = level.timestep
            yield level
            if level.ends_step:
                update()
        self._current_timestep = None

    def _step_hook(self, callback: StepCallback, names: Sequence[str]) -> OnStep:
        """A callback of diffusers as what the loop calls."""

        def on_step(
            level: Level, latents: Tensor, conditions: Conditions, guidance: Guidance
        ) -> tuple[Tensor, Conditions, Guidance]:
            named = {**dict.fromkeys(self._callback_tensor_inputs), **conditions.tensors(), "latents": latents}
            changed = dict(callback(self, level.step, level.timestep, {name: named[name] for name in names}) or {})
            latents = changed.pop("latents", latents)
            conditions = conditions.changed(changed)
            if self._guidance_scale != guidance.scale:  # diffusers' dynamic guidance: a callback sets the scale
                guidance = replace(guidance, scale=self._guidance_scale)
                guidance.check(conditions)
            return latents, conditions, guidance

        return on_step

    @torch.no_grad()
    @overload
    def decode(self, latents: Tensor, output_type: Literal["pt"]) -> Tensor: ...

    @overload
    def decode(self, latents: Tensor, output_type: str = "np") -> np.ndarray | Tensor | list[list[Image.Image]]: ...

    def decode(self, latents: Tensor, output_type: str = "np") -> np.ndarray | Tensor | list[list[Image.Image]]:
        """Normalised latents -> frames in [0, 1] of `output_type`; values outside are clamped, as in every pipeline."""
        video_BCFHW = decode_video(self.vae, self.instructx_config.vae, latents, self.memory, self._execution_device)
        return self.video_processor.postprocess_video(video_BCFHW.float(), output_type=output_type)

    def check_inputs(
        self,
        instruction: str | Sequence[str] | None,
        context: Tensor | None,
        tensor_inputs: Sequence[str],
    ) -> None:
        """Raises InputError naming value, rule and remedy."""
        if (instruction is None) == (context is None):
            raise InputError("give either an instruction or a context, not both and not neither")
        unknown = [name for name in tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            allowed = ", ".join(self._callback_tensor_inputs)
            raise InputError(f"callback tensors {unknown} are unknown; use some of {allowed}")
