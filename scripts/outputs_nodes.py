"""Outputs of the nodes on a real ComfyUI: the workflows of the repository, and graphs with other inputs of the nodes.

Part of scripts/outputs.py, which calls record_nodes. The host is the ComfyUI 0.3.75 of the host lane (CONTRIBUTING.md).
It runs the pack as git lists it in the checkout, so new files must be added (`git add`); no commit is needed.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outputs import ROOT, Record, clip_content, pixels_of, plain, preload, tensors_of
from outputs_edits import drawn, write_clip
from outputs_formats import helper, small_model

Graph = dict[str, Any]
KIWI = "instructx_kiwi_small.safetensors"
TINY = "instructx_tiny.safetensors"
OWN = "from the checkpoint"


def record_nodes(record: Record, folder: Path) -> None:
    preload()
    hosting = helper("host.py")
    small = small_model(folder)
    models = folder / "host" / "models"
    for part in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        shutil.copytree(small.root / part, models / part)
    shutil.copy(small.files.tokenizer, models)
    small.training_file(models / "checkpoints" / "kiwi_stage3.safetensors")
    small.kiwi_folder(models / "diffusers" / "kiwi-edit-5b")
    lora = helper("models.py").dit_lora(small.dit)
    helper("models.py").put(models / "loras" / "lora.safetensors", helper("models.py").spelled(lora, "comfyui"))
    with hosting.Host(hosting.host_tree(), folder / "host") as host:
        host.put_input("example.png", drawn(70, 90))
        host.put_input("reference.png", drawn(40, 50, 3, 1))
        write_clip(folder / "host" / "input" / "your_clip.mp4", [drawn(time=i) for i in range(21)], 16, sound=True)
        for name, entry in sorted(host.object_info().items()):
            if name.startswith("InstructX"):
                record.add_text(f"node {name}", json.dumps(entry, indent=1))
        record_workflows(record, host)
        record_graphs(record, host)


def record_workflows(record: Record, host: Any) -> None:
    """workflows/api: `try_` as they are; `kiwi_` with a small random model, `paper_` with the tiny one; three steps."""
    for path in sorted((ROOT / "workflows" / "api").glob("*.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        if not path.stem.startswith("try_"):
            smaller(graph, KIWI if path.stem.startswith("kiwi_") else TINY)
        record_run(record, host, path.stem, graph)


def smaller(graph: Graph, file: str) -> None:
    """The graph with other weights, three steps and the tiny model's window."""
    changed = {"steps": 3, "window": 17, "dtype": "fp32"}
    for entry in graph.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, str) and value.endswith(".safetensors"):
                entry["inputs"][name] = file
        entry["inputs"] |= {name: value for name, value in changed.items() if name in entry["inputs"]}


def record_run(record: Record, host: Any, name: str, graph: Graph) -> None:
    """Files and texts of one run, or the sentence with which it fails.

    Left out: bytes of the host's own files, which hold the prompt, and the names of its temporary files. Of clips that
    the host compresses, packets and frames: its x264, with mbtree, makes another file of the same frames now and then.
    """
    graph = watched(graph)
    try:
        entry = host.run(graph)
    except RuntimeError as error:
        record.add_text(f"{name}: fails", plain(str(error), host.base))
        return
    outputs = entry["outputs"]
    text = json.dumps(dict(sorted(outputs.items())), indent=1)
    text = re.sub(r"ComfyUI_temp_[a-z]{5}|instructx_compare_[0-9a-f]{12}", "RANDOM", text)
    record.add_text(f"{name}: outputs", re.sub(r"(\n +\{[^}]*RANDOM_0[^}]*\},){3,}", "\n   ...", text))
    for node in sorted(outputs):
        found: dict[str, Any] = {}
        for number, file in enumerate(host.outputs(entry, node)):
            path = host.base / f"viewed{Path(file['filename']).suffix}"
            path.write_bytes(host.view(file))
            if path.suffix == ".latent":
                found[f"{number} latent"] = tensors_of(path)["latent_tensor"]
            elif path.suffix == ".mp4":
                kept = ("stream", "packets", "frames") if copied(graph, node) else ("stream",)
                content = clip_content(path)
                found |= {f"{number} {kind}": content[kind] for kind in kept}
            else:
                found[f"{number} pixels"] = pixels_of(path)
        label = f"{name}: node {node} {graph[node]['class_type']}"
        if len(found) > 3:  # frames of a clip
            record.add_tensors(label, found)
        else:
            for kind, value in found.items():
                record.add(f"{label} {kind}", value)


