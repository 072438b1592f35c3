"""InstructXPipeline: source clip or image + instruction (+ references) -> edited frames.

Paper Fig. 2 in four steps: the encoder turns frames and instruction into the context; the VAE turns source and
references into latents; the DiT denoises under both; the VAE decodes. A diffusers pipeline: schedulers, LoRA,
offloading, callbacks and save/load work as in every other one.
Legend: B batch (1), F pixel frames, T latent frames, R references, C channels, H W, L tokens, D width, N steps.
"""

# No `from __future__ import annotations`: diffusers reads the annotations of __init__, older releases not as strings.

import importlib.util
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, cast

import numpy as np
import torch
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.models import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .config import InstructXConfig
from .denoiser import InstructXTransformer3DModel
from .encoder.instruction import check_instruction
from .encoder.model import InstructXEncoder, drop_instruction, prepare_inputs
from .errors import InputError
from .formats.layouts.lora import LoadsFiles
from .geometry import check_size, latent_frames, pixel_frames
from .kernels import Session
from .media.pixels import as_frames, as_references, check_clip_sizes, pad_reference, to_signed, to_uint8
from .sampling.pinning import check_pinned, pin
from .sampling.schedule import start
from .speed.attention import session_of, use_attention
from .speed.memory import MemoryPlan, within_memory
from .speed.options import Speed, cache_context, in_steps
from .speed.parallel import one_clip
from .speed.reuse import reused
from .vae import decode_latents, encode_latents

logger = logging.getLogger("instructx")

Result = TypeVar("Result")
OUTPUT_TYPES = ("np", "pt", "pil", "latent")

# (pipe, step, timestep, tensors by name) -> tensors to replace
StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


@dataclass
class InstructXPipelineOutput(BaseOutput):
    """frames: one edited clip in a batch of 1, [0, 1].

    "np": array (1, F, H, W, 3). "pt": tensor (1, F, 3, H, W). "pil": [[F images]]. "latent": (1, C, T, H/8, W/8).
    """

    frames: np.ndarray | Tensor | list[list[Image.Image]]


