"""Pure tensor functions of source and references."""

from __future__ import annotations

import pytest
import torch
from tiny import draw

from instructx_core import conditioning as cond


def test_tokens_round_trip():
    grid, patch = (3, 2, 4), (1, 2, 2)
    latent = draw(2, 5, 3, 4, 8)
    cells = latent.unfold(3, 2, 2).unfold(4, 2, 2)  # b c t h w q r
    token = cells.permute(0, 2, 3, 4, 5, 6, 1).reshape(2, 24, 20)
    assert torch.equal(cond.from_tokens(token, grid, patch), latent)
    embedded = draw(2, 6, 3, 2, 4)
    token = cond.to_tokens(embedded)
    assert token.is_contiguous() and torch.equal(token[:, 1 * 8 + 1 * 4 + 2], embedded[:, :, 1, 1, 2])


@pytest.mark.parametrize("position", ["last", "first"])
def test_join_and_drop_are_inverse(position):
    video, reference = draw(2, 6, 3), draw(2, 4, 3, seed=1)
    joined = cond.join_references(video, reference, position, dim=1)
    assert joined.shape == (2, 10, 3)
    assert torch.equal(cond.drop_references(joined, 6, position), video)
    start = 6 if position == "last" else 0
    assert torch.equal(joined[:, start : start + 4], reference)
    assert torch.equal(cond.drop_references(video, 6, position), video)
    if position == "first":
        assert torch.equal(cond.video_first(joined, 6), torch.cat((video, reference), dim=1))


def test_source_scale():
    embedded = draw(2, 3, 2, 2, 2)
    timestep = torch.tensor([0.0, 500.0])
    assert cond.scale_source(embedded, timestep, "none") is embedded
    scaled = cond.scale_source(embedded, timestep, "sigma")
    assert not scaled[0].any() and torch.equal(scaled[1], embedded[1] * 0.5)
    of_frames = cond.scale_source(embedded, torch.tensor([[0.0, 500.0], [500.0, 0.0]]), "sigma")
    assert not of_frames[0, :, 0].any() and torch.equal(of_frames[1, :, 0], embedded[1, :, 0] * 0.5)


@pytest.mark.parametrize("position", ["last", "first"])
@pytest.mark.parametrize("own", [True, False])
def test_embedding_is_that_of_the_paper(position, own):
    """Source added before the patch embedding (tied) or after its own; references beside, each frame for itself."""
    shared = cond.latent_embedder(4, 6, (1, 2, 2))
    torch.nn.init.normal_(shared.weight)
    noisy, source, references = draw(2, 4, 3, 4, 4), draw(2, 4, 3, 4, 4, seed=1), draw(2, 4, 2, 4, 4, seed=2)
    timestep = torch.tensor([100.0, 700.0])
    embedders = cond.Embedders(shared, (lambda latent: 2 * shared(latent)) if own else None, shared)
    got = cond.embed_latents(noisy, timestep, source, references, embedders, "sigma" if own else "none", position)
    video = got[:, :, :3] if position == "last" else got[:, :, 2:]
    added = 2 * shared(source) * (timestep / 1000).view(2, 1, 1, 1, 1)
    want = shared(noisy) + added if own else shared(noisy + source)
    assert torch.equal(video, want)
    assert torch.equal(got[:, :, 3:] if position == "last" else got[:, :, :2], shared(references))
    alone = cond.embed_latents(noisy, timestep, None, None, embedders, "none", position)
    assert torch.equal(alone, shared(noisy))


@pytest.mark.parametrize("position", ["last", "first"])
def test_references_take_the_noisiest_timestep(position):
    timestep = torch.tensor([[0.0, 500.0], [300.0, 100.0]])
    got = cond.timestep_with_references(timestep, 2, position)
    added = torch.tensor([[500.0, 500.0], [300.0, 300.0]])
    assert torch.equal(got, torch.cat((timestep, added) if position == "last" else (added, timestep), dim=1))
    assert cond.timestep_with_references(timestep, 0, position) is timestep
    assert cond.timestep_with_references(timestep[:, 0], 2, position).shape == (2,)


def test_timestep_rounding():
    timestep = torch.tensor([937.3])
    assert cond.round_timestep(timestep, "none") is timestep
    assert torch.equal(cond.round_timestep(timestep, "bfloat16"), torch.tensor([936.0]))


def test_own_embedder_is_zero():
    embedder = cond.latent_embedder(16, 8, (1, 2, 2))
    assert not embedder(draw(1, 16, 2, 4, 4)).any()


def test_importing_it_loads_no_model_library():
    import subprocess
    import sys

    code = (
        "import sys, instructx_core.conditioning; assert not {'diffusers', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
