"""torch.compile on the denoiser: one graph, equal results, no second compilation in the next step or edit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import clip, own_config, pipeline

KINDS = {"image": (1, False), "clip with a reference": (5, True)}
COMPILED = [(kind, "aot_eager") for kind in KINDS]
COMPILED += [pytest.param("clip with a reference", "inductor", marks=pytest.mark.slow)]  # a minute of C++: once


def edit(pipe: Any, kind: str, seed: int) -> torch.Tensor:
    frames, with_reference = KINDS[kind]
    reference = clip(1, 40, 40, seed=3)[0] if with_reference else None
    return pipe(
        clip(frames),
        "make it blue",
        reference,
        num_inference_steps=2,
        output_type="latent",
        return_dict=False,
        generator=torch.Generator().manual_seed(seed),
    )[0]


@pytest.mark.parametrize(("kind", "backend"), COMPILED)
def test_one_graph_and_no_second_compilation(kind: str, backend: str) -> None:
    torch.compiler.reset()
    pipe = pipeline(own_config())
    plain = [edit(pipe, kind, seed) for seed in (0, 1)]
    pipe.transformer = torch.compile(pipe.transformer, fullgraph=True, backend=backend)
    torch.testing.assert_close(edit(pipe, kind, 0), plain[0], rtol=1e-4, atol=1e-4)
    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(edit(pipe, kind, 1), plain[1], rtol=1e-4, atol=1e-4)


def test_blocks_alone_compile() -> None:
    """What --compile does: the blocks, one compilation for all of them."""
    torch.compiler.reset()
    pipe = pipeline(own_config())
    plain = edit(pipe, "image", 0)
    pipe.transformer.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(edit(pipe, "image", 0), plain, rtol=1e-4, atol=1e-4)
    assert pipe.transformer.constants is None
