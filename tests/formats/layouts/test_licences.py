"""Licence notices at load: Wan's, Qwen's and Kiwi-Edit's, in the log and in the report, for public sizes only.

The files hold zeros and are holes on the disk. What makes a size public (width, layers, channels) is as in the public
files; everything else is as small as the classes allow, so that a real load is quick.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import kiwi_files
import pytest
import torch
from small import config
from sparse import sparse_file

from instructx_core.config import InstructXConfig, LoraConfig, MllmConfig, VaeConfig, VisionConfig
from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original
from instructx_core.formats.layouts.public_models import KIWI_LICENCE, QWEN_LICENCE, WAN_LICENCE
from instructx_core.formats.layouts.qwen_names import mllm_to_original
from instructx_core.formats.loading import load_denoiser, load_encoder, load_vae


def zeros(path: Path, module: torch.nn.Module, rename: Any) -> Path:
    """A file of the module's shapes, bf16."""
    shapes = {rename(name): ("BF16", tuple(value.shape)) for name, value in module.state_dict().items()}
    return sparse_file(path, shapes)


def notices(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Which licences the log has named since the last call."""
    texts = {"Wan": WAN_LICENCE, "Qwen": QWEN_LICENCE, "Kiwi": KIWI_LICENCE}
    found = {name for name, text in texts.items() if text in caplog.text}
    caplog.clear()
    return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="instructx")
    return caplog


def test_the_notices_say_what_they_must() -> None:
    assert WAN_LICENCE == "Wan weights: Apache-2.0"
    assert "non-commercial" in QWEN_LICENCE and "state no licence" in KIWI_LICENCE


@pytest.mark.parametrize(("width", "named"), [(1536, {"Wan"}), (128, set())])
def test_dit(log: Any, tmp_path: Path, width: int, named: set[str]) -> None:
    from instructx_core.denoiser import build_denoiser

    base = config()
    sizes = {"dim": width, "num_heads": width // 128, "ffn_dim": 16, "num_layers": 30}
    settings = dataclasses.replace(base, denoiser=dataclasses.replace(base.denoiser, **sizes))
    with torch.device("meta"):
        module = build_denoiser(settings)
    load_denoiser(zeros(tmp_path / "wan.safetensors", module, dit_to_original), settings)
    assert notices(log) == named


@pytest.mark.parametrize(("width", "named"), [(96, {"Wan"}), (8, set())])
def test_vae(log: Any, tmp_path: Path, width: int, named: set[str]) -> None:
    from instructx_core.vae import build_vae

    settings = dataclasses.replace(config(), vae=VaeConfig(base_dim=width))
    with torch.device("meta"):
        module = build_vae(settings.vae)
    path = zeros(tmp_path / "vae.safetensors", module, lambda name: vae_to_original(name, settings.vae))
    load_vae(path, settings)
    assert notices(log) == named


@pytest.mark.parametrize(("width", "named"), [(2048, {"Qwen"}), (128, set())])
def test_qwen(log: Any, tmp_path: Path, width: int, named: set[str]) -> None:
    from instructx_core.encoder.designs import build_encoder

    settings = qwen_config(width)
    with torch.device("meta"):
        module = build_encoder(settings)
    path = zeros(tmp_path / "qwen.safetensors", module.mllm, mllm_to_original)
    own = {name: value for name, value in module.state_dict().items() if not name.startswith("mllm.")}
    load_encoder(path, settings, {name: torch.zeros(value.shape) for name, value in own.items()})
    assert notices(log) == named


def qwen_config(width: int) -> InstructXConfig:
    vision = VisionConfig(depth=1, hidden_size=64, intermediate_size=16, num_heads=4, full_attention_blocks=())
    mllm = MllmConfig(
        vocab_size=320,
        hidden_size=width,
        intermediate_size=16,
        num_layers=1,
        num_heads=width // 128,
        num_kv_heads=1,
        vision=vision,
    )
    return dataclasses.replace(config(), mllm=mllm, lora=LoraConfig(rank=1, alpha=1))


def test_a_kiwi_folder_names_its_own_on_every_load(log: Any, tmp_path: Path) -> None:
    """Training files: test_kiwi.py."""
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(kiwi_files.folder(tmp_path / "kiwi", kiwi_files.config(), told=True))
    assert "Kiwi" in notices(log)
    assert any(KIWI_LICENCE in report.notes for report in pipe.load_reports)
