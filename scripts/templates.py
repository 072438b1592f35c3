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
SCALE = "Scale to the size of training"
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
    megapixels: float  # of 1024x1024 pixels: the area that it was trained at
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
    megapixels=0.0,
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
    megapixels=0.38,  # 832x480
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
    megapixels=0.86,  # 1280x704
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


# Longer than those of the tiny model: a search of the Templates puts the shorter of two equal matches first.
OWN, PUBLIC = "InstructX 14B (needs weights of your own)", "InstructX Kiwi 5B (needs public weights, converted)"
TEMPLATES = (
    Template("try_image", "InstructX - Try it now - image", TINY, "image", sample=("color", 10)),
    Template("try_video", "InstructX - Try it now - video", TINY, "video", sample=("color", 6)),
    Template("try_long", "InstructX - Try it now - long video", TINY, "video", sample=("color", 3), window=17),
    Template("try_reference", "InstructX - Try it now - reference", TINY, "image", True, sample=("reference_swap", 2)),
    Template("paper_image", f"{OWN} - image", PAPER, "image", instruction="Make it snow."),
    Template("paper_video", f"{OWN} - video", PAPER, "video", instruction="Make it snow."),
    Template("paper_long", f"{OWN} - long video", PAPER, "video", instruction="Make it snow.", window=81),
    Template(
        "paper_reference",
        f"{OWN} - reference",
        PAPER,
        "video",
        True,
        instruction="Replace the jacket of the person with the one in the reference image.",
    ),
    Template("kiwi_image", f"{PUBLIC} - image", KIWI, "image", instruction="Make it snow."),
    Template("kiwi_video", f"{PUBLIC} - video", KIWI, "video", instruction="Make it snow."),
    Template(
        "kiwi_reference",
        f"{PUBLIC} - reference",
        KIWI,
        "video",
        True,
        instruction="Replace the jacket of the person with the one in the reference image.",
    ),
)


def loaders(graph: Graph, files: Files, given: Callable[[str, Any], Any]) -> tuple[Wire, Wire, Wire]:
    """The model, VAE and encoder wires. given(name, value) lets a subgraph feed a widget from outside."""
    if files is TINY:  # in no list of the host's own loaders
        names = {"diffusion_model": files.diffusion_model, "vae": files.vae}
        loaded = graph.add(MODELS, "InstructXLoadModel", **{name: given(name, value) for name, value in names.items()})
        return loaded.out("model"), loaded.out("vae"), load_encoder(graph, files, given).out("encoder")
    unet = graph.add(
        MODELS,
        "UNETLoader",
        unet_name=files.diffusion_model,
        weight_dtype="default",
        models=files.models(files.diffusion_model, "diffusion_models"),
    )
    vae = graph.add(MODELS, "VAELoader", vae_name=files.vae, models=files.models(files.vae, "vae"))
    return unet.out("MODEL"), vae.out("VAE"), load_encoder(graph, files, given).out("encoder")


def load_encoder(graph: Graph, files: Files, given: Callable[[str, Any], Any]) -> Node:
    return graph.add(
        MODELS,
        "InstructXLoadEncoder",
        encoder=given("encoder", files.text_encoder),
        adapter=given("adapter", files.adapter),
        models=files.models(files.text_encoder, "text_encoders"),
    )


