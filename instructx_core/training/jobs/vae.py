"""Training of a Wan VAE on pictures and clips of a source: the whole VAE, or its decoder alone.

L1 reconstruction plus, for the whole, a small KL term; `finish` then folds an affine into the first and last latent
convolution so that the latents have the mean and standard deviation that the Wan2.1 format promises
(vae.fold_latent_scale). The decoder alone leaves the latents as they are, and with them the cache and the DiT.
Legend: B batch, C channels, F frames, H W pixels, N latent cells.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.encoding import to_pixels
from ...data.samples import Regions
from ...data.source import PretrainingSource
from ...vae import build_vae, fold_latent_scale, speed_up_single_frames
from .. import rng
from ..pictures import save_grid, to_uint8
from ..recipes.vae import VaeRecipe
from ..start import final_weights, load_into
from ..vae_start import start_simple
from .drawing import draw_batch, first_numbers, plain_buckets, validation_counts
from .job import GlobalBatch

KL_WEIGHT = 1e-5
STATISTICS_SAMPLES = {"image": 256, "video": 16}
SHOWN = {"image": 12, "video": 1}
PARTS = {"whole": ("vae.",), "decoder": ("vae.decoder.", "vae.post_quant_conv.")}


def weigh(regions: Regions, shape: tuple[int, ...]) -> np.ndarray:
    """Weights (F,H,W) with mean 1: half for the picture, half for its regions, each as much as another.

    The success of an edit is judged region by region, and a region may be 3 % of the picture.
    """
    even = np.ones(shape, np.float32)
    if not regions:
        return even
    parts = [mask * np.float32(mask.size / max(1, mask.sum())) for _, mask in regions]
    return 0.5 * even + 0.5 * np.mean(parts, 0)


class VaeJob:
    def __init__(self, recipe: VaeRecipe, config: InstructXConfig, source: PretrainingSource, output: Path) -> None:
        self.recipe, self.source = recipe, source
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        speed_up_single_frames(self.vae)
        start_simple(self.vae)
        self.root = nn.ModuleDict({"vae": self.vae})
        for required in recipe.requires:
            tensors = final_weights(output, required)
            load_into(self.root, {name: value for name, value in tensors.items() if name.startswith("vae.")})
        part = PARTS[recipe.part]
        self.trainable = {name: p for name, p in self.root.named_parameters() if name.startswith(part)}
        self.root.requires_grad_(False)
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)

    def global_batch(self, step: int) -> GlobalBatch:
        return draw_batch(self.recipe, step, plain_buckets(self.source, "train"))

    # --- pictures ---

    def scenes(self, split: str, numbers: np.ndarray, bucket: Bucket) -> Tensor:
        """(B,3,F,H,W) in [-1,1]."""
        samples = [self.source.scene(split, int(number), bucket) for number in numbers]
        return torch.stack([to_pixels(sample.frames_FHWC) for sample in samples])

    def pictures(self, split: str, numbers: np.ndarray, bucket: Bucket) -> tuple[Tensor, Tensor]:
        """Pixels (B,3,F,H,W) in [-1,1] and weights (B,1,F,H,W), by recipe.pictures."""
        if self.recipe.pictures == "scenes":
            pixels = self.scenes(split, numbers, bucket)
            return pixels, torch.ones_like(pixels[:, :1])
        samples = [self.source.picture(split, int(number), bucket) for number in numbers]
        weights = [torch.from_numpy(weigh(s.regions, s.frames_FHWC.shape[:3]))[None] for s in samples]
        return torch.stack([to_pixels(sample.frames_FHWC) for sample in samples]), torch.stack(weights)

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        size = self.source.size("train", batch.bucket)
        numbers = rng.draw_indices(self.recipe.seed, step, batch.size, size)[positions.start : positions.stop]
        pixels, weights = self.pictures("train", numbers, batch.bucket)
        pixels, weights = self._crop(pixels, step), self._crop(weights, step)
        posterior = self.vae.encode(pixels).latent_dist
        noise = rng.draw_noise(self.recipe.seed, step, positions, tuple(posterior.mean.shape[1:]))
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        error = ((decoded.float() - pixels).abs() * weights).mean()
        if self.recipe.part == "decoder":
            return error
        return error + KL_WEIGHT * 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).mean()

    def _crop(self, pixels_BCFHW: Tensor, step: int) -> Tensor:
        """A crop on the latent grid: convolutions learn as well from a quarter of the pixels, in a quarter of the time.

        The last sixth of the steps sees whole frames, as the attention in the middle will.
        """
        side = self.recipe.crop
        if not side or step >= self.recipe.num_steps * 5 // 6:
            return pixels_BCFHW
        places = [max(0, length - side) // 8 + 1 for length in pixels_BCFHW.shape[-2:]]
        top, left = (8 * rng.philox(self.recipe.seed, step, rng.CROP).integers(0, places)).tolist()
        return pixels_BCFHW[..., top : top + side, left : left + side].contiguous()

    # --- looking at it ---

    def round_trip(self, pixels_BCFHW: Tensor) -> Tensor:
        """Decoded from the mean of the latent."""
        return self.vae.decode(self.vae.encode(pixels_BCFHW).latent_dist.mode()).sample

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute error of a round trip, in [0,1] units, on unseen pictures and clips; the mean of all sizes."""
        errors: dict[str, list[float]] = {}
        for bucket in plain_buckets(self.source, "val"):
            numbers = first_numbers(self.source, "val", bucket, validation_counts(self.recipe))
            pixels, _ = self.pictures("val", numbers, bucket)
            error = ((self.round_trip(pixels).clamp(-1, 1) - pixels).abs().mean() / 2).item()
            errors.setdefault(bucket.modality, []).append(error)
        return {modality: sum(values) / len(values) for modality, values in errors.items()}

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        """Two rows a bucket: unseen pictures, and what is left of them after a round trip."""
        rows = []
        for bucket in plain_buckets(self.source, "val"):
            pixels, _ = self.pictures("val", first_numbers(self.source, "val", bucket, SHOWN), bucket)
            for side in (pixels, self.round_trip(pixels)):
                frames = to_uint8(side.permute(0, 2, 3, 4, 1)).reshape(-1, *side.shape[-2:], 3)
                rows.append(list(frames[:: max(1, len(frames) // 12)])[:12])
        save_grid(path, rows)

    @torch.no_grad()
    def finish(self) -> None:
        """Gives the latents the Wan format's statistics; call with the averaged weights in place."""
        if self.recipe.part == "decoder" or self.recipe.video_probability == 0:
            return  # without clips: they come in a later recipe, which does it then
        cells = []
        for bucket in plain_buckets(self.source, "train"):
            pixels = self.scenes("train", first_numbers(self.source, "train", bucket, STATISTICS_SAMPLES), bucket)
            cells.append(self.vae.encode(pixels).latent_dist.mode().transpose(0, 1).flatten(1))
        latent_CN = torch.cat(cells, 1)
        fold_latent_scale(self.vae, latent_CN.mean(1), latent_CN.std(1))
