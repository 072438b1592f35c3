"""instructx verify on an artist's models folder with the real names and shapes (sparse files), whole and damaged."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.formats.telling.verify import verify


@pytest.fixture(scope="session")
def real(load_helper) -> ModuleType:
    return load_helper("instructx_test_real", "formats/real.py")


@pytest.fixture
def models(load_helper, real, tmp_path: Path):
    """put(place/name, entries) into a models folder that has the 5B files already."""
    sparse = load_helper("instructx_test_sparse", "formats/sparse.py")
    files = {
        "diffusion_models/wan2.2_ti2v_5B_fp16": real.dit("5B", "F16"),
        "vae/wan2.2_vae": real.vae("5B"),
        "text_encoders/qwen_2.5_vl_fp16": real.qwen("F16"),
        "text_encoders/umt5_xxl_fp16": {"encoder.block.0.layer.0.SelfAttention.k.weight": ("F16", (4, 4))},
        "checkpoints/kiwi_stage3": real.kiwi_training(3),
    }

    def put(name: str, entries, metadata=None) -> Path:
        return sparse.sparse_file(tmp_path / f"{name}.safetensors", entries, metadata)

    for name, entries in files.items():
        put(name, entries)
    put.root = tmp_path
    return put


def states(root: Path) -> dict[str, str]:
    return {check.path.stem: check.state for check in verify(root).checks}


def test_a_whole_folder(models, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = verify(models.root)
    assert verdict.good and not verdict.incomplete
    assert verdict.sets == ("kiwi_stage3.safetensors + wan2.2_vae.safetensors + qwen_2.5_vl_fp16.safetensors",)
    assert states(models.root) == {
        "wan2.2_ti2v_5B_fp16": "ok", "wan2.2_vae": "ok", "qwen_2.5_vl_fp16": "ok", "umt5_xxl_fp16": "other",
        "kiwi_stage3": "ok",
    }  # fmt: skip
    assert main(["verify", str(models.root)]) == 0
    said = capsys.readouterr().out
    assert "set   kiwi_stage3" in said and "other text_encoders" in said and "T5" in said


def test_what_is_missing_is_named(models, real) -> None:
    (models.root / "vae" / "wan2.2_vae.safetensors").unlink()
    models("vae/wan_2.1_vae", real.vae("14B"))
    models("text_encoders/qwen_2.5_vl_fp16", real.qwen("F16", vision=False))
    models("checkpoints/kiwi_stage1", real.kiwi_training(1))
    verdict = verify(models.root)
    assert not verdict.good and not verdict.sets
    stage3 = next(line for line in verdict.incomplete if line.startswith("kiwi_stage3"))
    assert "a Wan VAE of 48 channels" in stage3 and "vision tower" in stage3 and "DiT" not in stage3
    assert states(models.root)["qwen_2.5_vl_fp16"] == "other"
    assert main(["verify", str(models.root)]) == 1


def test_incomplete_and_damaged_files_are_bad(models, real) -> None:
    short = dict(real.dit("5B", "F16"))
    del short["blocks.29.ffn.2.bias"]
    models("diffusion_models/short", short)
    (models.root / "vae" / "half.safetensors").write_bytes(b"\xff" * 99)
    (models.root / "vae" / "old.safetensors").write_bytes(b"\x80\x02" + bytes(50))
    half = {key: value for key, value in real.kiwi_training(3).items() if "layers.35" not in key}
    models("checkpoints/half_kiwi", half)
    verdict = verify(models.root)
    said = {check.path.stem: check.text for check in verdict.checks if check.state == "bad"}
    assert sorted(said) == ["half", "half_kiwi", "old", "short"] and not verdict.good
    assert "824 tensors instead of 825" in said["short"] and "1120 tensors instead of 1128" in said["half_kiwi"]


def test_own_layout_full_and_run(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(random_checkpoint), "--full", "--run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "run   ok" in said and "tensors consumed" in said and "set   instructx_tiny" in said
    with pytest.raises(InputError, match="no weight file"):
        verify(tmp_path)


def test_full_finds_what_headers_do_not_tell(random_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(random_checkpoint, tmp_path / "copy")
    file = next((tmp_path / "copy" / "vae").glob("*"))
    tensors = load_file(file)
    tensors["conv1.bias"][0] = float("nan")
    save_file(tensors, str(file))
    assert verify(tmp_path / "copy").good
    bad = [check for check in verify(tmp_path / "copy", full=True).checks if check.state == "bad"]
    assert len(bad) == 1 and "conv1.bias holds NaN" in bad[0].text
