"""Ours in graphs of popular packs: KJNodes, VideoHelperSuite, rgthree-comfy and the Impact Pack, over HTTP.

COMFYUI_PACKS_PATH names a folder with checkouts of the first three, and of the Impact Pack (version 7 with its
impact_subpack, which its installer clones) for its own test; what is not there is skipped. Their packages are needed
too: color-matcher, mss, imageio-ffmpeg; segment-anything, piexif, dill, ultralytics.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from instructx_core.media.files import write_video

pytestmark = pytest.mark.comfyui

NAMES = ("ComfyUI-KJNodes", "ComfyUI-VideoHelperSuite", "rgthree-comfy")
IMPACT = "ComfyUI-Impact-Pack"
Graph = dict[str, Any]


@pytest.fixture(scope="module")
def packs(boot: Any, graphs: Any) -> Any:
    """host, its node definitions, graphs of test_interplay.py and the picture of the plain edit."""
    given = os.environ.get("COMFYUI_PACKS_PATH")
    if not given:
        pytest.skip(f"COMFYUI_PACKS_PATH is not set: needs a folder with checkouts of {', '.join(NAMES)}")
    impact = [IMPACT] if (Path(given) / IMPACT).is_dir() else []
    host = boot(files=tuple(Path(given) / name for name in (*NAMES, *impact)))
    rng = np.random.default_rng(0)
    host.put_input("photo.png", rng.integers(0, 256, (77, 131, 3), np.uint8))
    write_video(host.base / "input" / "clip.mp4", rng.integers(0, 256, (17, 64, 64, 3), np.uint8), Fraction(16))
    (plain,) = graphs.pictures(host, graphs.edit())
    return SimpleNamespace(host=host, info=host.object_info(), graphs=graphs, plain=plain)


def filled(packs: Any, kind: str, /, **given: Any) -> dict[str, Any]:
    """A node of theirs with the defaults of what is not given."""
    inputs = {}
    for name, (choices, *options) in packs.info[kind]["input"]["required"].items():
        default = (options[0] if options else {}).get("default", choices[0])
        listed = isinstance(choices, list)
        if name not in given and (listed or "default" in (options[0] if options else {})):
            inputs[name] = default if not listed or default in choices else choices[0]
    return {"class_type": kind, "inputs": inputs | given}


def patched(packs: Any, kind: str, medium: str = "image", **given: Any) -> Graph:
    """An edit with one of their nodes between Source and Reference and Sampler."""
    graph = packs.graphs.edit(medium)
    graph["patch"] = filled(packs, kind, model=graph["sampler"]["inputs"]["model"], **given)
    graph["sampler"]["inputs"]["model"] = ["patch", 0]
    return graph


def from_node(packs: Any, name: str, node: dict[str, Any], medium: str = "image") -> Graph:
    """An edit whose source comes from this node."""
    graph = packs.graphs.edit(medium) | {name: node}
    for reader in ("queries", "source"):
        graph[reader]["inputs"]["source"] = [name, 0]
    graph["source"]["inputs"] |= {"resize": "crop", "length": "pad"}
    return graph


@pytest.mark.parametrize(
    "kind", ["WanChunkFeedForward", "PathchSageAttentionKJ", "ModelPatchTorchSettings", "PatchModelPatcherOrder"]
)
def test_patches_that_change_no_number(packs: Any, kind: str) -> None:
    (picture,) = packs.graphs.pictures(packs.host, patched(packs, kind))
    assert np.array_equal(picture, packs.plain)


def test_patches_that_guide(packs: Any) -> None:
    graph = packs.graphs.guided(patched(packs, "CFGZeroStarAndInit"))
    graph["sampler"]["inputs"]["cfg"] = 3.0
    (picture,) = packs.graphs.pictures(packs.host, graph)
    assert picture.std() > 5 and not np.array_equal(picture, packs.plain)
    clip = patched(packs, "WanVideoEnhanceAVideoKJ", "video", latent=["source", 3])
    assert len(packs.graphs.pictures(packs.host, clip)) == 17
    said = packs.host.fails(patched(packs, "WanVideoNAG", conditioning=["connector", 0]))
    assert "give that node a conditioning of CLIP Text Encode with Wan's T5" in said


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_their_resize_and_its_mask(packs: Any, fit: str) -> None:
    resize = filled(packs, "ImageResizeKJv2", image=["photo", 0], width=96, height=64, keep_proportion=fit)
    graph = from_node(packs, "resized", resize)
    graph["photo"] = packs.graphs.node("LoadImage", image="photo.png")
    if fit == "pad":
        graph["source"]["inputs"]["mask"] = ["resized", 3]
    (picture,) = packs.graphs.pictures(packs.host, graph)
    assert picture.shape == (64, 96, 3) and picture.std() > 5


def test_a_clip_in_and_out(packs: Any) -> None:
    """Load Video, its rate over a wire, Video Combine; and in batches of nine frames, which are edits of their own."""
    load = filled(packs, "VHS_LoadVideo", video="clip.mp4")
    graph = from_node(packs, "clip", load, "video")
    graph["facts"] = filled(packs, "VHS_VideoInfo", video_info=["clip", 3])
    graph["queries"]["inputs"]["fps"] = ["facts", 0]
    combine = {"frame_rate": 16, "format": "video/h264-mp4", "filename_prefix": "packs"}
    graph["out"] = filled(packs, "VHS_VideoCombine", images=["sampler", 0], **combine)
    del graph["save"]
    (file,) = packs.host.outputs(packs.host.run(graph), "out")
    assert file["filename"].endswith(".mp4") and len(packs.host.view(file)) > 1000
    graph["batches"] = filled(packs, "VHS_BatchManager", frames_per_batch=9)
    for name in ("clip", "out"):
        graph[name]["inputs"]["meta_batch"] = ["batches", 0]
    assert packs.host.run(graph)["status"]["status_str"] == "success"


def test_switches_and_contexts(packs: Any) -> None:
    """Values of our own type through a switch, all that Source and Reference gives through one bundle, and a seed."""
    graph = packs.graphs.edit()
    graph["switch"] = packs.graphs.node("Any Switch (rgthree)", any_01=["encoder", 0])
    graph["queries"]["inputs"]["encoder"] = ["switch", 0]
    parts = {"model": 0, "positive": 1, "negative": 2, "latent": 3}
    wires = {name: ["source", slot] for name, slot in parts.items()} | {"vae": ["vae", 0]}
    graph["bundle"] = packs.graphs.node("Context (rgthree)", **wires)
    slots = {"model": 1, "vae": 3, "positive": 4, "negative": 5, "latent": 6}
    graph["sampler"]["inputs"] |= {name: ["bundle", slot] for name, slot in slots.items()}
    graph["compare"] = packs.graphs.node("Image Comparer (rgthree)", image_a=["source", 4], image_b=["sampler", 0])
    (picture,) = packs.graphs.pictures(packs.host, graph)
    assert np.array_equal(picture, packs.plain)
    graph["seed"] = packs.graphs.node("Seed (rgthree)", seed=5)
    graph["sampler"]["inputs"]["seed"] = ["seed", 0]
    (other,) = packs.graphs.pictures(packs.host, graph)
    assert not np.array_equal(other, packs.plain)


def test_impact(packs: Any) -> None:
    """Its switch on a value of our own type, the instruction from its wildcards, and our sentence out of its upscaler.

    The Impact Pack wraps the host's sampler, and takes a latent of a clip for one of a picture.
    """
    if "ImpactSwitch" not in packs.info:
        pytest.skip(f"COMFYUI_PACKS_PATH holds no {IMPACT}, or the host could not import it")
    graph = packs.graphs.edit()
    graph["switch"] = packs.graphs.node("ImpactSwitch", select=1, sel_mode=False, input1=["encoder", 0])
    graph["queries"]["inputs"]["encoder"] = ["switch", 0]
    (picture,) = packs.graphs.pictures(packs.host, graph)
    assert np.array_equal(picture, packs.plain)
    text = {"wildcard_text": "", "populated_text": "{invert the colors|invert the colors}", "mode": False, "seed": 0}
    words = {}
    for name, instruction in (("typed", "invert the colors"), ("drawn", ["wildcard", 0])):
        graph = packs.graphs.edit()
        graph["wildcard"] = filled(packs, "ImpactWildcardProcessor", **text)
        graph["queries"]["inputs"]["instruction"] = instruction
        (words[name],) = packs.graphs.pictures(packs.host, graph)
    assert np.array_equal(words["typed"], words["drawn"]) and not np.array_equal(words["typed"], packs.plain)
    graph = packs.graphs.native(packs.graphs.edit())
    ends = {name: graph["ksampler"]["inputs"][name] for name in ("positive", "negative")}
    again = {"model": ["shift", 0], "vae": ["vae", 0], "steps": 2, "cfg": 1.0, "denoise": 0.5}
    graph["upscaler"] = filled(packs, "PixelKSampleUpscalerProvider", **ends, **again)
    graph["larger"] = filled(
        packs, "IterativeLatentUpscale", samples=["ksampler", 0], upscaler=["upscaler", 0], upscale_factor=2.0, steps=1
    )
    graph["decode"]["inputs"]["samples"] = ["larger", 0]
    assert "sample the LATENT of Source and Reference (InstructX)" in packs.host.fails(graph)  # it knows pictures only
