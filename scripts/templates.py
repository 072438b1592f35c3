"""The shipped graphs, described once; make_workflows.py writes their files.

Every graph reads left to right: models, what to edit, understanding, editing, result. The try-it-now graphs use the
tiny model in the package and drawn samples, so they run with nothing downloaded; the others name the files of the
paper's layout (Wan2.1 14B) and of the public Kiwi-Edit weights (Wan2.2 5B).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph import Graph, Node, Wire

MODELS, SOURCE, UNDERSTAND, EDIT, RESULT = "1 Models", "2 What to edit", "3 Understand", "4 Edit", "5 Result"
HUB = "https://huggingface.co/Comfy-Org"


@dataclass(frozen=True)
class Files:
    """Names of one model's files, settings it was made for, and where the public ones are."""

    diffusion_model: str
    vae: str
    text_encoder: str
    adapter: str
    steps: int
    shift: float
    fps: float
    urls: dict[str, str]
    note: str

    def models(self, name: str, directory: str) -> list[dict[str, str]]:
        """What the host's Missing Models panel offers for one loader."""
        return [{"name": name, "url": self.urls[name], "directory": directory}] if name in self.urls else []


def note_of(model: str) -> str:
    """The note of a template, in English and below it in Chinese."""
    texts = json.loads(Path(__file__).with_name("template_notes.json").read_text(encoding="utf-8"))[model]
    return f"{texts['en']}\n\n---\n\n{texts['zh']}"


TINY = Files(
    diffusion_model="instructx_tiny.safetensors",
    vae="instructx_tiny.safetensors",
    text_encoder="instructx_tiny.safetensors",
    adapter="instructx_tiny.safetensors",
    steps=4,
    shift=3.0,
    fps=16.0,
    urls={},
    note=note_of("tiny"),
)
PAPER = Files(
    diffusion_model="instructx_14b.safetensors",
    vae="wan_2.1_vae.safetensors",
    text_encoder="qwen_2.5_vl_fp16.safetensors",
    adapter="instructx_14b.safetensors",
    steps=50,
    shift=5.0,
    fps=16.0,
    urls={
        "wan_2.1_vae.safetensors": f"{HUB}/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/"
        "wan_2.1_vae.safetensors",
        "qwen_2.5_vl_fp16.safetensors": f"{HUB}/Omnigen2_ComfyUI_repackaged/resolve/main/split_files/text_encoders/"
        "qwen_2.5_vl_fp16.safetensors",
    },
    note=note_of("paper"),
)
KIWI = Files(
    diffusion_model="kiwi_edit_5b.safetensors",
    vae="wan2.2_vae.safetensors",
    text_encoder="qwen_2.5_vl_fp16.safetensors",
    adapter="kiwi_edit_5b.safetensors",
    steps=50,
    shift=5.0,
    fps=24.0,
    urls={
        "wan2.2_vae.safetensors": f"{HUB}/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/vae/"
        "wan2.2_vae.safetensors",
        "qwen_2.5_vl_fp16.safetensors": PAPER.urls["qwen_2.5_vl_fp16.safetensors"],
    },
    note=note_of("kiwi"),
)


@dataclass(frozen=True)
class Template:
    """One shipped graph. slug names the headless file, title the template and its picture."""

    slug: str
    title: str
    files: Files
    medium: str  # image or video
    reference: bool = False
    sample: tuple[str, int] | None = None  # (edit, seed) of the drawn sample; None loads a file
    window: int = 0  # frames of a window, for the templates of long videos
    instruction: str = ""


TEMPLATES = (
    Template("try_image", "InstructX - Try it now - image", TINY, "image", sample=("color", 10)),
    Template("try_video", "InstructX - Try it now - video", TINY, "video", sample=("color", 6)),
    Template("try_long", "InstructX - Try it now - long video", TINY, "video", sample=("color", 3), window=17),
    Template("try_reference", "InstructX - Try it now - reference", TINY, "image", True, sample=("reference_swap", 2)),
    Template("paper_image", "InstructX 14B (own weights) - image", PAPER, "image", instruction="Make it snow."),
    Template("paper_video", "InstructX 14B (own weights) - video", PAPER, "video", instruction="Make it snow."),
    Template(
        "paper_long", "InstructX 14B (own weights) - long video", PAPER, "video", instruction="Make it snow.", window=81
    ),
    Template(
        "paper_reference",
        "InstructX 14B (own weights) - reference",
        PAPER,
        "video",
        True,
        instruction="Replace the jacket of the person with the one in the reference image.",
    ),
    Template("kiwi_image", "InstructX Kiwi 5B - image", KIWI, "image", instruction="Make it snow."),
    Template("kiwi_video", "InstructX Kiwi 5B - video", KIWI, "video", instruction="Make it snow."),
    Template(
        "kiwi_reference",
        "InstructX Kiwi 5B - reference",
        KIWI,
        "video",
        True,
        instruction="Replace the jacket of the person with the one in the reference image.",
    ),
)


