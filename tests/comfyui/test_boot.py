"""The pack on a running ComfyUI: nodes are there, also twice under other names; a light start; /free; errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

TINY = "instructx_tiny.safetensors"
NODES = {
    "InstructXLoadModel",
    "InstructXLoadEncoder",
    "InstructXLoadCheckpoint",
    "InstructXQueryEmbeddings",
    "InstructXConnector",
    "InstructXAttention",
    "InstructXSourceReference",
    "InstructXSampler",
    "InstructXLongVideo",
    "InstructXCompare",
    "InstructXSample",
}
HEAVY = ("transformers", "diffusers", "peft", "accelerate")

# A pack of the test's own, beside ours: what can't be seen over HTTP.
FAILED = re.compile(r"IMPORT FAILED.*custom_nodes")  # a host without torchaudio names its own audio nodes so
PROBE = (
    f"HEAVY = {HEAVY!r}"
    + """
import gc, sys
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
OURS = ("LoadedEncoder", "EncoderModule", "Queries")

@PromptServer.instance.routes.get("/instructx_probe")
async def probe(request):
    gc.collect()
    alive = {name: sum(type(thing).__name__ == name for thing in gc.get_objects()) for name in OURS}
    ours = [name for name in sys.modules if name.endswith("instructx_core.encoder.forward")]
    heavy = [name for name in HEAVY if sys.modules.get(name)]
    return web.json_response({"alive": alive, "heavy": heavy, "encoder_modules": ours})
"""
)


@pytest.fixture(scope="module")
def probed(hosting: ModuleType, boot: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A host with the pack under two other folder names, and the probe."""
    probe = tmp_path_factory.mktemp("probe") / "zz_probe.py"
    probe.write_text(PROBE, encoding="utf-8")
    return boot(packs=("instructx copy.v1", "zz-InstructX"), files=(probe,))


def encode_graph(instruction: str = "make the circle blue", **changes: dict[str, Any]) -> dict[str, Any]:
    """API graph: Load Encoder -> Query Embeddings -> Connector -> Source and Reference, with the model's own files."""
    graph: dict[str, Any] = {
        "encoder": ("InstructXLoadEncoder", {"encoder": TINY, "adapter": TINY, "dtype": "auto", "device": "auto"}),
        "source": ("LoadImage", {"image": "source.png"}),
        "queries": (
            "InstructXQueryEmbeddings",
            {"encoder": ["encoder", 0], "instruction": instruction, "source": ["source", 0], "modality": "auto",
             "drop_instruction": False, "fps": 0.0},
        ),
        "connector": ("InstructXConnector", {"queries": ["queries", 0]}),
        "unet": ("UNETLoader", {"unet_name": TINY, "weight_dtype": "default"}),
        "vae": ("VAELoader", {"vae_name": TINY}),
        "edit": (
            "InstructXSourceReference",
            {"model": ["unet", 0], "positive": ["connector", 0], "vae": ["vae", 0], "source": ["source", 0],
             "resize": "crop", "length": "pad"},
        ),
        "sample": (
            "KSampler",
            {"model": ["edit", 0], "positive": ["edit", 1], "negative": ["edit", 2], "latent_image": ["edit", 3],
             "seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        ),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": ["vae", 0]}),
        "preview": ("PreviewImage", {"images": ["decode", 0]}),
    }  # fmt: skip
    for node, inputs in changes.items():
        graph[node][1].update(inputs)
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in graph.items()}


def put_source(host: Any) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    host.put_input("source.png", picture)


def test_nodes_are_registered(host: Any) -> None:
    info = host.object_info()
    assert set(info) >= NODES
    for name in NODES:
        assert info[name]["category"] == "InstructX"
        for kind in ("required", "optional"):
            for key, spec in info[name]["input"].get(kind, {}).items():
                assert len(spec) > 1 and spec[1].get("tooltip"), f"{name}.{key} has no tooltip"
                if spec[0] in ("INT", "FLOAT"):
                    ends = spelled(spec[1]["min"]), spelled(spec[1]["max"])
                    assert all(end in spec[1]["tooltip"] for end in ends), f"{name}.{key} does not say its range {ends}"


def spelled(number: float) -> str:
    """A limit as tooltips write it."""
    return {2**63 - 1: "2^63 - 1", 2**64 - 1: "2^64 - 1"}.get(number, str(number).removesuffix(".0"))


def test_shipped_model_is_offered_by_our_loaders_only(host: Any) -> None:
    """On an empty installation the first file of a list is what a foreign graph takes."""
    offering = set()
    for name, info in host.object_info().items():
        for group in ("required", "optional"):
            for key, (kind, *rest) in info["input"].get(group, {}).items():
                choices = kind if isinstance(kind, list) else rest[0].get("options", []) if rest else []
                if TINY in choices:
                    offering.add(f"{name}.{key}")
    assert offering == {
        "InstructXLoadModel.diffusion_model",
        "InstructXLoadModel.vae",
        "InstructXLoadEncoder.encoder",
        "InstructXLoadEncoder.adapter",
        "InstructXLoadCheckpoint.encoder",
    }
    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches", "checkpoints"):
        assert TINY not in host.get(f"/models/{folder}")


