"""Sizes of public models and names of folders are each in one table: no other file has them as numbers or words."""

from __future__ import annotations

import ast

from sources import SOURCES

from instructx_core.config import kiwi_5b, paper_14b
from instructx_core.formats.layouts import folders, public_models

TOLD = ("instructx_core/formats/", "nodes/")


def constants(*without: str) -> dict[str, set[object]]:
    """File -> the numbers and words in its code."""
    files = [source for source in SOURCES.values() if source.name.startswith(TOLD) and source.name not in without]
    return {f.name: {node.value for node in ast.walk(f.tree) if isinstance(node, ast.Constant)} for f in files}


def test_sizes_and_counts() -> None:
    widths = {dit.dim for dit in public_models.DITS} | set(public_models.QWEN_SIZES)
    counts = {model.tensors for model in (*public_models.DITS, *public_models.VAES)}
    counts |= {*public_models.QWEN_TENSORS, *public_models.KIWI_TENSORS.values()}
    found = constants("instructx_core/formats/layouts/public_models.py")
    assert len(found) > 40 and len(widths) == 6 and len(counts) == 8
    assert not {name: both for name, values in found.items() if (both := values & (widths | counts))}


def test_the_presets_have_public_sizes() -> None:
    for config, name in ((paper_14b(), "2.1 T2V-14B"), (kiwi_5b(), "2.2 TI2V-5B")):
        dit = config.denoiser
        public = public_models.public_dit({"dim": dit.dim, "layers": dit.num_layers, "in_channels": dit.in_channels})
        assert public is not None and public.name == name
        assert public_models.public_vae(config.vae.is_residual).channels == public.channels == config.vae.z_dim
        assert public_models.public_vae(config.vae.is_residual).spatial == config.vae.scale_factor_spatial
        assert public_models.qwen_size(config.mllm.hidden_size) == public_models.QWEN_NEEDED


def test_folders_and_files_in_them() -> None:
    names = {*folders.SEARCHED, folders.KIWI_MLLM, folders.KIWI_PROCESSOR, folders.KIWI_REFERENCE}
    names |= {folders.TOKENIZER_FILE, *folders.TOKENIZER_PAIR, folders.CONFIG_FILE}
    names |= {folders.DIFFUSERS_INDEX, folders.DIFFUSERS_WEIGHTS}
    names -= {"vae", "clip", "diffusers"}  # also names of a part, of a kind of model, of a way to spell tensors
    host = "nodes/parts/host.py"  # knows a folder in the tree of ComfyUI's code
    found = constants("instructx_core/formats/layouts/folders.py", host)
    assert not {name: both for name, values in found.items() if (both := values & names)}