def edit(
    graph: Graph,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    reference: Wire | None,
    asked: dict[str, Any],
    **sampling: Any,
) -> tuple[Wire, Node]:
    """Query Embeddings -> Connector -> Source and Reference -> Sampler; the edit, and Source and Reference."""
    model, vae, encoder = wires
    references = {} if reference is None else {"reference_1": reference}
    queries = graph.add(
        UNDERSTAND,
        "InstructXQueryEmbeddings",
        encoder=encoder,
        source=source,
        **asked,
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
    return sampler.out("image"), patched


def edit_long(
    graph: Graph,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    reference: Wire | None,
    asked: dict[str, Any],
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
        **asked,
        **sampling,
        **references,
    )


def sources(graph: Graph, template: Template) -> tuple[Wire, Wire | None, dict[str, Any]]:
    """(source, reference, inputs that hold the instruction) of a template, from a drawn sample or from files.

    A drawn sample's instruction is used while the box is empty: the artist types into it, and nothing has to be undone.
    """
    if template.sample is not None:
        drawn, seed = template.sample
        kind = "long video" if template.window else template.medium
        sample = graph.add(SOURCE, "InstructXSample", kind=kind, edit=drawn, seed=seed)
        reference = sample.out("reference") if template.reference else None
        return sample.out("source"), reference, {"instruction": "", "instruction_if_empty": sample.out("instruction")}
    if template.medium == "video":
        source = graph.add(SOURCE, "LoadVideo", file="your_clip.mp4").out("VIDEO")
    else:
        source = scaled(graph, template, graph.add(SOURCE, "LoadImage", image="example.png").out("IMAGE"))
    reference = None
    if template.reference:
        reference = graph.add(SOURCE, "LoadImage", image="example.png", title="Reference").out("IMAGE")
    return source, reference, {"instruction": template.instruction}


def scaled(graph: Graph, template: Template, image: Wire) -> Wire:
    """Brought to the area that the model was trained at; sides that do not fit its grid are cropped behind."""
    given = {"upscale_method": "area", "megapixels": template.files.megapixels}
    return graph.add(SOURCE, "ImageScaleToTotalPixels", image=image, title=SCALE, **given).out("IMAGE")


def build(template: Template) -> Graph:
    """The graph of a template."""
    graph = Graph(template.title)
    graph.note(MODELS, template.files.note)
    if template.window and template.sample is None:
        graph.note(SOURCE, note_of("long"))
    wires = loaders(graph, template.files, lambda name, value: value)
    source, reference, asked = sources(graph, template)
    files, prefix = template.files, f"InstructX/{template.slug}"
    sampling = {"seed": 0, "steps": files.steps, "cfg": 1.0, "shift": files.shift}
    if template.window:
        return build_long(graph, template, wires, source, asked, {**sampling, "window": template.window})
    if template.medium == "video" and template.sample is None:
        parts = graph.add(SOURCE, "GetVideoComponents", video=source)
        small = scaled(graph, template, parts.out("images"))
        source = graph.add(SOURCE, "CreateVideo", images=small, fps=parts.out("fps"), audio=parts.out("audio")).out(
            "VIDEO"
        )
    image, applied = edit(graph, wires, source, reference, asked, **sampling)
    if template.medium == "image":
        graph.add(RESULT, "InstructXCompare", before=applied.out("source"), after=image, batch="pictures")
        graph.add(RESULT, "SaveImage", images=image, filename_prefix=prefix)
        return graph
    rate, sound = applied.out("fps"), applied.out("audio")
    video = graph.add(RESULT, "CreateVideo", images=image, fps=rate, audio=sound)
    before = applied.out("source")
    graph.add(RESULT, "InstructXCompare", before=before, after=video.out("VIDEO"), batch="video", fps=rate)
    graph.add(RESULT, "SaveVideo", video=video.out("VIDEO"), filename_prefix=prefix, format="mp4", codec="h264")
    return graph


def build_long(
    graph: Graph,
    template: Template,
    wires: tuple[Wire, Wire, Wire],
    source: Wire,
    asked: dict[str, Any],
    sampling: dict[str, Any],
) -> Graph:
    """The rest of a long video's template: VIDEO in, VIDEO out."""
    if template.sample is not None:
        source = graph.add(SOURCE, "CreateVideo", images=source, fps=template.files.fps).out("VIDEO")
    video = edit_long(graph, wires, source, None, asked, **sampling).out("video")
    graph.add(RESULT, "InstructXCompare", before=source, after=video, batch="video", fps=template.files.fps)
    prefix = f"InstructX/{template.slug}"
    graph.add(RESULT, "SaveVideo", video=video, filename_prefix=prefix, format="mp4", codec="h264")
    return graph
