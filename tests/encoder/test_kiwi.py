"""Our encoder against the public model of the same design (showlab/Kiwi-Edit), whose numbers are tests/golden/.

scripts/make_golden.py made them by running its encoder on the model and pictures of kiwi_case.py, fp32 on a CPU.
The same file runs under transformers 4.57 and 5.x (test_compat_457), which proves that our numbers do not drift.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kiwi_case import CASES, TEXTS, byte_tokenizer, case, golden, run_lengths, samples, small_config, small_encoder

from instructx_core.config import with_parity
from instructx_core.encoder.inputs import EncoderInputs, prepare_inputs
from instructx_core.encoder.model import InstructXEncoder

GOLDEN = golden("encoder")
pytestmark = pytest.mark.compat
COMPAT_FILES = ("kiwi", "model", "text", "positions")


def our_inputs(name: str, parity: bool = False) -> EncoderInputs:
    frames, reference = case(name)
    config = with_parity(small_config()) if parity else small_config()
    return prepare_inputs(
        byte_tokenizer(), config, [TEXTS[name]], [frames], None if reference is None else [[reference]]
    )


@pytest.fixture(scope="module")
def encoder() -> InstructXEncoder:
    return small_encoder()


@pytest.mark.parametrize("name", CASES)
def test_sequence_equals_kiwi(name: str) -> None:
    """Ids (run lengths), positions (run lengths of their differences) and grids are equal, number by number."""
    inputs, want = our_inputs(name), GOLDEN[name]
    assert run_lengths(inputs.input_ids_BL[0].tolist()) == want["input_ids"]
    position_3L = inputs.position_ids_3BL[:, 0]
    assert position_3L[:, 0].tolist() == want["first_position"]
    assert [run_lengths(axis.diff().tolist()) for axis in position_3L] == want["position_ids"]
    assert list(inputs.grid) == want["grid"]
    if "reference_grid" in want:
        assert inputs.reference_grid == (tuple(want["reference_grid"]),)


@pytest.mark.parametrize("name", CASES)
def test_patches_equal_kiwi(name: str) -> None:
    """97 samples of the pixel values; 'resized' goes through PIL's bicubic there and ours here, equal to the level.

    A picture shrunk on both axes: PIL 13 chooses per size which axis goes first, older ones and ours start with width.
    """
    ours = torch.tensor(samples(our_inputs(name).patches_BSP), dtype=torch.float64)
    torch.testing.assert_close(ours, torch.tensor(GOLDEN[name]["pixels"], dtype=torch.float64), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_features_equal_kiwi(name: str, encoder: InstructXEncoder) -> None:
    """Query slice and both connectors' output, fp32; the switch rounds pixels to bf16, which Kiwi always does."""
    inputs = our_inputs(name, parity=True)
    with torch.no_grad():
        query_BQD, context_BLD = encoder.encode_features(inputs)[0], encoder(inputs)
    torch.testing.assert_close(query_BQD[0], torch.tensor(GOLDEN[name]["query"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(context_BLD[0], torch.tensor(GOLDEN[name]["context"]), atol=1e-5, rtol=0)


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
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, "--no-deps", "--no-compile"]
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=300)
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
