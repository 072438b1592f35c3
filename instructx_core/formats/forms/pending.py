"""The tensors to come of a DiT, a VAE or any file, and the new file that they are written to.

A Pending tensor (containers/writing.py) is read when its turn comes: a conversion needs the memory of one tensor.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from ...errors import InputError
from ..containers.quantisation import DECLARATIONS
from ..containers.strict import read_weight
from ..containers.tensor_source import FLOATS, TORCH_DTYPES
from ..containers.writing import Pending, new_file, write_pending
from ..layouts.dit import dit_config, dit_names
from ..layouts.dit_sizes import Shapes
from ..layouts.keymaps import dit_to_original, vae_to_diffusers, vae_to_original
from ..layouts.vae import vae_config, vae_tensors
from ..layouts.weight_file import WeightFile

PLAIN = "BF16"  # what quantised tensors become
Names = Mapping[str, str]  # new name -> name in the file
Change = Callable[[str, Tensor], Tensor]  # (new name, tensor) -> what becomes of it


def keep_as_is(name: str, tensor: Tensor) -> Tensor:
    return tensor


def pending_plain(
    file: WeightFile, names: Names, shapes: Shapes | None = None, change: Change = keep_as_is
) -> list[Pending]:
    """Every tensor of `names` as a plain one, in its stored type where that is plain already.

    shapes: where another than the file's is meant. change(new name, tensor): what becomes of it before it is cast.
    """
    stored, source = file.source, file.plain

    def read(name: str, key: str, kind: str) -> Tensor:
        return change(name, read_weight(source, key)).to(TORCH_DTYPES[kind]).reshape(shape_of(name, key))

    def shape_of(name: str, key: str) -> tuple[int, ...]:
        return (shapes or {}).get(name, source.shape(key))

    pending = []
    for name, key in names.items():
        kind = stored.dtype(key) if stored.dtype(key) in FLOATS else PLAIN
        pending.append(Pending(name, kind, shape_of(name, key), lambda n=name, k=key, t=kind: read(n, k, t)))
    return pending


def pending_dit(dit: WeightFile, diffusers: bool = False, change: Change = keep_as_is) -> list[Pending]:
    """The DiT in original or diffusers names. Flattened tensors of GGUF get their shape back."""
    (found, _), config = dit.once(dit_names), dit.once(dit_config)
    names = {name if diffusers else dit_to_original(name): key for name, key in found.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        if name == "patch_embedding.weight":
            shapes[name] = (config.dim, config.in_channels, *config.patch_size)
        elif name.endswith(("modulation", "scale_shift_table")):
            shapes[name] = (1, 6 if name.startswith("blocks.") else 2, config.dim)
    return pending_plain(dit, names, shapes, change)


def pending_vae(vae: WeightFile, diffusers: bool) -> list[Pending]:
    """The VAE in original or diffusers names."""
    found, config = vae_tensors(vae.plain), vae_config(vae.plain)
    is_diffusers = "encoder.conv_in.weight" in found
    rename = (vae_to_diffusers if diffusers else vae_to_original) if is_diffusers != diffusers else None
    names = {rename(bare, config) if rename else bare: key for bare, key in found.items()}
    return pending_plain(vae, names)


def kept_metadata(file: WeightFile) -> dict[str, str]:
    """What of a file's metadata is still true of another form of its weights."""
    if file.source.container == "GGUF":
        return {}
    stale = ("format", DECLARATIONS)
    return {name: text for name, text in file.source.metadata.items() if name not in stale}


def write(target: Path, pending: list[Pending], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """One new file; nothing to say about it. Raises InputError when the disk has no room for it."""
    need, free = sum(item.bytes for item in pending), shutil.disk_usage(target.parent).free
    if need > free:
        raise InputError(f"{target.parent} has {free / 1e9:.2f} GB free, {target.name} needs {need / 1e9:.2f} GB")
    with new_file(target) as temporary:
        write_pending(temporary, pending, metadata)
    return ()
