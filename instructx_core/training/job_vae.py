"""Pretraining of the tiny Wan VAE on pictures and clips of the procedural world.

L1 reconstruction plus a small KL term. Afterwards `finish` folds an affine into the first and last latent
convolution so that the latents have the mean and standard deviation that the Wan2.1 format promises
(vae.fold_latent_scale).
Legend: B batch, C channels, F frames, H W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import shapes
from ..config import InstructXConfig
from ..vae import build_vae, fold_latent_scale, speed_up_single_frames
from . import rng
from .pictures import save_grid, to_uint8
from .recipes import Recipe
from .run import final_weights, load_into
from .trainer import Bucket
from .vae_start import start_simple

KL_WEIGHT = 1e-5
STATISTICS_SAMPLES = 256


def to_pixels(frames_FHWC: np.ndarray) -> Tensor:
    """uint8 (F,H,W,3) -> [-1,1] (3,F,H,W)."""
    return torch.from_numpy(frames_FHWC).permute(3, 0, 1, 2).float() / 127.5 - 1


def scene_batch(split: str, indices: np.ndarray, modality: str) -> Tensor:
    """(B,3,F,H,W) in [-1,1]."""
    looks = shapes.looks_of(modality)
    return torch.stack([to_pixels(shapes.scene_sample(split, int(i), modality, looks)[0]) for i in indices])


class VaeJob:
    def __init__(self, recipe: Recipe, config: InstructXConfig, output: Path) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        speed_up_single_frames(self.vae)
        start_simple(self.vae)
        self.root = nn.ModuleDict({"vae": self.vae})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        self.trainable = dict(self.root.named_parameters())

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
        pixels = self._crop(scene_batch("train", indices, bucket.modality), step)
        posterior = self.vae.encode(pixels).latent_dist
        noise = rng.draw_noise(self.recipe.seed, step, positions, tuple(posterior.mean.shape[1:]))
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).mean()
        return (decoded.float() - pixels).abs().mean() + KL_WEIGHT * divergence

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
            pixels = scene_batch("val", np.arange(count), modality)
            decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
            errors[modality] = ((decoded.clamp(-1, 1) - pixels).abs().mean() / 2).item()
        return errors

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        image, clip = scene_batch("val", np.arange(8), "image"), scene_batch("val", np.arange(1), "video")
        rows = []
        for pixels in (image, clip):
            decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
            for side in (pixels, decoded):
                frames = to_uint8(side.permute(0, 2, 3, 4, 1)).reshape(-1, *side.shape[-2:], 3)
                rows.append(list(frames[:: max(1, len(frames) // 8)])[:8])
        save_grid(path, rows)

    @torch.no_grad()
    def finish(self) -> None:
        """Gives the latents the Wan format's statistics; call with the averaged weights in place."""
        if self.recipe.video_probability == 0:  # clips come in a later recipe, which does it then
            return
        images = scene_batch("train", np.arange(STATISTICS_SAMPLES), "image")
        clips = scene_batch("train", np.arange(STATISTICS_SAMPLES // 16), "video")
        cells = [self.vae.encode(x).latent_dist.mode().transpose(0, 1).flatten(1) for x in (images, clips)]
        latent_CN = torch.cat(cells, 1)
        fold_latent_scale(self.vae, latent_CN.mean(1), latent_CN.std(1))
