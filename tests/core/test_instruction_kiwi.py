"""Our encoder against the public model of the same design (showlab/Kiwi-Edit), whose numbers are tests/golden/.

How tests/golden/kiwi_encoder.json was made (no code of that repository is kept here): its mllm_encoder.py ran on CPU in
fp32 with transformers 4.57.0 in a side folder, stub modules for deepspeed and modelscope, the processor classes of
transformers around `byte_tokenizer()` (the query id 151646 patched to this vocabulary), the model of `small_config()`
filled by `fill()`, and the pictures of `picture()`; input ids, positions and outputs were recorded by hooks.
The same file runs under transformers 4.57 and 5.x (test_compat_457), which proves that our numbers do not drift.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instructx_core.config import SYSTEM_PROMPT, InstructXConfig, tiny
from instructx_core.instruction import EncoderInputs, InstructXEncoder, build_encoder, prepare_inputs
from instructx_core.tokenizer import train_tokenizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kiwi_encoder.json"
pytestmark = pytest.mark.compat
CASES = ("image", "video", "long_video", "reference", "resized")
COMPAT_FILES = ("instruction_kiwi", "instruction", "instruction_text", "positions")
TEXTS = {
    "image": "Make the circle blue.",
    "video": "Remove the dog; keep the grass.",
    "long_video": "Turn it to winter \u2603",
    "reference": "Replace the cup with this one.",
    "resized": "Add a hat ",
}


def byte_tokenizer():
    """256 bytes, the special tokens, no merges: the same ids under every release of tokenizers."""
    return train_tokenizer([], 256 + 26)


def small_config() -> InstructXConfig:
    """Kiwi-Edit's rules on a two-layer model: its prompt, sizes and slices, small widths."""
    base = tiny()
    mllm = dataclasses.replace(
        base.mllm,
        vocab_size=288,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        vision=dataclasses.replace(
            base.mllm.vision, depth=2, hidden_size=48, intermediate_size=64, num_heads=2, full_attention_blocks=(1,)
        ),
    )
    rule = dataclasses.replace(
        base.instruction,
        num_image_queries=4,
        num_video_queries=6,
        num_reference_queries=5,
        query_slice="tail",
        mllm_frames=16,
        frame_rule="cap",
        video_size_factor=2,
        temporal_position_step="fixed",
        reference_in_context=True,
        reference_suffix=" Use the reference input from last frame.",
        system_prompt=SYSTEM_PROMPT,
        min_pixels=100352,
        max_pixels=262144,
        max_image_pixels=16384 * 784,
        max_reference_pixels=28 * 28 * 768,
    )
    return dataclasses.replace(
        base, mllm=mllm, instruction=rule, denoiser=dataclasses.replace(base.denoiser, dim=32, num_heads=1)
    )


