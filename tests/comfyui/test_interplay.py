"""The pack on a running ComfyUI beside the host's own nodes: what an artist wires around it, over HTTP.

Numbers are compared in tests/nodes/test_interplay.py; here the real loaders, the executor's cache, the prompt worker's
interrupt and the launch options take part. All graphs use the shipped tiny model and few steps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui

FILE = "instructx_tiny.safetensors"
Graph = dict[str, Any]


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def edit(kind: str = "image", task: str = "color", weights: str = "default", **settings: Any) -> Graph:
    """The API graph of one edit by the pack's Sampler; references are wired for the reference tasks."""
    references = {"reference_1": ["sample", 2]} if task.startswith("reference") else {}
    sampler = {
        "seed": 1, "steps": 2, "cfg": 1.0, "shift": 3.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, **settings,
    }  # fmt: skip
    return {
        "unet": node("UNETLoader", unet_name=FILE, weight_dtype=weights),
        "vae": node("VAELoader", vae_name=FILE),
        "encoder": node("InstructXLoadEncoder", encoder=FILE, adapter=FILE, dtype="auto", device="auto"),
        "sample": node("InstructXSample", kind=kind, edit=task, seed=3),
        "queries": node(
            "InstructXQueryEmbeddings", encoder=["encoder", 0], instruction=["sample", 1], source=["sample", 0],
            modality="auto", drop_instruction=False, fps=0.0, **references,
        ),
        "connector": node("InstructXConnector", queries=["queries", 0]),
        "source": node(
            "InstructXSourceReference", model=["unet", 0], positive=["connector", 0], vae=["vae", 0],
            source=["sample", 0], resize="error", length="error", **references,
        ),
        "sampler": node(
            "InstructXSampler", model=["source", 0], positive=["source", 1], negative=["source", 2],
            latent=["source", 3], vae=["vae", 0], **sampler,
        ),
        "save": node("PreviewImage", images=["sampler", 0]),
    }  # fmt: skip


def guided(graph: Graph) -> Graph:
    """The same graph with a negative without instruction."""
    free = {**graph["queries"]["inputs"], "drop_instruction": True}
    graph["free_queries"] = node("InstructXQueryEmbeddings", **free)
    graph["free_connector"] = node("InstructXConnector", queries=["free_queries", 0])
    graph["source"]["inputs"]["negative"] = ["free_connector", 0]
    return graph


def native(graph: Graph) -> Graph:
    """The same graph with the host's own ModelSamplingSD3, KSampler and VAEDecode."""
    old = graph.pop("sampler")["inputs"]
    graph["shift"] = node("ModelSamplingSD3", model=old["model"], shift=old.pop("shift"))
    graph["ksampler"] = node(
        "KSampler",
        model=["shift", 0],
        latent_image=old["latent"],
        **{key: value for key, value in old.items() if key not in ("model", "latent", "vae")},
    )
    graph["decode"] = node("VAEDecode", samples=["ksampler", 0], vae=["vae", 0])
    graph["save"] = node("PreviewImage", images=["decode", 0])
    return graph


def between(graph: Graph, name: str, kind: str, target: tuple[str, str], slot: str, /, **inputs: Any) -> Graph:
    """Puts one of the host's nodes on the wire that ends in `target` (node, input)."""
    wire = graph[target[0]]["inputs"][target[1]]
    graph[name] = node(kind, **{slot: wire}, **inputs)
    graph[target[0]]["inputs"][target[1]] = [name, 0]
    return graph


def defaults(host: Any, kind: str) -> dict[str, Any]:
    """Default values of a host's node: newer hosts have inputs that older ones lack."""
    required = host.get(f"/object_info/{kind}")[kind]["input"]["required"]
    return {name: spec[1]["default"] for name, spec in required.items() if len(spec) > 1 and "default" in spec[1]}


def pictures(host: Any, graph: Graph) -> list[np.ndarray]:
    return host.pictures(host.run(graph), "save")


