"""Training of the tiny Wan VAE on pictures and clips of the procedural world: the whole VAE, or its decoder alone.

L1 reconstruction plus, for the whole, a small KL term; `finish` then folds an affine into the first and last latent
convolution so that the latents have the mean and standard deviation that the Wan2.1 format promises
(vae.fold_latent_scale). The decoder alone leaves the latents as they are, and with them the pools and the DiT.
Legend: B batch, C channels, F frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import shapes
from ..config import InstructXConfig
from ..vae import build_vae, fold_latent_scale, speed_up_single_frames
from . import rng
from .pictures import save_grid, to_pixels, to_uint8
from .pools import edit_sample
from .recipes import Recipe
from .start import final_weights, load_into
from .trainer import Bucket
from .vae_start import start_simple

KL_WEIGHT = 1e-5
STATISTICS_SAMPLES = 256


# Kinds of pictures, drawn evenly. The hard ones, fine lines and patterns, have kinds of their own.
EDITS = {
    "image": ("scene", "edit", "style", "reference_add", "reference_swap", "reference"),
    "video": ("scene", "edit", "reference_add", "reference_swap"),
}


def scene_batch(split: str, indices: np.ndarray, modality: str) -> Tensor:
    """(B,3,F,H,W) in [-1,1]."""
    looks = shapes.looks_of(modality)
    return torch.stack([to_pixels(shapes.scene_sample(split, int(i), modality, looks)[0]) for i in indices])


def weigh(regions: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Weights (F,H,W) with mean 1: half for the picture, half for its regions, each as much as another.

    The success of an edit is judged region by region (shapes/success.py), and a region may be 3 % of the picture.
    """
    even = np.ones(shape, np.float32)
    if not regions:
        return even
    parts = [mask * np.float32(mask.size / max(1, mask.sum())) for mask in regions]
    return 0.5 * even + 0.5 * np.mean(parts, 0)


def edit_picture(split: str, number: int, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """Number -> frames (F,H,W,3) uint8 and weights (F,H,W): scenes, targets of edits, and reference pictures."""
    kind = EDITS[modality][number % len(EDITS[modality])]
    if kind == "scene":
        frames = shapes.scene_sample(split, number, modality, shapes.looks_of(modality))[0]
        return frames, weigh((), frames.shape[:3])
    if kind == "edit":
        sample = edit_sample(split, number, modality, has_reference=False)
    else:
        sample = shapes.sample(split, number, modality, "reference_add" if kind == "reference" else kind)
    if kind == "reference":
        assert sample.reference_HWC is not None
        frames = sample.reference_HWC[None]
        return frames, weigh((), frames.shape[:3])
    return sample.target_FHWC, weigh([mask for _, mask in sample.regions], sample.target_FHWC.shape[:3])


def picture_batch(split: str, indices: np.ndarray, modality: str, pictures: str) -> tuple[Tensor, Tensor]:
    """Pixels (B,3,F,H,W) in [-1,1] and weights (B,1,F,H,W). pictures: Recipe.pictures."""
    if pictures == "scenes":
        pixels = scene_batch(split, indices, modality)
        return pixels, torch.ones_like(pixels[:, :1])
    pairs = [edit_picture(split, int(i), modality) for i in indices]
    weights = torch.stack([torch.from_numpy(weight)[None] for _, weight in pairs])
    return torch.stack([to_pixels(frames) for frames, _ in pairs]), weights


PARTS = {("vae",): ("vae.",), ("vae.decoder",): ("vae.decoder.", "vae.post_quant_conv.")}


class VaeJob:
    def __init__(self, recipe: Recipe, config: InstructXConfig, output: Path) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        speed_up_single_frames(self.vae)
        start_simple(self.vae)
        self.root = nn.ModuleDict({"vae": self.vae})
        for required in recipe.requires:
            tensors = final_weights(output, required)
            load_into(self.root, {name: value for name, value in tensors.items() if name.startswith("vae.")})
        self.whole = recipe.train == ("vae",)
        parts = PARTS[recipe.train]
        self.trainable = {name: p for name, p in self.root.named_parameters() if name.startswith(parts)}
        self.root.requires_grad_(False)
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)

    def bucket(self, step: int) -> Bucket:
        modality = rng.draw_modality(self.recipe.seed, step, self.recipe.video_probability)
        video = modality == "video"
        recipe = self.recipe
        return Bucket(
            modality,
            False,
            recipe.video_batch if video else recipe.image_batch,
            recipe.micro_video_batch if video else recipe.micro_image_batch,
        )

    def loss(self, step: int, bucket: Bucket, positions: range) -> Tensor:
        indices = rng.draw_indices(self.recipe.seed, step, bucket.batch, 10**9)[positions.start : positions.stop]
        pixels, weights = picture_batch("train", indices, bucket.modality, self.recipe.pictures)
        pixels, weights = self._crop(pixels, step), self._crop(weights, step)
        posterior = self.vae.encode(pixels).latent_dist
        noise = rng.draw_noise(self.recipe.seed, step, positions, tuple(posterior.mean.shape[1:]))
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        error = ((decoded.float() - pixels).abs() * weights).mean()
        if not self.whole:
            return error
        return error + KL_WEIGHT * 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).mean()

    def _crop(self, pixels_BCFHW: Tensor, step: int) -> Tensor:
        """A crop on the latent grid: convolutions learn as well from a quarter of the pixels, in a quarter of the time.

        The last sixth of the steps sees whole frames, as the attention in the middle will.
        """
        side = self.recipe.crop
        if not side or step >= self.recipe.num_steps * 5 // 6:
            return pixels_BCFHW
        steps = (pixels_BCFHW.shape[-1] - side) // 8 + 1
        top, left = (8 * rng.philox(self.recipe.seed, step, rng.CROP).integers(0, steps, 2)).tolist()
        return pixels_BCFHW[..., top : top + side, left : left + side].contiguous()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute error of a round trip, in [0,1] units, on unseen pictures and clips."""
        errors = {}
        for modality, count in (("image", 64), ("video", 6)):
            pixels, _ = picture_batch("val", np.arange(count), modality, self.recipe.pictures)
            decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
            errors[modality] = ((decoded.clamp(-1, 1) - pixels).abs().mean() / 2).item()
        return errors

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        pictures = self.recipe.pictures
        image, _ = picture_batch("val", np.arange(12), "image", pictures)
        clip, _ = picture_batch("val", np.arange(1), "video", pictures)
        rows = []
        for pixels in (image, clip):
            decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
            for side in (pixels, decoded):
                frames = to_uint8(side.permute(0, 2, 3, 4, 1)).reshape(-1, *side.shape[-2:], 3)
                rows.append(list(frames[:: max(1, len(frames) // 12)])[:12])
        save_grid(path, rows)

    @torch.no_grad()
    def finish(self) -> None:
        """Gives the latents the Wan format's statistics; call with the averaged weights in place."""
        if not self.whole or self.recipe.video_probability == 0:  # clips come in a later recipe, which does it then
            return
        images = scene_batch("train", np.arange(STATISTICS_SAMPLES), "image")
        clips = scene_batch("train", np.arange(STATISTICS_SAMPLES // 16), "video")
        cells = [self.vae.encode(x).latent_dist.mode().transpose(0, 1).flatten(1) for x in (images, clips)]
        latent_CN = torch.cat(cells, 1)
        fold_latent_scale(self.vae, latent_CN.mean(1), latent_CN.std(1))