def fill(module: nn.Module) -> None:
    """Sets every parameter by a formula of its name and index, so that two implementations get the same weights."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            phase = zlib.crc32(name.encode()) % 1000 / 1000
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            wave = torch.sin(index * (0.7 + phase) + 6.0 * phase).reshape(parameter.shape)
            if parameter.ndim == 1:
                value = 1.0 + 0.1 * wave if "norm" in name or "ln_q" in name else 0.1 * wave
            else:
                value = wave * (1.0 if "queries" in name else 1.5 / math.sqrt(parameter[0].numel()))
            parameter.copy_(value)


def picture(frames: int, height: int, width: int, seed: int) -> Tensor:
    """uint8 (frames, height, width, 3): smooth in space, moving."""
    f, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (frames, height, width, 3)), indexing="ij")
    value = (y * (3 + seed) + x * 2 + f * 11 + c * 70 + (x * y) // 29) % 512
    return torch.where(value > 255, 511 - value, value).to(torch.uint8)


def case(name: str) -> tuple[Tensor, Tensor | None]:
    """Source frames (F, H, W, 3) and reference (H, W, 3) of a golden case."""
    return {
        "image": (picture(1, 84, 112, 0), None),
        "video": (picture(3, 224, 448, 1), None),
        "long_video": (picture(19, 336, 336, 2), None),
        "reference": (picture(4, 224, 504, 3), picture(1, 112, 140, 4)[0]),
        "resized": (picture(1, 90, 150, 5), None),
    }[name]


def small_encoder() -> InstructXEncoder:
    encoder = build_encoder(small_config()).eval()
    fill(encoder)
    return encoder


def our_inputs(name: str, batch: int = 1) -> EncoderInputs:
    frames, reference = case(name)
    references = None if reference is None else [[reference]] * batch
    return prepare_inputs(byte_tokenizer(), small_config(), [TEXTS[name]] * batch, [frames] * batch, references)


def run_lengths(values: list[int]) -> list[list[int]]:
    """[[value, count], ...]"""
    out: list[list[int]] = []
    for value in values:
        if out and out[-1][0] == value:
            out[-1][1] += 1
        else:
            out.append([value, 1])
    return out


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def encoder() -> InstructXEncoder:
    return small_encoder()


@pytest.mark.parametrize("name", CASES)
def test_sequence_equals_kiwi(name: str, golden: dict) -> None:
    """Ids (run lengths), positions (run lengths of their differences) and grids are equal, number by number."""
    inputs, want = our_inputs(name), golden[name]
    assert run_lengths(inputs.input_ids_BL[0].tolist()) == want["input_ids"]
    position_3L = inputs.position_ids_3BL[:, 0]
    assert position_3L[:, 0].tolist() == want["first_position"]
    assert [run_lengths(axis.diff().tolist()) for axis in position_3L] == want["position_ids"]
    assert list(inputs.grid) == want["grid"]
    if "reference_grid" in want:
        assert inputs.reference_grid == (tuple(want["reference_grid"]),)


@pytest.mark.parametrize("name", CASES)
def test_patches_equal_kiwi(name: str, golden: dict) -> None:
    """97 samples of the pixel values; 'resized' goes through PIL's bicubic there and ours here, equal to the level.

    A picture shrunk on both axes: PIL 13 chooses per size which axis goes first, older ones and ours start with width.
    """
    flat = our_inputs(name).patches_BSP.double().flatten()
    ours = flat[:: max(1, flat.numel() // 97)][:97]
    torch.testing.assert_close(ours, torch.tensor(golden[name]["pixels"], dtype=torch.float64), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_features_equal_kiwi(name: str, golden: dict, encoder: InstructXEncoder) -> None:
    """Query slice and context, fp32 on patches rounded to bf16 (Kiwi rounds its pixels whatever the model's dtype)."""
    inputs = our_inputs(name).to(dtype=torch.bfloat16)
    with torch.no_grad():
        query_BQD, context_BLD = encoder.encode_queries(inputs), encoder(inputs)
    torch.testing.assert_close(query_BQD[0], torch.tensor(golden[name]["query"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(context_BLD[0], torch.tensor(golden[name]["context"]), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("INSTRUCTX_COMPAT_CHILD") == "1", reason="this is the child process")
def test_compat_457(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tests above, and what the other files of the encoder mark `compat`, under transformers 4.57.

    INSTRUCTX_TRANSFORMERS_457 names a ready folder; else pip fills one (transformers 4.57, diffusers 0.36 and the hub
    and tokenizers releases that they accept). Skipped when pip cannot.
    """
    folder = os.environ.get("INSTRUCTX_TRANSFORMERS_457")
    if not folder:
        folder = str(tmp_path_factory.mktemp("transformers_457"))
        wanted = ["transformers==4.57.*", "diffusers==0.36.*", "tokenizers<0.23", "huggingface_hub<1.0"]
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, "--no-deps", *wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"pip cannot install transformers 4.57: {done.stderr.strip().splitlines()[-1:]}")
    environment = {**os.environ, "PYTHONPATH": folder, "INSTRUCTX_COMPAT_CHILD": "1"}
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in COMPAT_FILES]
    call = f"pytest.main(['-q', '-m', 'compat', '-p', 'no:cacheprovider', *{files!r}])"
    code = f"import transformers, pytest, sys; assert transformers.__version__[:4] == '4.57'; sys.exit({call})"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
