"""Each metric orders planted errors of the drawn world by degree, and sees nothing of what it should not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from instructx_core.errors import InputError
from instructx_core.evaluation.metrics.lpips import CONVOLUTIONS, Lpips, load_lpips
from instructx_core.evaluation.metrics.preservation import PSNR_MOST, outside_distance, outside_psnr, outside_ssim
from instructx_core.evaluation.metrics.similarity import ReferenceSimilarity
from instructx_core.evaluation.metrics.temporal import outside_flicker, smoothness_proxy
from instructx_core.world import sample
from instructx_core.world.planted import gaussian

SAMPLES = [(0, "image"), (1, "image"), (2, "image"), (0, "video")]
Sides = tuple[np.ndarray, np.ndarray, np.ndarray]


def sides_of(number: int, modality: str) -> Sides:
    """Source, right edit and mask of a local edit."""
    drawn = sample("test", number, modality, ("add", "remove", "color")[number % 3], (64, 64))
    return drawn.source_FHWC, drawn.target_FHWC, ~drawn.outside_FHW


def damaged(sides: Sides, degree: float, kind: str, inside: bool = False) -> np.ndarray:
    """The right edit with noise, blur or flicker of a degree from 0 to 1 outside of the edit, or inside."""
    _, target, mask = sides
    if kind == "noise":
        wrong = target + np.random.default_rng(0).normal(0.0, 40.0 * degree, target.shape)
    elif kind == "blur":
        wrong = gaussian(target, 4.0 * degree) if degree else target.astype(np.float64)
    else:
        wrong = target + 60.0 * degree * (np.arange(len(target)) % 2)[:, None, None, None]
    where = mask if inside else ~mask
    return np.where(where[..., None], np.clip(np.rint(wrong), 0, 255), target).astype(np.uint8)


def is_ordered(values: Sequence[float | None], rising: bool) -> bool:
    return all(a is not None and b is not None and (a < b if rising else a > b) for a, b in pairwise(values))


DEGREES = (0.0, 0.1, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("kind", ["noise", "blur", "flicker"])
@pytest.mark.parametrize(("number", "modality"), SAMPLES)
def test_preservation_falls_with_damage_outside_and_only_there(number: int, modality: str, kind: str) -> None:
    if kind == "flicker" and modality == "image":
        return
    sides = sides_of(number, modality)
    source, _, mask = sides
    wrong = [damaged(sides, degree, kind) for degree in DEGREES]
    assert is_ordered([outside_psnr(source, each, mask) for each in wrong], rising=False)
    assert is_ordered([outside_ssim(source, each, mask) for each in wrong], rising=False)
    assert outside_psnr(source, wrong[0], mask) == PSNR_MOST and outside_ssim(source, wrong[0], mask) == pytest.approx(
        1.0
    )
    inside = damaged(sides, 1.0, "noise", inside=True)
    assert (inside != sides[1]).any()
    assert outside_psnr(source, inside, mask) == PSNR_MOST and outside_ssim(source, inside, mask) == pytest.approx(1.0)


@pytest.mark.parametrize("number", range(3))
def test_flicker_rises_with_planted_flicker_and_sees_no_motion(number: int) -> None:
    sides = sides_of(number, "video")
    source, target, mask = sides
    assert (np.diff(source.astype(int), axis=0) != 0).any() or number != 0, "the scene moves"
    wrong = [damaged(sides, degree, "flicker") for degree in DEGREES]
    found = [outside_flicker(source, each, mask) for each in wrong]
    assert found[0] == 0.0 and is_ordered(found, rising=True) and found[-1] == pytest.approx(60 / 255, rel=0.35)
    assert is_ordered([smoothness_proxy(each) for each in wrong], rising=False)
    assert outside_flicker(source, damaged(sides, 1.0, "flicker", inside=True), mask) == 0.0
    steady = np.clip(target.astype(int) + 20, 0, 255).astype(np.uint8)  # brighter all along is no flicker
    assert outside_flicker(source, steady, mask) < 0.3 * found[1]


def test_where_there_is_no_outside_nothing_is_measured() -> None:
    source, target, mask = sides_of(0, "image")
    whole = np.ones_like(mask)
    assert outside_psnr(source, target, whole) is None and outside_ssim(source, target, whole) is None
    assert outside_flicker(source, target, mask) is None and smoothness_proxy(target) is None


@pytest.fixture(scope="module")
def lpips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    backbone, linear = {}, {}
    for place, (number, width, out, kernel, _, _) in enumerate(CONVOLUTIONS):
        scale = (width * kernel * kernel) ** -0.5
        backbone[f"features.{number}.weight"] = scale * torch.randn(out, width, kernel, kernel, generator=rng)
        backbone[f"features.{number}.bias"] = torch.zeros(out)
        linear[f"lin{place}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=rng)
    save_file(backbone, folder / "alexnet.safetensors")
    save_file(linear, folder / "lpips.safetensors")
    return folder


def test_lpips_rises_with_damage(lpips_folder: Path) -> None:
    model = load_lpips(lpips_folder)
    sides = sides_of(0, "image")
    source, _, mask = sides
    for kind in ("noise", "blur"):
        wrong = [damaged(sides, degree, kind) for degree in DEGREES]
        found = [outside_distance(model, source, each, mask) for each in wrong]
        assert found[0] == 0.0 and is_ordered(found, rising=True)
    assert outside_distance(model, source, damaged(sides, 1.0, "noise", inside=True), mask) == 0.0


def test_lpips_is_that_of_its_authors(lpips_folder: Path) -> None:
    """Against the package lpips where it is installed, with the same weights."""
    theirs = pytest.importorskip("lpips", reason="no package lpips").LPIPS(net="alex", pretrained=False, pnet_rand=True)
    ours = load_lpips(lpips_folder)
    for place, (number, *_) in enumerate(CONVOLUTIONS):
        for layer in theirs.net.modules():
            if isinstance(layer, torch.nn.Sequential) and str(number) in dict(layer.named_children()):
                layer.get_submodule(str(number)).load_state_dict(ours.convolutions[str(number)].state_dict())
        theirs.lins[place].model[1].load_state_dict(ours.linear[place].state_dict())
    a, b = (np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8) for seed in (0, 1))
    x, y = (torch.from_numpy(each).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for each in (a, b))
    assert ours(a, b) == pytest.approx(float(theirs.eval()(x, y)), rel=1e-5)


def test_weights_that_are_none_are_named(tmp_path: Path, lpips_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no alexnet\.safetensors"):
        load_lpips(tmp_path)
    save_file({"features.0.weight": torch.zeros(2, 3, 11, 11)}, tmp_path / "alexnet.safetensors")
    (tmp_path / "lpips.safetensors").write_bytes((lpips_folder / "lpips.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"convolutions\.0\.weight"):
        load_lpips(tmp_path)
    with pytest.raises(InputError, match="too small"):
        Lpips()(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(InputError, match=r"no config\.json in it; give the folder of a CLIP or DINO"):
        ReferenceSimilarity(tmp_path)


def tiny_clip_model(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision, text = CLIPVisionConfig(**sizes, image_size=32, patch_size=8), CLIPTextConfig(**sizes, vocab_size=99)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def tiny_dino_model(folder: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    Dinov2Model(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    BitImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)


@pytest.mark.parametrize("make", [tiny_clip_model, tiny_dino_model])
def test_similarity_falls_as_the_reference_fades(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    similarity = ReferenceSimilarity(tmp_path)
    reference = sample("test", 3, "image", "reference_add", (64, 64)).reference_HWC
    assert reference is not None
    other = sample("test", 4, "image", "background", (64, 64)).target_FHWC[0]
    mixed = [np.rint((1 - d) * reference + d * other).astype(np.uint8)[None] for d in (0.0, 0.3, 0.6, 1.0)]
    found = [similarity(reference, each, None) for each in mixed]
    assert found[0] == pytest.approx(1.0, abs=1e-5) and is_ordered(found, rising=False)
    # Of a larger picture the box of the mask is seen.
    wide = np.zeros((1, 128, 160, 3), np.uint8)
    height, width = reference.shape[:2]
    wide[0, 40 : 40 + height, 60 : 60 + width] = reference
    mask = np.zeros((1, 128, 160), bool)
    mask[0, 40 : 40 + height, 60 : 60 + width] = True
    assert similarity(reference, wide, mask) == pytest.approx(1.0, abs=1e-5)
    assert similarity(reference, wide, None) < 0.9999