class InstructXPipeline(LoadsFiles, DiffusionPipeline, WanLoraLoaderMixin, Speed):
    """Edits an image or a clip by instruction.

    Components: vae, transformer (the DiT), encoder (MLLM, queries, connector), tokenizer, scheduler (any flow-matching
    one of diffusers). instructx: the InstructXConfig, or its JSON, stored with the pipeline; required (it has a default
    only because diffusers stores optional arguments alone).
    """

    model_cpu_offload_seq = "encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "context", "negative_context"]

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: InstructXTransformer3DModel,
        encoder: InstructXEncoder,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        instructx: Union[str, InstructXConfig, None] = None,  # noqa: UP007 - older diffusers reads only this spelling
    ) -> None:
        super().__init__()
        if instructx is None:
            raise InputError("instructx is missing; give the InstructXConfig of these components or its JSON")
        config = InstructXConfig.from_json(instructx) if isinstance(instructx, str) else instructx
        self.register_modules(
            vae=vae, transformer=transformer, encoder=encoder, tokenizer=tokenizer, scheduler=scheduler
        )
        self.register_to_config(instructx=config.to_json())
        self.instructx_config = config
        self.video_processor = VideoProcessor(vae_scale_factor=config.vae.scale_factor_spatial)
        self.memory = MemoryPlan()  # tiles of the VAE, offload: speed/memory.py
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

    @reused("encoder")
    @torch.no_grad()
    def encode_instruction(
        self, frames_FHWC: Tensor, instruction: str, references: list[Tensor], fps: float, unconditional: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Context (1, L, D) of the instruction, and the one without instruction (same pictures) when asked for."""
        device, dtype = self._execution_device, self.encoder.dtype
        config = self.instructx_config
        pictures = [[picture.cpu() for picture in references]] if references else None
        inputs = prepare_inputs(self.tokenizer, config, [instruction], [to_uint8(frames_FHWC).cpu()], pictures, fps)
        context_BLD = self.encoder(inputs.to(device, dtype))
        if not unconditional:
            return context_BLD, None
        negative = drop_instruction(self.tokenizer, config, inputs)
        return context_BLD, self.encoder(negative.to(device, dtype))

    @torch.no_grad()
    def __call__(
        self,
        source: Any,
        instruction: str | None = None,
        reference: Any = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
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
    ) -> InstructXPipelineOutput | tuple[Any]:
        """Edit `source` as `instruction` says.

        source: PIL image, list of them, or uint8 / float [0,1] tensor or array (F, H, W, 3) or (H, W, 3). One frame is
            an image edit. F must be 4n+1, H and W multiples of `config.size_multiple`: nothing is resized here.
        reference: one such picture or several, any size; padded with white to the output's size, never stretched.
        num_inference_steps, guidance_scale, fps (Hz): default to the config's sampling. guidance_scale 1 = no guidance,
            one forward a step; any other value costs a second one, without the instruction but with the same pictures.
        generator: of any device; the noise is drawn on its device. height, width: a check of the source's size.
        sigma_min: last noise level before the shift; default the config's.
        latents: initial noise (1, C, T, h, w). pinned: so many latent frames at the start stay the source's own; the
            rest follows them (pinning.py). context, negative_context: precomputed, instead of the instruction.
        output_type: "np", "pt", "pil" or "latent" (normalised).
        callback_on_step_end(pipe, step, timestep, tensors) may return changed tensors.
        Raises InputError on unusable input, FloatingPointError when a step is not finite.
        """
        sampling = self.instructx_config.sampling
        steps = sampling.num_steps if num_inference_steps is None else num_inference_steps
        self._guidance_scale = float(sampling.guidance_scale if guidance_scale is None else guidance_scale)
        names = tuple(getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs))
        frames_FHWC, references = as_frames(source), as_references(reference)
        self.check_inputs(frames_FHWC, instruction, references, (height, width), context, output_type, names)
        if context is None:
            context, dropped = self.encode_instruction(
                frames_FHWC, cast(str, instruction), references, sampling.fps if fps is None else fps,
                unconditional=self.do_classifier_free_guidance and negative_context is None,
            )  # fmt: skip
            negative_context = dropped if negative_context is None else negative_context
        source_BCTHW, references_BCRHW = self.encode_pictures(frames_FHWC, references)
        tensors = self.to_denoiser(context, negative_context, source_BCTHW, references_BCRHW)
        latents = self.prepare_latents(source_BCTHW, generator, latents)
        clean = check_pinned(source_BCTHW, pinned)
        latents = self.denoise(latents, tensors, steps, sigma_min, attention_kwargs, callback_on_step_end, names, clean)
        frames = latents if output_type == "latent" else self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return InstructXPipelineOutput(frames=frames) if return_dict else (frames,)

    def to_denoiser(
        self, context: Tensor, negative_context: Tensor | None, source: Tensor, references: Tensor | None
    ) -> dict[str, Tensor | None]:
        """What `denoise` needs, on the execution device in the DiT's dtype. Raises InputError without a needed part."""
        if self.do_classifier_free_guidance and negative_context is None:
            raise InputError("guidance with a given context needs negative_context too; or set guidance_scale=1")
        parts = {"context": context, "negative_context": negative_context, "source": source, "references": references}
        device, dtype = self._execution_device, self.transformer.dtype
        return {name: None if part is None else part.to(device, dtype) for name, part in parts.items()}

    @in_steps
    @torch.no_grad()
    def denoise(
        self,
        latents: Tensor,
        tensors: dict[str, Tensor | None],
        num_inference_steps: int,
        sigma_min: float | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_tensors: Sequence[str] = ("latents",),
        pinned: Tensor | None = None,
    ) -> Tensor:
        """Noise (1, C, T, h, w), fp32 -> edited latent. `tensors` from to_denoiser; pinned: its first frames, clean."""
        sigma_min = self.instructx_config.sampling.sigma_min if sigma_min is None else sigma_min
        timesteps_N, sigmas_N = start(self.scheduler, num_inference_steps, latents.device, sigma_min)
        self._num_timesteps, self._interrupt = len(timesteps_N), False
        warmup = len(timesteps_N) - num_inference_steps * self.scheduler.order
        noise, latents = latents, pin(latents, pinned, latents, sigmas_N[0])
        with self.progress_bar(total=num_inference_steps) as progress:
            for i, timestep in enumerate(timesteps_N):
                if self._interrupt:
                    break
                self._current_timestep = timestep
                velocity = self.predict(latents, sigmas_N[i], i, tensors, attention_kwargs)
                latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                latents = pin(latents, pinned, noise, sigmas_N[i + 1] if i + 1 < len(sigmas_N) else 0.0)
                if callback_on_step_end is not None:
                    named = {**tensors, "latents": latents}
                    changed = callback_on_step_end(self, i, timestep, {name: named[name] for name in callback_tensors})
                    changed = dict(changed or {})
                    latents = changed.pop("latents", latents)
                    tensors = {**tensors, **changed}
                if i == len(timesteps_N) - 1 or ((i + 1) > warmup and (i + 1) % self.scheduler.order == 0):
                    progress.update()
        self._current_timestep = None
        return latents

    def predict(
        self,
        latents_BCTHW: Tensor,
        sigma: Tensor,
        step: int,
        tensors: dict[str, Tensor | None],
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """Velocity at one step, guidance included, fp32. `tensors`: context, negative_context, source, references.

        Where int8 attention made it non-finite it is computed once more with exact attention, which then stays.
        Raises FloatingPointError when it is not finite all the same.
        """
        arguments = (latents_BCTHW, sigma, step, tensors, attention_kwargs)
        velocity_BCTHW = self._velocity(*arguments)
        session = session_of(self.transformer)
        if torch.isfinite(velocity_BCTHW).all():
            return velocity_BCTHW
        if session is not None and session.demote(f"output not finite with int8 attention at step {step}"):
            logger.warning("attention of %s: %s; the step is repeated exactly", session.name, session.demoted)
            velocity_BCTHW = self._velocity(*arguments)
        if not torch.isfinite(velocity_BCTHW).all():
            raise FloatingPointError(
                f"the denoiser's output is not finite at step {step} (sigma {float(sigma):.3f}, "
                f"{self.transformer.dtype}); run in bfloat16 or float32, or check the weights"
            )
        return velocity_BCTHW

    def _velocity(
        self,
        latents_BCTHW: Tensor,
        sigma: Tensor,
        step: int,
        tensors: dict[str, Tensor | None],
        attention_kwargs: dict[str, Any] | None,
    ) -> Tensor:
        model = self.transformer
        dtype = cast(Tensor, tensors["context"]).dtype  # the DiT's, by to_denoiser; model.dtype looks at every weight
        noisy_BCTHW = latents_BCTHW.to(dtype)
        timestep_B = (sigma.float() * 1000.0).expand(noisy_BCTHW.shape[0])
        where = {"step_index": step, "sigma": sigma, "num_inference_steps": self._num_timesteps}

        def forward(branch: str, context_BLD: Tensor | None) -> Tensor:
            with cache_context(model, branch, where):
                return model(
                    hidden_states=noisy_BCTHW,
                    timestep=timestep_B,
                    encoder_hidden_states=context_BLD,
                    source=tensors["source"],
                    references=tensors["references"],
                    attention_kwargs=attention_kwargs,
                    return_dict=False,
                )[0].float()

        velocity_BCTHW = forward("cond", tensors["context"])
        if self.do_classifier_free_guidance:
            free_BCTHW = forward("uncond", tensors["negative_context"])
            velocity_BCTHW = free_BCTHW + self._guidance_scale * (velocity_BCTHW - free_BCTHW)
        return velocity_BCTHW

    @reused("vae")
    @torch.no_grad()
    def encode_pictures(self, frames_FHWC: Tensor, references: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Latents of the source (1, C, T, h, w) and of the references (1, C, R, h, w) or None, normalised, fp32."""
        device, rounding = self._execution_device, self.instructx_config.instruction.pixel_rounding
        frames, height, width = frames_FHWC.shape[:3]
        with self.memory.vae(self, frames, height, width) as tiling:
            source_BCTHW = encode_latents(self.vae, to_signed(frames_FHWC, rounding), tiling, device)
        if not references:
            return source_BCTHW, None
        singles = []
        for picture in references:  # one frame each: as a clip the VAE would compress them in time
            padded_HWC = pad_reference(picture, height, width)
            with self.memory.vae(self, 1, height, width) as tiling:
                singles.append(encode_latents(self.vae, to_signed(padded_HWC[None], rounding), tiling, device))
        return source_BCTHW, torch.cat(singles, dim=2)

    def prepare_latents(
        self, source_BCTHW: Tensor, generator: torch.Generator | None, latents: Tensor | None = None
    ) -> Tensor:
        """Initial noise of the source's latent shape, fp32, drawn on the generator's device."""
        if latents is None:
            return randn_tensor(
                source_BCTHW.shape, generator=generator, device=source_BCTHW.device, dtype=torch.float32
            )
        if latents.shape != source_BCTHW.shape:
            raise InputError(f"latents {tuple(latents.shape)} must have the source's shape {tuple(source_BCTHW.shape)}")
        return latents.to(source_BCTHW.device, torch.float32)

    @torch.no_grad()
    def decode(self, latents_BCTHW: Tensor, output_type: str = "np") -> Any:
        """Normalised latents -> frames in [0, 1] of `output_type`; values outside are clamped, as in every pipeline."""
        vae, (t, h, w) = self.instructx_config.vae, latents_BCTHW.shape[2:]
        size = (pixel_frames(t, vae.scale_factor_temporal), h * vae.scale_factor_spatial, w * vae.scale_factor_spatial)
        with self.memory.vae(self, *size) as tiling:
            video_BCFHW = decode_latents(self.vae, latents_BCTHW.to(self._execution_device), tiling)
        if not torch.isfinite(video_BCFHW).all():
            raise FloatingPointError(f"pixels of the VAE are not finite ({self.vae.dtype}); use bfloat16 or float32")
        return self.video_processor.postprocess_video(video_BCFHW.float(), output_type=output_type)

    def check_inputs(
        self,
        frames_FHWC: Tensor,
        instruction: str | None,
        references: list[Tensor],
        size: tuple[int | None, int | None],
        context: Tensor | None,
        output_type: str,
        tensor_inputs: Sequence[str],
    ) -> None:
        """Raises InputError naming value, rule and remedy."""
        config = self.instructx_config
        latent_frames(frames_FHWC.shape[0], config.vae.scale_factor_temporal)
        have = tuple(frames_FHWC.shape[1:3])
        wanted = (have[0] if size[0] is None else size[0], have[1] if size[1] is None else size[1])
        check_size(*wanted, config)
        if wanted != have:
            raise InputError(
                f"source is {have[1]}x{have[0]} but {wanted[1]}x{wanted[0]} was asked for; scale and crop it first "
                "(instructx_core.geometry.fit_size gives the box)"
            )
        check_clip_sizes(references)
        if (instruction is None) == (context is None):
            raise InputError("give either an instruction or a context, not both and not neither")
        if instruction is not None:
            check_instruction(instruction)
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type {output_type!r} is unknown; use one of {', '.join(OUTPUT_TYPES)}")
        unknown = [name for name in tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            allowed = ", ".join(self._callback_tensor_inputs)
            raise InputError(f"callback tensors {unknown} are unknown; use some of {allowed}")