def lora_file(folder: Path) -> str:
    """A LoRA on the shipped DiT, in the names of ComfyUI's own key map."""
    import torch
    from safetensors.torch import save_file

    generator = torch.manual_seed(0)
    state = {}
    for layer in ("self_attn.q", "self_attn.o", "ffn.0"):
        rows = 768 if layer == "ffn.0" else 256
        state[f"diffusion_model.blocks.2.{layer}.lora_A.weight"] = torch.randn(4, 256, generator=generator) * 0.2
        state[f"diffusion_model.blocks.2.{layer}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.2
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "dit_lora.safetensors")
    return "dit_lora.safetensors"


@pytest.fixture(scope="module")
def plain(host: Any) -> np.ndarray:
    """The unchanged edit, for comparison."""
    (picture,) = pictures(host, edit())
    return picture


def test_hosts_own_sampler_gives_the_same_picture(host: Any, plain: np.ndarray) -> None:
    (picture,) = pictures(host, native(edit()))
    assert np.array_equal(picture, plain)


def test_custom_sampling_gives_the_same_picture(host: Any, plain: np.ndarray) -> None:
    """SamplerCustom, and the guiders of SamplerCustomAdvanced."""
    graph = native(edit())
    old = graph.pop("ksampler")["inputs"]
    ends = {name: old[name] for name in ("positive", "negative")}
    graph |= {
        "method": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=old["model"], scheduler="simple", steps=2, denoise=1.0),
        "noise": node("RandomNoise", noise_seed=old["seed"]),
        "guider": node("CFGGuider", model=old["model"], cfg=1.0, **ends),
    }
    common = {"sampler": ["method", 0], "sigmas": ["sigmas", 0], "latent_image": old["latent_image"]}
    custom = node(
        "SamplerCustom", model=old["model"], add_noise=True, noise_seed=old["seed"], cfg=1.0, **ends, **common
    )
    advanced = node("SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], **common)
    for sampler in (custom, advanced):
        (picture,) = pictures(host, graph | {"ksampler": sampler})
        assert np.array_equal(picture, plain)


def test_report(host: Any, hosting: Any) -> None:
    """What the node did is in the log, and in the entry of a run that executed it."""
    host.free()
    entry = host.run(edit(task="reference_add"))
    assert hosting.texts(entry, "source") == ["16 tokens (latent 1x8x8) + 16 for 1 reference(s)"]
    assert "InstructX: 16 tokens (latent 1x8x8) + 16 for 1 reference(s)" in host.log()


def test_lora_and_fp8(host: Any, plain: np.ndarray) -> None:
    """A LoRA is loaded whole, before or behind the patch, also on fp8 weights; at strength 0 nothing changes."""
    name = lora_file(host.base / "models" / "loras")
    target = {"behind": ("sampler", "model"), "before": ("source", "model")}

    def with_lora(where: str, strength: float, weights: str = "default") -> np.ndarray:
        graph = between(
            edit(weights=weights),
            "lora",
            "LoraLoaderModelOnly",
            target[where],
            "model",
            lora_name=name,
            strength_model=strength,
        )
        return pictures(host, graph)[0]

    behind, before = with_lora("behind", 1.0), with_lora("before", 1.0)
    assert np.array_equal(behind, before)
    assert np.abs(behind.astype(int) - plain).max() > 2
    assert np.array_equal(with_lora("behind", 0.0), plain)
    fp8 = with_lora("behind", 1.0, "fp8_e4m3fn")
    assert np.abs(fp8.astype(int) - behind).mean() < 12
    assert "lora key not loaded" not in host.log()


def test_guidance_batch_and_mask(host: Any, plain: np.ndarray) -> None:
    (strong,) = pictures(host, guided(edit(cfg=4.0)))
    assert not np.array_equal(strong, plain)
    graph = between(edit(), "repeat", "RepeatLatentBatch", ("sampler", "latent"), "samples", amount=2)
    assert [picture.shape for picture in pictures(host, graph)] == [(64, 64, 3)] * 2
    graph = edit()
    graph["mask"] = node("SolidMask", value=0.0, width=64, height=64)
    graph = between(graph, "masked", "SetLatentNoiseMask", ("sampler", "latent"), "samples", mask=["mask", 0])
    graph["source_image"] = node("PreviewImage", images=["unedited", 0])
    graph["unedited"] = node("VAEDecode", samples=["source", 3], vae=["vae", 0])
    entry = host.run(graph)
    (kept,), (source,) = host.pictures(entry, "save"), host.pictures(entry, "source_image")
    assert np.abs(kept.astype(int) - source).max() <= 1, "a mask of zeros keeps the whole source"


def test_regions_and_context_windows(host: Any, plain: np.ndarray) -> None:
    """Set Area on the right half; a clip in windows of three latent frames. (The host's Set Area Percentage fails on
    every video model: it gives two sides for three dimensions.)"""
    graph = between(
        edit(),
        "area",
        "ConditioningSetArea",
        ("sampler", "positive"),
        "conditioning",
        width=64,
        height=64,
        x=32,
        y=0,
        strength=1.0,
    )
    (half,) = pictures(host, graph)
    assert not np.array_equal(half, plain)
    windows = {"context_length": 9, "context_overlap": 5, "context_schedule": "standard_static"}
    graph = between(
        edit("video", "reference_add"),
        "windows",
        "WanContextWindowsManual",
        ("sampler", "model"),
        "model",
        **{**defaults(host, "WanContextWindowsManual"), **windows},
    )
    assert len(pictures(host, graph)) == 17
    assert "Using context windows" in host.log()


def test_interrupt_while_sampling(host: Any) -> None:
    """The run stops at once, and the next one is as if nothing had happened."""
    graph = edit("video", seed=5)
    want = pictures(host, graph)
    before, deadline = len(host.log()), time.monotonic() + 120
    prompt = host.queue(edit("video", seed=5, steps=900))
    while not re.search(r"\b[1-9]\d*/900\b", host.log()[before:]):  # the sampler's bar: a step is done
        assert time.monotonic() < deadline, host.log()[before:]
        time.sleep(0.1)
    host.interrupt()
    entry = host.wait(prompt)
    assert any(name == "execution_interrupted" for name, _ in entry["status"]["messages"])
    host.free()
    got = pictures(host, graph)
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_wrong_graphs(host: Any) -> None:
    """One sentence, naming the way out."""
    graph = edit()
    graph["sampler"]["inputs"]["model"] = ["unet", 0]
    assert "InstructXSampler: MODEL is not patched; take MODEL" in host.fails(graph)
    graph = native(edit())
    graph["shift"]["inputs"]["model"] = ["unet", 0]
    assert "KSampler: this conditioning needs a patched MODEL; connect the MODEL, positive" in host.fails(graph)
    graph = native(edit())
    graph["ksampler"]["inputs"]["positive"] = ["connector", 0]
    assert "take positive and negative from Source and Reference" in host.fails(graph)
    assert "set cfg to 1" in host.fails(native(edit(cfg=3.0)))
    graph = edit(task="reference_add")
    del graph["source"]["inputs"]["reference_1"]
    assert "had 1 reference(s), this node has 0" in host.fails(graph)
    graph = edit()
    graph["empty"] = node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1)
    graph["sampler"]["inputs"]["latent"] = ["empty", 0]
    assert "sample the LATENT of Source and Reference" in host.fails(graph)
    assert pictures(host, edit(seed=77)), "and the next graph runs"


def test_latent_previews(boot: Callable[..., Any], plain: np.ndarray) -> None:
    """--preview-method latent2rgb: the browser gets a picture a step, and the result is the same."""
    import asyncio

    import aiohttp

    host = boot(extra=("--preview-method", "latent2rgb"))
    graph = edit(steps=3)

    async def listen() -> list[bytes]:
        seen = []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{host.url}/ws?clientId=test") as socket:
            host.post("/prompt", {"prompt": graph, "client_id": "test"})
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    seen.append(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT and "execution_success" in message.data:
                    return seen
        return seen

    previews = asyncio.run(asyncio.wait_for(listen(), 120))
    assert len(previews) >= 3 and all(b"\xff\xd8\xff" in data for data in previews), "JPEG pictures"
    assert np.array_equal(pictures(host, edit())[0], plain)