def copied(graph: Graph, node: str) -> bool:
    """True for a clip that the pack has compressed itself."""
    wire = graph[node]["inputs"].get("video")
    return wire is not None and graph[wire[0]]["class_type"] == "InstructXLongVideo"


def watched(graph: Graph) -> Graph:
    """The graph with every latent saved, and every frame before a clip is compressed."""
    latents, pictures = {"InstructXSampler": 1, "KSampler": 0}, {"InstructXSampler": 0, "VAEDecode": 0}
    pictures["InstructXSample"] = 0
    watching: Graph = {}
    for node, entry in graph.items():
        if (kind := entry["class_type"]) in latents:
            inputs = {"samples": [node, latents[kind]], "filename_prefix": "latents/watched"}
            watching[f"{node} latent"] = {"class_type": "SaveLatent", "inputs": inputs}
        if kind in pictures:
            watching[f"{node} frames"] = {"class_type": "PreviewImage", "inputs": {"images": [node, pictures[kind]]}}
        if kind == "InstructXLongVideo":
            watching[f"{node} parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": [node, 0]}}
            inputs = {"images": [f"{node} parts", 0]}
            watching[f"{node} frames"] = {"class_type": "PreviewImage", "inputs": inputs}
    return {**graph, **watching}


def record_graphs(record: Record, host: Any) -> None:
    """What the workflows leave out: other inputs, the host's sampler, a negative, LoRA, Load Checkpoint."""
    flows = {
        name: load_flow(name) for name in ("try_image", "try_video", "try_reference", "try_long", "kiwi_reference")
    }
    for name in ("try_image", "try_video", "try_long"):
        smaller(flows[name], TINY)
    smaller(flows["kiwi_reference"], KIWI)
    cases: dict[str, tuple[str, Callable[[Graph], Any]]] = {
        "guidance": ("try_image", guided),
        "guidance of a clip": ("try_video", guided),
        "KSampler": ("try_image", native),
        "KSampler of a clip": ("try_video", native),
        "KSampler with guidance": ("try_reference", lambda graph: (guided(graph), native(graph))),
        "other sampler": ("try_image", lambda graph: put(graph, "Sampler", sampler_name="dpmpp_2m")),
        "denoise": ("try_image", lambda graph: put(graph, "Sampler", denoise=0.6, seed=7)),
        "encoder bf16": ("try_image", lambda graph: put(graph, "LoadEncoder", dtype="bf16", device="cpu")),
        "fps": ("try_video", lambda graph: put(graph, "QueryEmbeddings", fps=4.0)),
        "modality": ("try_image", lambda graph: put(graph, "QueryEmbeddings", modality="video")),
        "compare as video": ("try_image", lambda graph: put(graph, "Compare", batch="video", fps=8.0)),
        "compare as pictures": ("try_video", lambda graph: put(graph, "Compare", batch="pictures")),
        "photo": ("try_image", photo),
        "photo, error": ("try_image", lambda graph: photo(graph, "error")),
        "two references": ("try_reference", second_reference),
        "attention": ("try_image", attention),
        "kiwi checkpoint": ("kiwi_reference", checkpoint),
        "kiwi folder": ("kiwi_reference", lambda graph: checkpoint(graph, "kiwi-edit-5b")),
        "kiwi first": ("kiwi_reference", lambda graph: checkpoint(graph, reference_position="first")),
        "kiwi encoder": ("kiwi_reference", lambda graph: checkpoint(graph, encoder=KIWI)),
        "kiwi LoRA": ("kiwi_reference", with_lora),
        "kiwi KSampler": ("kiwi_reference", native),
        "long plain": ("try_long", lambda graph: put(graph, "LongVideo", joins="plain", seed=4)),
        "long first": ("try_long", lambda graph: put(graph, "LongVideo", context="first", overlap=2)),
        "long colour": ("try_long", lambda graph: put(graph, "LongVideo", match_colour=True, window=9, cfg=1.5)),
    }
    for task in ("add", "remove", "style", "segment", "reference_add"):
        cases[f"sample {task}"] = ("try_image", lambda graph, task=task: put(graph, "Sample", edit=task, seed=5))
    for name, (flow, change) in cases.items():
        graph = copy.deepcopy(flows[flow])
        change(graph)
        record_run(record, host, name, graph)


