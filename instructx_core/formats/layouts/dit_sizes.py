"""What the shapes of a Wan DiT tell: its sizes, and whether it is another kind.

By bare names, in either spelling; dit.py reads such files, public_models.py has the names of the sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .public_models import variant_mark

Shapes = Mapping[str, tuple[int, ...]]

PATCH_EMBEDDING = "patch_embedding.weight"
_WRAPPERS = re.compile(r"^(model\.diffusion_model|diffusion_model)\.")  # of single-file repackagings
_SIZE_PLACES = {  # size -> (tensor, axis, divided by), in either spelling
    "dim": ((PATCH_EMBEDDING, 0, 1),),
    "in_channels": ((PATCH_EMBEDDING, 1, 1),),
    "out_channels": (("head.head.weight", 0, 4), ("proj_out.weight", 0, 4)),
    "ffn_dim": (("blocks.0.ffn.0.weight", 0, 1), ("blocks.0.ffn.net.0.proj.weight", 0, 1)),
}


def dit_sizes(shapes: Shapes) -> dict[str, int]:
    """dim, layers, in_channels, out_channels, ffn_dim of a Wan DiT by bare names; what these do not tell is absent."""
    sizes = {
        name: shapes[key][axis] // cells
        for name, places in _SIZE_PLACES.items()
        for key, axis, cells in places
        if len(shapes.get(key, ())) > axis
    }
    layers = layer_count(shapes, r"blocks\.(\d+)\.")
    return sizes | ({"layers": layers} if layers else {})


def layer_count(shapes: Shapes, pattern: str) -> int:
    """How many layers the names count, by a pattern with their number in it."""
    found = map(re.compile(pattern).match, shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def bare_dit(key: str) -> str:
    """Name of a DiT tensor without the wrapper of a repackaging."""
    return _WRAPPERS.sub("", key)


def dit_variant(shapes: Shapes) -> str | None:
    """What another kind of Wan than text-to-video this is ("VACE"); None for the kind that InstructX works on."""
    marked = variant_mark(shapes)
    sizes = dit_sizes(shapes)
    into, out = sizes.get("in_channels"), sizes.get("out_channels")
    if marked is None and out is not None and into != out and len(shapes.get(PATCH_EMBEDDING, ())) == 5:
        return f"image-to-video or control ({into} channels in, {out} out)"
    return marked
