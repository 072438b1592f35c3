"""Training of a Wan VAE on pictures and clips of a source.

L1 and squared error of a round trip, half of it in the regions in which an edit would be judged, plus a small KL term;
`finish` then folds an affine into the first and last latent convolution so that the latents have the mean and standard
deviation that the Wan2.1 format promises (vae.fold_latent_scale).
Legend: B batch, C channels, F frames, H W pixels, N latent cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.cache import Pool, select_samples
from ...data.source import PretrainingSource
from ...errors import InputError
from ...pixels import from_signed
from ...random_streams import random_stream
from ...vae import build_vae, fold_latent_scale
from .. import rng
from ..job import GlobalBatch
from ..machine import Machine
from ..pictures import save_grid
from ..recipes.vae import Crops, VaeRecipe
from ..start import final_weights, load_into
from ..vae_start import start_simple
from .drawing import draw_batch

KL_WEIGHT = 1e-5
SQUARED_WEIGHT = 5.0  # beside L1: as much at an error of 0.2, pixels in [-1, 1]
STATISTICS_SAMPLES = {"image": 512, "video": 32}  # of all sizes together
SHOWN = {"image": 12, "video": 1}
ENCODE_BATCH = {"image": 32, "video": 2}  # encoded without gradients


class VaeJob:
    needs: ClassVar[type] = PretrainingSource

    def __init__(
        self,
        recipe: VaeRecipe,
        config: InstructXConfig,
        source: PretrainingSource,
        output: Path,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.device = recipe, machine.device
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        start_simple(self.vae)
        self.root = nn.ModuleDict({"vae": self.vae})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        self.root.to(self.device)
        self.trainable = dict(self.root.named_parameters())
        cache = machine.cache(output, source)
        counts = {("image", False): recipe.image_pool, ("video", False): recipe.video_pool}
        unseen = {("image", False): recipe.image_validation, ("video", False): recipe.video_validation}
        unseen = {kind: count for kind, count in unseen.items() if counts[kind]}
        self.pools = {each.bucket: cache.pictures(each) for each in select_samples(source, "train", counts)}
        self.validation = {each.bucket: cache.pictures(each) for each in select_samples(source, "val", unseen)}
        if not self.pools:
            raise InputError(f"{recipe.name} has no samples to train on: give image_pool or video_pool in the recipe")

    # --- one batch ---

    def crops_at(self, step: int) -> Crops:
        """The part of the run that `step` belongs to."""
        end = 0.0
        for crops in self.recipe.crops:
            end += crops.share
            if step < end * self.recipe.num_steps:
                return crops
        return Crops(side=0, share=1 - end, image_batch=self.recipe.image_batch, video_batch=self.recipe.video_batch)

    def global_batch(self, step: int) -> GlobalBatch:
        bucket, crops = draw_batch(self.recipe, step, tuple(self.pools)).bucket, self.crops_at(step)
        if bucket.modality == "video":
            return GlobalBatch(bucket, crops.video_batch, self.recipe.micro_video_batch)
        return GlobalBatch(bucket, crops.image_batch, self.recipe.micro_image_batch)

    def pictures(self, pool: Pool, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pixels (B,3,F,H,W) in [-1,1] and weights (B,1,F,H,W)."""
        pixels_BCFHW = pool.take("pixels", rows).permute(0, 4, 1, 2, 3).div_(127.5).sub_(1)
        return pixels_BCFHW.to(self.device), pool.take("weight", rows)[:, None].to(self.device)

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        pool = self.pools[batch.bucket]
        rows = rng.draw_indices(self.recipe.seed, step, batch.size, len(pool))[positions.start : positions.stop]
        pixels, weights = self._cropped(*self.pictures(pool, rows), step, positions)
        posterior = self.vae.encode(pixels, return_dict=False)[0]
        noise = rng.draw_noise(self.recipe.seed, step, positions, tuple(posterior.mean.shape[1:])).to(self.device)
        decoded = self.vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0]
        difference = decoded.float() - pixels
        error = ((difference.abs() + SQUARED_WEIGHT * difference.square()) * weights).mean()
        return error + KL_WEIGHT * 0.5 * (posterior.mean.pow(2) + posterior.var - 1 - posterior.logvar).mean()

    def _cropped(self, pixels: Tensor, weights: Tensor, step: int, positions: range) -> tuple[Tensor, Tensor]:
        """A crop of each picture, anywhere: convolutions learn as well from a part of the pixels, in less time.

        The last part of a run sees whole frames, as the attention in the middle will.
        """
        side = self.crops_at(step).side
        places = [max(0, length - side) + 1 for length in pixels.shape[-2:]]
        if not side or places == [1, 1]:
            return pixels, weights
        corners = [random_stream(self.recipe.seed, step, rng.CROP, p).integers(0, places).tolist() for p in positions]
        windows = [(..., slice(top, top + side), slice(left, left + side)) for top, left in corners]
        return (
            torch.stack([each[window] for each, window in zip(pixels, windows, strict=True)]),
            torch.stack([each[window] for each, window in zip(weights, windows, strict=True)]),
        )

    # --- looking at it ---

    def round_trip(self, pixels_BCFHW: Tensor) -> Tensor:
        """Decoded from the mean of the latent."""
        latent_BCTHW = self.vae.encode(pixels_BCFHW, return_dict=False)[0].mode()
        return self.vae.decode(latent_BCTHW, return_dict=False)[0]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute error of a round trip, in [0,1] units, on unseen pictures and clips; the mean of all sizes."""
        errors: dict[str, list[float]] = {}
        for bucket, pool in self.validation.items():
            for rows in portions(pool, bucket, len(pool)):
                pixels, _ = self.pictures(pool, rows)
                error = (self.round_trip(pixels).clamp(-1, 1) - pixels).abs().flatten(1).mean(1) / 2
                errors.setdefault(bucket.modality, []).extend(error.tolist())
        return {modality: sum(values) / len(values) for modality, values in errors.items()}

    @torch.no_grad()
    def picture(self, path: Path | None) -> None:
        """Two rows a bucket: unseen pictures, and what is left of them after a round trip."""
        rows = []
        for bucket, pool in self.validation.items():
            pixels, _ = self.pictures(pool, np.arange(min(SHOWN[bucket.modality], len(pool))))
            for side in (pixels, self.round_trip(pixels)):
                frames = from_signed(side.permute(0, 2, 3, 4, 1)).cpu().numpy().reshape(-1, *side.shape[-2:], 3)
                rows.append(list(frames[:: max(1, len(frames) // 12)])[:12])
        save_grid(path, rows)

    @torch.no_grad()
    def finish(self) -> None:
        """Gives the latents the Wan format's statistics; call with the averaged weights in place."""
        cells = []
        for bucket, pool in self.pools.items():
            same = sum(other.modality == bucket.modality for other in self.pools)
            for rows in portions(pool, bucket, -(-STATISTICS_SAMPLES[bucket.modality] // same)):
                pixels, _ = self.pictures(pool, rows)
                latent_BCTHW = self.vae.encode(pixels, return_dict=False)[0].mode()
                cells.append(latent_BCTHW.transpose(0, 1).flatten(1))
        latent_CN = torch.cat(cells, 1)
        fold_latent_scale(self.vae, latent_CN.mean(1), latent_CN.std(1))


def portions(pool: Pool, bucket: Bucket, count: int) -> list[np.ndarray]:
    """The first rows of a pool, a few at once."""
    rows, portion = np.arange(min(count, len(pool))), ENCODE_BATCH[bucket.modality]
    return [rows[i : i + portion] for i in range(0, len(rows), portion)]
