"""The cache of a stage: whoever fills it writes the same bytes, and with all of it there no encoder is loaded."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.data.sources import open_data
from instructx_core.formats.layouts.files import find_base
from instructx_core.training.cached import ENCODERS
from instructx_core.training.machine import Machine
from instructx_core.training.recipes.registry import find_recipe
from instructx_core.training.runs.caching import fill_cache
from instructx_core.training.runs.run import build_job

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from local_ray import local_ray
from small_paper import small_paper, write_base
from small_stages import launch, shrink, write_mixture

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch.setitem)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, and sets with mixture.toml."""
    folder = tmp_path_factory.mktemp("given")
    write_base(folder / "base")
    write_mixture(folder / "sets")
    return folder


def cached(given: Path, output: Path, *options: str) -> list[str]:
    """The command that encodes what stage 2 trains on, which stage 1 finds as well."""
    command = ["data", "cache", str(given / "sets" / "mixture.toml"), "--recipe", "stage2", "--device", "cpu"]
    return [*command, "--base", str(given / "base"), "--output", str(output), *options]


def files(output: Path) -> dict[str, bytes]:
    pools = output / "pools"
    return {str(path.relative_to(pools)): path.read_bytes() for path in sorted(pools.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def alone(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled by this process."""
    output = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setitem)
        assert main(cached(given, output)) == 0
    return output


def test_three_processes_write_the_same_bytes(given: Path, alone: Path, tmp_path: Path) -> None:
    done = launch([cached(given, tmp_path)], 3)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == files(alone) and len(files(alone)) > 6
    assert json.loads((tmp_path / "pools" / ENCODERS).read_text()) == json.loads(
        (alone / "pools" / ENCODERS).read_text()
    )


def test_ray_writes_the_same_bytes(given: Path, alone: Path, tmp_path: Path) -> None:
    with local_ray():
        assert main(cached(given, tmp_path, "--runner", "ray", "--workers", "2")) == 0
        assert files(tmp_path) == files(alone)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
        assert main(cached(given, tmp_path, "--runner", "ray", "--workers", "1")) == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


def test_a_run_without_the_vae(given: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its base has none any more: what it trains is to the bit what a run with the VAE trains."""
    base = shutil.copytree(given / "base", tmp_path / "base")
    data = str(given / "sets" / "mixture.toml")
    train = ["train", "stage1", "--data", data, "--device", "cpu", "--base", str(base), "--output"]
    assert main([*train, str(tmp_path / "with")]) == 0
    assert main(["data", "cache", data, *train[4:], str(tmp_path / "without"), "--recipe", "stage1"]) == 0
    shutil.rmtree(base / "vae")
    with caplog.at_level("INFO"):
        assert main(["train", "stage1", "--data", data, "--device", "cpu", "--output", str(tmp_path / "without")]) == 0
    assert "is gone: all samples are encoded, but no sample sheets are made" in caplog.text
    one, other = (load_file(tmp_path / run / "stage1" / "final.safetensors") for run in ("with", "without"))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    assert not (tmp_path / "without" / "stage1" / "sample-0000004.png").exists()
    assert (tmp_path / "with" / "stage1" / "sample-0000004.png").exists()


def test_samples_that_are_not_encoded_need_the_vae(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base = shutil.copytree(given / "base", tmp_path / "base")
    data, runs = str(given / "sets" / "mixture.toml"), str(tmp_path / "runs")
    given_base = ["--base", str(base), "--device", "cpu", "--output", runs]
    assert main(["data", "cache", data, "--recipe", "stage1", *given_base]) == 0
    shutil.rmtree(base / "vae")
    assert main(["train", "stage2", "--data", data, "--device", "cpu", "--output", runs]) == 2
    said = capsys.readouterr().err
    assert "is gone, and not all samples of stage2 are encoded; put the VAE back, or encode them" in said


def test_a_frozen_vision_tower_is_not_loaded_either(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA in the language model alone: its features come from the cache. The loss is the same to the bit."""
    lora = dataclasses.replace(small_paper().lora, scope="language_model")
    config = dataclasses.replace(small_paper(), lora=lora)
    monkeypatch.setitem(PRESETS, "paper_14b", lambda: config)
    data = str(given / "sets" / "mixture.toml")
    recipe = dataclasses.replace(find_recipe("stage1"), data=data)
    machine = Machine(base=find_base(given / "base", {}))
    first = build_job(recipe, config, tmp_path, machine)
    assert first.model.parts.vae is not None and first.encoder.mllm.visual is not None
    second = build_job(recipe, config, tmp_path, machine)
    assert second.model.parts.vae is None and second.encoder.mllm.visual is None
    batch = first.global_batch(0)
    losses = [job.loss(0, batch, range(batch.size)) for job in (first, second)]
    assert losses[0].equal(losses[1]) and first.trainable.keys() == second.trainable.keys()
    fill_cache(recipe, config, open_data(data), tmp_path, machine)
    path = tmp_path / "pools" / ENCODERS
    (noted,) = json.loads(path.read_text()).values()
    noted["sizes"]["vae"] += 1  # encoded with another file than the one that lies there now
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), noted)))
    assert build_job(recipe, config, tmp_path, machine).model.parts.vae is not None