def loaders(graph: Graph, files: Files, given: Callable[[str, Any], Any]) -> tuple[Wire, Wire, Wire]:
    """The model, VAE and encoder wires. given(name, value) lets a subgraph feed a widget from outside."""
    unet = graph.add(
        MODELS,
        "UNETLoader",
        unet_name=given("unet_name", files.diffusion_model),
        weight_dtype="default",
        models=files.models(files.diffusion_model, "diffusion_models"),
    )
    vae = graph.add(MODELS, "VAELoader", vae_name=given("vae_name", files.vae), models=files.models(files.vae, "vae"))
    encoder = graph.add(
        MODELS,
        "InstructXLoadEncoder",
        encoder=given("encoder", files.text_encoder),
        adapter=given("adapter", files.adapter),
        models=files.models(files.text_encoder, "text_encoders"),
    )
    return unet.out("MODEL"), vae.out("VAE"), encoder.out("encoder")


def edit(
    graph: Graph,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    reference: Wire | None,
    instruction: Any,
    **sampling: Any,
) -> tuple[Wire, Wire]:
    """Query Embeddings -> Connector -> Source and Reference -> Sampler; the edit, and the source as it was edited."""
    model, vae, encoder = wires
    references = {} if reference is None else {"reference_1": reference}
    queries = graph.add(
        UNDERSTAND,
        "InstructXQueryEmbeddings",
        encoder=encoder,
        instruction=instruction,
        source=source,
        **references,
    )
    positive = graph.add(UNDERSTAND, "InstructXConnector", queries=queries.out("queries"))
    patched = graph.add(
        EDIT,
        "InstructXSourceReference",
        model=model,
        positive=positive.out("conditioning"),
        vae=vae,
        source=source,
        **references,
    )
    outputs = {name: patched.out(name) for name in ("model", "positive", "negative", "latent")}
    sampler = graph.add(EDIT, "InstructXSampler", **outputs, vae=vae, **sampling)
    return sampler.out("image"), patched.out("source")


def edit_long(
    graph: Graph,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    reference: Wire | None,
    instruction: Any,
    **sampling: Any,
) -> Node:
    """Long Video, which is the whole chain, window by window; its node."""
    model, vae, encoder = wires
    references = {} if reference is None else {"reference_1": reference}
    return graph.add(
        EDIT,
        "InstructXLongVideo",
        model=model,
        vae=vae,
        encoder=encoder,
        source=source,
        instruction=instruction,
        **sampling,
        **references,
    )


def sources(graph: Graph, template: Template) -> tuple[Wire, Wire | None, Any]:
    """(source, reference, instruction) of a template, from a drawn sample or from files."""
    if template.sample is not None:
        drawn, seed = template.sample
        kind = "long video" if template.window else template.medium
        sample = graph.add(SOURCE, "InstructXSample", kind=kind, edit=drawn, seed=seed)
        graph.add(SOURCE, "PreviewAny", source=sample.out("instruction"), title="The instruction")
        reference = sample.out("reference") if template.reference else None
        if reference is not None:
            graph.add(SOURCE, "PreviewImage", images=reference, title="The reference")
        return sample.out("source"), reference, sample.out("instruction")
    if template.medium == "video":
        source = graph.add(SOURCE, "LoadVideo", file="your_clip.mp4").out("VIDEO")
    else:
        source = graph.add(SOURCE, "LoadImage", image="example.png").out("IMAGE")
    reference = None
    if template.reference:
        reference = graph.add(SOURCE, "LoadImage", image="example.png", title="Reference").out("IMAGE")
    return source, reference, template.instruction


def build(template: Template) -> Graph:
    """The graph of a template."""
    graph = Graph(template.title)
    graph.note(MODELS, template.files.note)
    wires = loaders(graph, template.files, lambda name, value: value)
    source, reference, instruction = sources(graph, template)
    files, prefix = template.files, f"InstructX/{template.slug}"
    sampling = {"seed": 0, "steps": files.steps, "cfg": 1.0, "shift": files.shift}
    if template.window:
        return build_long(graph, template, wires, source, instruction, {**sampling, "window": template.window})
    image, edited = edit(graph, wires, source, reference, instruction, **sampling)
    if template.medium == "image":
        graph.add(RESULT, "InstructXCompare", before=edited, after=image, batch="pictures")
        graph.add(RESULT, "SaveImage", images=image, filename_prefix=prefix)
        return graph
    if template.sample is None:
        parts = graph.add(RESULT, "GetVideoComponents", video=source)
        video = graph.add(RESULT, "CreateVideo", images=image, fps=parts.out("fps"), audio=parts.out("audio"))
    else:
        video = graph.add(RESULT, "CreateVideo", images=image, fps=files.fps)
    graph.add(RESULT, "InstructXCompare", before=edited, after=video.out("VIDEO"), batch="video", fps=files.fps)
    graph.add(RESULT, "SaveVideo", video=video.out("VIDEO"), filename_prefix=prefix, format="mp4", codec="h264")
    return graph


def build_long(
    graph: Graph,
    template: Template,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    instruction: Any,
    sampling: dict[str, Any],
) -> Graph:
    """The rest of a long video's template: VIDEO in, VIDEO out."""
    if template.sample is not None:
        source = graph.add(SOURCE, "CreateVideo", images=source, fps=template.files.fps).out("VIDEO")
    video = edit_long(graph, wires, source, None, instruction, **sampling).out("video")
    graph.add(RESULT, "InstructXCompare", before=source, after=video, batch="video", fps=template.files.fps)
    prefix = f"InstructX/{template.slug}"
    graph.add(RESULT, "SaveVideo", video=video, filename_prefix=prefix, format="mp4", codec="h264")
    return graph
