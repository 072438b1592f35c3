"""The paper's three stages (3.3, 4.1) as functions that return a recipe.

Stage 1 aligns queries, LoRA and connector on images with the DiT frozen and without source latents; stage 2 adds the
source (and reference) latents and trains the whole DiT on images and videos; stage 3 fine-tunes on little, good data.
lr 1e-5, global batch 128 images / 32 videos, 20k + 20k + 5k steps, p(video) = 0.6. `data` is open: docs/data.md says
what it may be.
"""

from __future__ import annotations

import dataclasses

from .base import FROM_BASE
from .edit import ALIGNMENT, EVERYTHING, EditRecipe


def stage1() -> EditRecipe:
    """Feature alignment: image queries, LoRA and connector learn to speak to a frozen DiT."""
    return EditRecipe(
        name="stage1",
        description="queries, LoRA and connector; the DiT is frozen and sees no source",
        preset="paper_14b",
        requires=(FROM_BASE,),
        train=ALIGNMENT,
        num_steps=20_000,
        image_pool=20_000 * 128,
        micro_image_batch=4,  # of one card; not in paper
        source_latents=False,
    )


def stage2() -> EditRecipe:
    """Full data: the entire DiT joins, source and reference latents enter, images and videos are mixed."""
    return EditRecipe(
        name="stage2",
        description="the whole DiT as well, source and reference latents, images and clips",
        preset="paper_14b",
        requires=(FROM_BASE, "stage1"),
        train=EVERYTHING,
        num_steps=20_000,
        video_probability=0.6,
        reference_probability=0.2,
        ema_decay=0.9999,
        micro_image_batch=4,  # of one card; not in paper
        micro_video_batch=1,
        image_pool=8_000 * 128,
        image_reference_pool=8_000 * 128,
        video_pool=12_000 * 32,
        video_reference_pool=12_000 * 32,
    )


def stage3() -> EditRecipe:
    """Quality fine-tuning on a small set."""
    return dataclasses.replace(
        stage2(),
        name="stage3",
        description="as stage 2, on a small set of good samples",
        requires=(FROM_BASE, "stage2"),
        num_steps=5_000,
    )
