"""What sampling starts from: noise of the source latents' shape, each edit's from its own generator.

Between encoding and the steps. Legend: B batch, C channels, T latent frames, H W cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from ..errors import InputError

Generators = Generator | Sequence[Generator] | None


def initial_noise(source_BCTHW: Tensor, generator: Generators = None, given: Tensor | None = None) -> Tensor:
    """Noise like the source latents, fp32, on their device: `given`, or drawn on the generator's device.

    A list of generators, one an edit, gives each edit the noise that it has alone. Raises InputError for another number
    of generators, or noise of another shape.
    """
    shape = source_BCTHW.shape
    if given is not None:
        if given.shape != shape:
            raise InputError(f"latents {tuple(given.shape)} must have the source's shape {tuple(shape)}")
        return given.to(source_BCTHW.device, torch.float32)
    if isinstance(generator, list | tuple):
        if len(generator) != shape[0] or not all(isinstance(each, Generator) for each in generator):
            raise InputError(f"{len(generator)} generators for {shape[0]} edits; give one torch.Generator for each")
        generator = list(generator)
    elif generator is not None and not isinstance(generator, Generator):
        raise InputError(f"generator is a {type(generator).__name__}; give a torch.Generator, or a list of them")
    return randn_tensor(shape, generator=generator, device=source_BCTHW.device, dtype=torch.float32)