def test_graphs_that_name_it_in_the_hosts_loaders_still_run(host: Any) -> None:
    """As every graph did before Load Model; the picture is that of Load Model."""
    put_source(host)
    older, newer = encode_graph(), encode_graph()
    del newer["unet"], newer["vae"]
    newer["load"] = {
        "class_type": "InstructXLoadModel",
        "inputs": {"diffusion_model": TINY, "vae": TINY, "weight_dtype": "default"},
    }
    newer["edit"]["inputs"] |= {"model": ["load", 0], "vae": ["load", 1]}
    newer["decode"]["inputs"]["vae"] = ["load", 1]
    pictures = [host.pictures(host.run(graph))[0] for graph in (older, newer)]
    assert np.array_equal(*pictures) and pictures[0].std() > 1
    older["vae"]["inputs"]["vae_name"] = "gone.safetensors"
    assert "gone.safetensors" in host.fails(older)


def test_nothing_went_wrong_in_the_log(host: Any) -> None:
    log = host.log()
    assert not FAILED.search(log) and "InstructX: node" not in log, log[-3000:]
    ours = [part for part in log.split("Traceback")[1:] if "ComfyUI-InstructX" in part.split("\n\n")[0]]
    assert not ours, ours[0]  # a host without torchaudio reports its own audio nodes
    seconds = re.search(r"([\d.]+) seconds: .*ComfyUI-InstructX", log)
    assert seconds is not None
    print(f"the host says the pack took {seconds.group(1)} s to import")  # benchmarks/host_start.py measures it


def test_start_is_light(probed: Any) -> None:
    """Neither transformers (the host's own, for tokenizers) nor our encoder is imported before a node runs."""
    state = probed.get("/instructx_probe")
    assert [name for name in state["heavy"] if name != "transformers"] == []
    assert state["encoder_modules"] == [] and state["alive"]["LoadedEncoder"] == 0


def test_twice_under_other_names_and_free(probed: Any) -> None:
    """Two copies in folders with blanks, dots and dashes do not disturb each other; /free drops every encoder."""
    assert set(probed.object_info()) >= NODES and not FAILED.search(probed.log())
    put_source(probed)
    entry = probed.run(encode_graph())
    assert [picture.shape for picture in probed.pictures(entry)] == [(64, 64, 3)]
    assert probed.get("/instructx_probe")["alive"]["LoadedEncoder"] == 1
    probed.free()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        alive = probed.get("/instructx_probe")["alive"]
        if not any(alive.values()):
            break
        time.sleep(0.2)
    assert alive == {"LoadedEncoder": 0, "EncoderModule": 0, "Queries": 0}
    assert probed.pictures(probed.run(encode_graph()))  # and the next run is clean


def test_encode_is_cached_while_inputs_stay(host: Any) -> None:
    """A change behind the encoder runs no encode; a new instruction encodes, and loads nothing anew."""
    put_source(host)
    host.run(encode_graph())
    for changes, cached in (({"sample": {"seed": 2}}, True), ({"queries": {"instruction": "invert it"}}, False)):
        entry = host.run(encode_graph(**changes))
        done = dict(entry["status"]["messages"])
        assert "encoder" in done["execution_cached"]["nodes"]
        assert ("queries" in done["execution_cached"]["nodes"]) is cached, json.dumps(entry["status"])[:500]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": {"instruction": " "}}, "InstructXQueryEmbeddings: the instruction is empty; say what to change"),
        ({"encoder": {"encoder": "gone.safetensors"}}, "Value not in list|no gone.safetensors in models/text_encoders"),
        ({"encoder": {"dtype": "int3"}}, "Value not in list|dtype is 'int3'; use auto, bf16, fp16, fp32"),
        ({"encoder": {"device": "tpu"}}, "Value not in list|device is 'tpu'; use auto or cpu"),
    ],
)
def test_wrong_graphs_say_so(host: Any, changes: dict[str, Any], message: str) -> None:
    """0.3.75 does not check the choices of V3 nodes, newer hosts do: then their message comes first."""
    put_source(host)
    assert re.search(message, host.fails(encode_graph(**changes)))


def test_an_error_has_no_class_path_on_the_page(host: Any) -> None:
    """The page shows type and message: "InputError: the instruction is empty ..."."""
    put_source(host)
    entry = host.wait(host.queue(encode_graph(queries={"instruction": " "})))
    assert dict(entry["status"]["messages"])["execution_error"]["exception_type"] == "InputError"


def test_files_of_the_pack(hosting: ModuleType, root: Path) -> None:
    """What an artist gets: the code and the tiny model; no tests, training, benchmarks or CI."""
    files = hosting.pack_files()
    size = sum((root / name).stat().st_size for name in files)
    print(f"the pack has {len(files)} files, {size / 2**20:.1f} MiB")
    needed = {"__init__.py", "nodes/load_encoder.py", "instructx_core/encoder/forward.py", "LICENSE", "README.md"}
    assert needed <= set(files)
    assert f"instructx_core/assets/tiny/text_encoders/{TINY}" in files
    outside = ("tests/", "benchmarks/", "docs/", ".ci/", "instructx_core/training/", "instructx_core/commands/")
    assert not [name for name in files if name.startswith(outside)]