def load_flow(name: str) -> Graph:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def find(graph: Graph, kind: str) -> str:
    """The id of the node of this kind; `Sampler` is InstructXSampler."""
    return next(node for node, entry in graph.items() if entry["class_type"] in (kind, f"InstructX{kind}"))


def put(graph: Graph, kind: str, **values: Any) -> None:
    graph[find(graph, kind)]["inputs"] |= values


def guided(graph: Graph) -> None:
    """Guidance, with a negative that leaves the instruction out."""
    queries = graph[find(graph, "QueryEmbeddings")]["inputs"]
    graph["90"] = {"class_type": "InstructXQueryEmbeddings", "inputs": {**queries, "drop_instruction": True}}
    graph["91"] = {"class_type": "InstructXConnector", "inputs": {"queries": ["90", 0]}}
    put(graph, "SourceReference", negative=["91", 0])
    put(graph, "Sampler", cfg=2.0)


def native(graph: Graph) -> None:
    """The host's own KSampler and VAE decoder instead of the pack's Sampler."""
    place = find(graph, "Sampler")
    given = graph[place]["inputs"]
    graph["92"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": given["model"], "shift": given["shift"]}}
    kept = {name: value for name, value in given.items() if name not in ("vae", "shift", "latent")}
    sampled = {**kept, "model": ["92", 0], "latent_image": given["latent"], "scheduler": "simple"}
    graph["93"] = {"class_type": "KSampler", "inputs": sampled}
    graph[place] = {"class_type": "VAEDecode", "inputs": {"samples": ["93", 0], "vae": given["vae"]}}


def photo(graph: Graph, resize: str = "crop") -> None:
    """A loaded picture whose size is not the model's."""
    place = find(graph, "Sample")
    graph["94"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    for entry in graph.values():
        for name, value in entry["inputs"].items():
            if value == [place, 0]:
                entry["inputs"][name] = ["94", 0]
    put(graph, "SourceReference", resize=resize)


def second_reference(graph: Graph) -> None:
    graph["95"] = {"class_type": "LoadImage", "inputs": {"image": "reference.png"}}
    for kind in ("QueryEmbeddings", "SourceReference"):
        put(graph, kind, reference_2=["95", 0])


def between(graph: Graph, target: str, node: str, kind: str, **inputs: Any) -> None:
    """A node on the wire of the MODEL that ends in `target`."""
    wire = graph[find(graph, target)]["inputs"]["model"]
    graph[node] = {"class_type": kind, "inputs": {"model": wire, **inputs}}
    put(graph, target, model=[node, 0])


def attention(graph: Graph) -> None:
    between(graph, "Sampler", "96", "InstructXAttention", mode="exact")
    graph["97"] = {"class_type": "PreviewAny", "inputs": {"source": ["96", 1]}}


def with_lora(graph: Graph) -> None:
    between(graph, "SourceReference", "98", "LoraLoaderModelOnly", lora_name="lora.safetensors", strength_model=0.5)


def checkpoint(graph: Graph, file: str = "kiwi_stage3.safetensors", encoder: str = "", **values: Any) -> None:
    """Load Checkpoint instead of the loaders of DiT and encoder."""
    old = {find(graph, "UNETLoader"): 0, find(graph, "LoadEncoder"): 1}
    chosen = encoder or (OWN if file == "kiwi-edit-5b" else KIWI)
    inputs = {"checkpoint": file, "encoder": chosen, "reference_position": "auto", "dtype": "fp32", "device": "auto"}
    graph["99"] = {"class_type": "InstructXLoadCheckpoint", "inputs": inputs | values}
    for entry in graph.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, list) and value[0] in old:
                entry["inputs"][name] = ["99", old[value[0]]]
    for node in old:
        del graph[node]
