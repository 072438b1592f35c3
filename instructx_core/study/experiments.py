"""Every comparison of the paper's design as data: variants, seeds, how they are trained, what is compared, which
sentence it tests (3.2, 4.4, A.4, A.8); and a few of ours.

Read by schedule.py, which makes runs of it, and findings.py. A variant says what is changed in the model and in its two
stages: alignment with the DiT frozen, then the whole DiT with source latents; everything else is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from ..config import Design
from .claims import Comparison

SUCCESS, LOSS, FLICKER = 0.12, 0.05, 0.2  # the least difference that would matter: a share; logarithms

Stage = Literal["align", "edit"]
Change = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """design, model: as of a VariantRecipe. edit: changes of the second stage's recipe. length: of its steps, a share.

    model: counts of queries are multiples of the model's ("x2") or numbers.
    """

    name: str
    design: Design = "queries"
    model: Change = field(default_factory=dict)
    edit: Change = field(default_factory=dict)
    length: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """sentence: the paper's, in its words; "" where it is ours. last: the stage that is measured. contradiction: what
    else the paper says of it. differs: why it may come out differently at a small scale."""

    name: str
    where: str
    title: str
    sentence: str
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    seeds: int
    last: Stage = "edit"
    contradiction: str = ""
    differs: str = ""


OURS = Variant(name="InstructX")
T5 = Variant(name="T5", design="t5")
QFORMER = Variant(name="QFormer", design="qformer")
METAQUERY = Variant(name="MetaQuery", design="metaquery")
NO_PRETRAINED = (
    "The small MLLM was trained for minutes on drawn scenes: what Qwen2.5-VL knows of the world, which a frozen MLLM "
    "has to offer, is not there."
)


def better(
    first: Variant, *others: Variant, measure: str, smallest: float, group: str = "all"
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(
            first=first.name, second=each.name, expects="better", measure=measure, smallest=smallest, group=group
        )
        for each in others
    )


def same(first: Variant, *others: Variant, group: str = "all") -> tuple[Comparison, ...]:
    return tuple(
        Comparison(first=first.name, second=each.name, expects="same", measure="success", smallest=SUCCESS, group=group)
        for each in others
    )


def unsaid(*variants: Variant, group: str = "all") -> tuple[Comparison, ...]:
    """Neighbours, of which the paper says nothing."""
    return tuple(
        Comparison(first=a.name, second=b.name, expects="open", measure="success", smallest=SUCCESS, group=group)
        for a, b in pairwise(variants)
    )


def alignment() -> Experiment:
    return Experiment(
        name="fig4_left",
        where="3.2, Fig. 4 left",
        title="Alignment with the DiT frozen",
        sentence="solely relying on a large-scale connector or a learnable query mechanism for the "
        "understanding-generation alignment converges slowly. Partially involving MLLM in feature alignment via LoRA "
        "accelerates convergence",
        variants=(OURS, METAQUERY, QFORMER),
        comparisons=better(OURS, METAQUERY, QFORMER, measure="loss", smallest=LOSS, group="image"),
        seeds=3,
        last="align",
        differs=NO_PRETRAINED,
    )


def unfrozen() -> Experiment:
    return Experiment(
        name="fig4_right",
        where="3.2, Fig. 4 right",
        title="Editing after the DiT is unfrozen",
        sentence="The right part in Fig. 4 also shows an advantage of the design choice in this paper",
        variants=(OURS, METAQUERY, QFORMER, T5),
        comparisons=better(OURS, METAQUERY, QFORMER, T5, measure="success", smallest=SUCCESS, group="image"),
        seeds=3,
        differs=NO_PRETRAINED + " The small text encoder knows every word of the world.",
    )


def gains_of_mllm() -> Experiment:
    return Experiment(
        name="a8",
        where="A.8, Fig. 18 and 19",
        title="MLLM and diffusion, or diffusion alone",
        sentence="using only the diffusion model fails to comprehend some complex and tiny details [...]. A noticeable "
        "gap can also be observed",
        variants=(OURS, T5),
        comparisons=(
            *better(OURS, T5, measure="success", smallest=SUCCESS, group="image"),
            *better(OURS, T5, measure="success", smallest=SUCCESS, group="small objects"),
        ),
        seeds=3,
        differs=NO_PRETRAINED,
    )


def separate_queries() -> Experiment:
    shared = {"design.shared_queries": True}
    of_clips = Variant(name="shared, as many as clips have", model={"queries": ("clips", "clips")} | shared)
    of_images = Variant(name="shared, as many as images have", model={"queries": ("images", "images")} | shared)
    total = Variant(name="shared, the total of both", model={"queries": ("both", "both")} | shared)
    return Experiment(
        name="fig9a",
        where="4.4, Fig. 9 a",
        title="Queries of their own for images and clips",
        sentence="the separate query setting achieves a higher score on VIE-Bench, as it better distinguishes the "
        "feature extraction for different modality information",
        variants=(OURS, of_clips, of_images, total),
        comparisons=better(OURS, of_clips, of_images, total, measure="success", smallest=SUCCESS, group="video"),
        seeds=3,
        differs="The paper does not say how many queries its shared set has, so there are three.",
    )


def frames_of_mllm() -> Experiment:
    one = Variant(name="the MLLM sees one frame", model={"instruction.mllm_frames": 1})
    return Experiment(
        name="fig9b",
        where="4.4, Fig. 9 b",
        title="One or thirteen frames for the MLLM",
        sentence="if the MLLM only uses the first frame of the video to generate editing guidance, the editing results "
        "are prone to collapse in some complex scenarios, such as when the edited content appears in the middle of the "
        "video",
        variants=(OURS, one),
        comparisons=(
            *better(OURS, one, measure="success", smallest=SUCCESS, group="appears in the middle"),
            *unsaid(OURS, one, group="there from the start"),
        ),
        seeds=3,
        differs="Clips have 17 frames. In one of twenty-three something appears late, so such clips are looked for.",
    )


def mixing_ratio() -> Experiment:
    def ratio(name: str, share: float, length: float) -> Variant:
        return Variant(name=name, edit={"video_probability": share}, length=length)

    ratios = {"2:3": 0.6, "1:4": 0.8, "4:1": 0.2}
    long = {name: ratio(f"{name}, whole length", share, 1.0) for name, share in ratios.items()}
    short = {name: ratio(f"{name}, half the length", share, 0.5) for name, share in ratios.items()}
    return Experiment(
        name="tab5",
        where="A.4, Table 5",
        title="The ratio of images to clips",
        sentence="in Tab. 5, we present the impact of the image-video training mixture ratio on model performance, "
        "which shows insensitivity to the mixing ratio",
        variants=(*short.values(), *long.values()),
        comparisons=tuple(
            each for some in (short, long) for each in same(some["2:3"], some["1:4"], some["4:1"], group="video")
        ),
        seeds=2,
        contradiction="Table 5 itself: at 10,000 iterations instruction following is 8.26 at 2:3 (the paper's "
        "setting), 7.91 at 1:4 and 8.69 at 4:1, preservation 8.73, 8.54 and 8.92, quality 7.59, 7.38 and 7.87; at "
        "5,000 the three lie within 0.1. More images are better there, and the setting chosen is not the best one. "
        "Its own model scores up to 0.31 more in Table 6, so that much of this may be chance.",
    )


def more_queries() -> Experiment:
    twice = Variant(name="twice the queries for clips", model={"queries": ("images", "clips x2")})
    return Experiment(
        name="tab6",
        where="A.4, Table 6",
        title="Twice the queries for clips",
        sentence="an excessive number of queries does not yield a significant performance improvement",
        variants=(OURS, twice),
        comparisons=same(OURS, twice, group="video"),
        seeds=2,
        contradiction="Table 6 itself: 1024 queries score above 512 in all six columns, by 0.24, 0.16 and 0.16 at "
        "5,000 iterations and by 0.15, 0.10 and 0.12 at 10,000. No interval is given, so that neither the text nor the "
        "table can be called right. One model is in both tables, 512 queries at 2:3, and differs between them by 0.21, "
        "0.09 and 0.17 at 5,000 iterations and by 0.29, 0.08 and 0.31 at 10,000: as much as 1024 queries gain.",
    )


def emergence() -> Experiment:
    alone = Variant(name="clips alone", edit={"video_probability": 1.0, "image_pool": 0})
    return Experiment(
        name="fig14",
        where="3.3, A.4, Fig. 6 and 14",
        title="Style and segmentation of clips, learnt from images",
        sentence="training without mixed image data fails to enable zero-shot video editing tasks",
        variants=(OURS, alone),
        comparisons=better(OURS, alone, measure="success", smallest=SUCCESS, group="zero-shot clips"),
        seeds=2,
        differs="Alignment sees images of all kinds in both variants, as in the paper's stage 1; its DiT is frozen.",
    )


def images_alone() -> Experiment:
    alone = Variant(
        name="images alone",
        model={"queries": ("images", "images"), "design.shared_queries": True},
        edit={"video_probability": 0.0, "video_pool": 0},
    )
    return Experiment(
        name="fig15",
        where="A.4, Fig. 15",
        title="Clips edited after images alone",
        sentence="using only image data disrupts the temporal consistency of video generation outcomes, leading to "
        "undesired flickering and artifacts. Moreover, the video editing performance obtained using only image "
        "training data are also unsatisfactory",
        variants=(OURS, alone),
        comparisons=(
            *better(OURS, alone, measure="flicker", smallest=FLICKER, group="video"),
            *better(OURS, alone, measure="success", smallest=SUCCESS, group="video"),
        ),
        seeds=3,
        differs="Queries for clips that no clip has trained would be noise; here clips go through those of the images.",
    )


def _of_ours(name: str, title: str, *variants: Variant) -> Experiment:
    return Experiment(
        name=name,
        where="not in the paper",
        title=title,
        sentence="",
        variants=variants,
        comparisons=unsaid(*variants),
        seeds=2,
    )


def lora_rank() -> Experiment:
    ranks = [Variant(name=f"rank x{share:g}", model={"rank": share}) for share in (0.25, 0.0)]
    return _of_ours("lora_rank", "Rank of the MLLM's LoRA; 0: frozen", OURS, *ranks)


def source_embedder() -> Experiment:
    tied, own = (Variant(name=way, edit={"source_embedder": way}) for way in ("tied", "own"))
    return _of_ours("embedder", "The source added to the noisy latent, or through an embedder of its own", own, tied)


def connector_depth() -> Experiment:
    depths = [Variant(name=f"{n} layers", model={"design.mlp_layers": n}) for n in (1, 4)]
    return _of_ours("connector", "Layers of the MLP connector", depths[0], OURS, depths[1])


def query_number() -> Experiment:
    fewer = [Variant(name=f"{n} queries", model={"queries": (n, n)}) for n in (8, 4)]
    return _of_ours("queries", "Fewer queries, down to four", OURS, *fewer)


EXPERIMENTS: dict[str, Experiment] = {
    each.name: each
    for each in (
        alignment(),
        unfrozen(),
        gains_of_mllm(),
        separate_queries(),
        frames_of_mllm(),
        mixing_ratio(),
        more_queries(),
        emergence(),
        images_alone(),
        lora_rank(),
        source_embedder(),
        connector_depth(),
        query_number(),
    )
}
