"""The host's symbols on the DiT's side: patching a MODEL, conditioning entries, sampling. Beside host.py, same rule.

Everything is imported inside the functions, so that a renamed symbol breaks the node that uses it and not the pack.
Legend: B batch, C latent channels, T latent frames, H W latent size, N steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from .settings import SamplerInputs, SamplingSettings

# The choices of the host's Load Diffusion Model: dtype of torch (None: the file's), whether fp8 products are used.
WEIGHT_DTYPES = {
    "default": (None, False),
    "fp8_e4m3fn": ("float8_e4m3fn", False),
    "fp8_e4m3fn_fast": ("float8_e4m3fn", True),
    "fp8_e5m2": ("float8_e5m2", False),
}


def wrapper_kinds() -> Any:
    """Names of the places where a model can be wrapped: .DIFFUSION_MODEL, .PREPARE_SAMPLING."""
    from comfy.patcher_extension import WrappersMP

    return WrappersMP


def load_host_model(read: Callable[[], dict[str, Tensor]], **options: Any) -> Any:
    """A MODEL from a function that reads a DiT in the names of Wan files; newer hosts may read it again later.

    Raises ValueError when the host does not know the DiT.
    """
    from comfy.sd import load_diffusion_model_state_dict

    model = load_diffusion_model_state_dict(read(), **options)
    if model is None:
        raise ValueError("this ComfyUI does not know the DiT of the checkpoint; update ComfyUI")
    model.cached_patcher_init = (load_host_model, (read,))
    return model


def load_denoiser_file(path: Path, weight_dtype: str = "default") -> Any:
    """A MODEL from a file, as the host's Load Diffusion Model reads it."""
    import torch
    from comfy.sd import load_diffusion_model

    if weight_dtype not in WEIGHT_DTYPES:  # 0.3.75 does not check
        raise ValueError(f"weight_dtype is {weight_dtype!r}; use {', '.join(WEIGHT_DTYPES)}")
    name, fast = WEIGHT_DTYPES[weight_dtype]
    options = {} if name is None else {"dtype": getattr(torch, name)}
    return load_diffusion_model(str(path), model_options=options | ({"fp8_optimizations": True} if fast else {}))


def load_vae_file(path: Path) -> Any:
    """A VAE from a file, as the host's Load VAE reads it. Raises RuntimeError when the file is none."""
    from comfy import sd, utils

    vae = sd.VAE(sd=utils.load_torch_file(str(path)))
    vae.throw_exception_if_invalid()
    if hasattr(sd, "load_vae_patcher"):  # what opens the file anew, for a newer host that reads it again later
        vae.patcher.cached_patcher_init = (sd.load_vae_patcher, (str(path), None, None))
    return vae


def compute_dtype(model: Any) -> Any:
    """The dtype that a MODEL computes in; its weights may be kept in another."""
    return getattr(model.model, "manual_cast_dtype", None) or model.model_dtype()


def pad_to_patch_size(latent_BCTHW: Tensor, patch_size: tuple[int, int, int]) -> Tensor:
    """The latent with its sides filled up to the patch, by the host's own rule."""
    from comfy.ldm.common_dit import pad_to_patch_size as pad

    return pad(latent_BCTHW, patch_size)


def noise_shaped(latent_BCTHW: Tensor) -> Any:
    """A conditioning tensor on the grid of the noise: the host cuts it with areas, repeats it over a batch."""
    from comfy.conds import CONDNoiseShape

    return CONDNoiseShape(latent_BCTHW)


def constant(value: Any) -> Any:
    """A conditioning entry that the host hands over as it is."""
    from comfy.conds import CONDConstant

    return CONDConstant(value)


def sampler_names() -> list[str]:
    from comfy.samplers import KSampler

    return list(KSampler.SAMPLERS)


def scheduler_names() -> list[str]:
    from comfy.samplers import KSampler

    return list(KSampler.SCHEDULERS)


def with_shift(model: Any, shift: float) -> Any:
    """A clone of the MODEL with this shift, by the host's node ModelSamplingSD3."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    return ModelSamplingSD3().patch(model, shift)[0]


def scheduled_sigmas(model: Any, settings: SamplingSettings) -> Tensor:
    """(N + 1,) noise levels of one of the host's schedulers, exactly those of its KSampler."""
    from comfy.samplers import KSampler

    return KSampler(
        model,
        settings.steps,
        model.load_device,
        settings.sampler_name,
        settings.scheduler,
        settings.denoise,
        model.model_options,
    ).sigmas


def host_noise(model: Any, latent: dict[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """(noise, latent) of a LATENT, both (B, C, T, H, W): drawn on the CPU, so a seed means the same everywhere."""
    from comfy import sample

    start_BCTHW = sample.fix_empty_latent_channels(model, latent["samples"])
    return sample.prepare_noise(start_BCTHW, seed, latent.get("batch_index")), start_BCTHW


def run_sampler(
    edit: SamplerInputs,
    noise: Tensor,
    start: Tensor,
    sigmas: Tensor,
    settings: SamplingSettings,
    callback: Callable[..., None] | None = None,
) -> Tensor:
    """The host's sampling loop, with its progress bar, latent preview and interrupt; or with another `callback`."""
    import latent_preview
    from comfy import sample, utils
    from comfy.samplers import sampler_object

    return sample.sample_custom(
        edit.model,
        noise,
        settings.cfg,
        sampler_object(settings.sampler_name),
        sigmas,
        edit.positive,
        edit.negative,
        start,
        noise_mask=edit.latent.get("noise_mask"),
        callback=callback or latent_preview.prepare_callback(edit.model, len(sigmas) - 1),
        disable_pbar=not utils.PROGRESS_BAR_ENABLED,
        seed=settings.seed,
    )


def window_callback(model: Any, bar: Any, before: int, total: int) -> Callable[..., None]:
    """A sampler's callback for one of several windows: the host's own previews, progress counted over all windows."""
    import latent_preview

    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def callback(step: int, x0: Tensor, _x: Tensor, _steps: int) -> None:
        preview = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None
        bar.update_absolute(before + step + 1, total, preview)

    return callback


def interruption() -> type[BaseException]:
    """What the host raises after the artist pressed Cancel."""
    from comfy.model_management import InterruptProcessingException

    return InterruptProcessingException


@contextmanager
def interruptible(vae: Any) -> Iterator[None]:
    """Inside, Cancel stops the VAE within a clip: it takes a few frames at a time, the host looks only behind it."""
    from .host import check_interrupted

    parts = (getattr(vae.first_stage_model, name, None) for name in ("encoder", "decoder"))
    hooks = [part.register_forward_pre_hook(lambda *_: check_interrupted()) for part in parts if part is not None]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
