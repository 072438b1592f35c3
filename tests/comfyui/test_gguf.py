"""ComfyUI-GGUF beside the pack on a real host: the shipped DiT as GGUF files, through Unet Loader (GGUF), sampled.

Needs a checkout of ComfyUI-GGUF in COMFYUI_GGUF_PATH; skipped, with that sentence, where there is none. What its loader
reads is compared with UNETLoader's picture of the safetensors file. tests/nodes/test_weights.py: the same in numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui

KINDS = ("F32", "BF16", "F16", "Q8_0", "Q4_0")
Graph = dict[str, Any]


@pytest.fixture(scope="module")
def host(boot: Any, shipped: Path, graphs: Any, load_helper: Any) -> Any:
    """A host with both packs, and the shipped DiT in its folder as `KIND.gguf`."""
    folder = os.environ.get("COMFYUI_GGUF_PATH")
    if not folder:
        pytest.skip("COMFYUI_GGUF_PATH is not set: needs a checkout of ComfyUI-GGUF")
    host = boot(files=(Path(folder),))
    models = host.base / "models" / "diffusion_models"
    models.mkdir()
    write_gguf = load_helper("instructx_test_format_files", "formats/small.py").write_gguf
    for kind in KINDS:
        write_gguf(models / f"{kind}.gguf", stored(shipped / "diffusion_models" / graphs.FILE, kind))
    return host


def stored(source: Path, kind: str) -> dict[str, Any]:
    """A DiT in the layout of ComfyUI-GGUF's own converter: layers of two dimensions in `kind`, small ones in F32."""
    import gguf
    from safetensors.torch import load_file

    kinds = {name: kind if weight.ndim == 2 else "F32" for name, weight in load_file(source).items()}
    return {
        name: (kinds[name], gguf.quants.quantize(weight.float().numpy(), gguf.GGMLQuantizationType[kinds[name]]))
        for name, weight in load_file(source).items()
    }


def as_gguf(graph: Graph, kind: str) -> Graph:
    return graph | {"unet": {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": f"{kind}.gguf"}}}


def difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Mean difference of pictures, of 255."""
    return float(np.abs(np.stack(a).astype(float) - np.stack(b)).mean())


@pytest.fixture(scope="module")
def plain(host: Any, graphs: Any) -> list[np.ndarray]:
    """The edit with a reference by UNETLoader."""
    return graphs.pictures(host, graphs.edit(task="reference_swap", steps=4))


# Means over the picture, of 255; measured 0, 0, 0.00, 0.10 and 1.9. F32 and BF16 hold the file's own bf16 numbers, F16
# all but the smallest of them.
@pytest.mark.parametrize(("kind", "limit"), [("F32", 0.0), ("BF16", 0.0), ("F16", 0.05), ("Q8_0", 0.5), ("Q4_0", 6.0)])
def test_picture(host: Any, graphs: Any, plain: list[np.ndarray], kind: str, limit: float) -> None:
    got = graphs.pictures(host, as_gguf(graphs.edit(task="reference_swap", steps=4), kind))
    assert "gguf qtypes" in host.log()
    found = difference(got, plain)
    print(f"{kind}: mean difference {found:.3f} of 255")
    assert found <= limit


def test_clip_with_guidance(host: Any, graphs: Any) -> None:
    def clip(change: Any) -> list[np.ndarray]:
        return graphs.pictures(host, change(graphs.guided(graphs.edit("video", cfg=2.0))))

    want, got = clip(lambda graph: graph), clip(lambda graph: as_gguf(graph, "Q8_0"))
    assert len(got) == 17 and difference(got, want) < 0.5


def test_lora(host: Any, graphs: Any, plain: list[np.ndarray]) -> None:
    """A LoRA before or behind the patch, on blocks that are unpacked when they are used."""
    name = graphs.lora_file(host.base / "models" / "loras")

    def picture(target: tuple[str, str], kind: str | None) -> list[np.ndarray]:
        graph = graphs.edit(task="reference_swap", steps=4)
        if kind is not None:
            graph = as_gguf(graph, kind)
        lora = {"lora_name": name, "strength_model": 3.0}
        return graphs.pictures(host, graphs.between(graph, "lora", "LoraLoaderModelOnly", target, "model", **lora))

    want = picture(("sampler", "model"), None)
    assert difference(want, plain) > 2.0
    for target in (("sampler", "model"), ("source", "model")):
        assert difference(picture(target, "Q8_0"), want) < 0.5
    assert "lora key not loaded" not in host.log()


def test_free_and_again(host: Any, graphs: Any) -> None:
    graph = as_gguf(graphs.edit(), "Q8_0")
    want = graphs.pictures(host, graph)
    host.free()
    got = graphs.pictures(host, graph)
    assert np.array_equal(np.stack(got), np.stack(want))
