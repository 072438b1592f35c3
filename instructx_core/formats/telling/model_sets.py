"""What works together in a models folder: the DiT, VAE and encoder of every adapter, and what one lacks."""

from __future__ import annotations

from ..layouts.checkpoints import is_checkpoint
from ..layouts.folders import FOLDERS
from ..layouts.identity import Identity


def combine(found: list[Identity]) -> tuple[list[str], list[str]]:
    """(complete sets, what adapters lack), one line an adapter or Kiwi-Edit file."""
    sets, incomplete = [], []
    for adapter in found:
        if not is_checkpoint(adapter.kind):
            continue
        parts = _partners(adapter, found)
        missing = [name for name, partner in parts.items() if partner is None]
        line = " + ".join([adapter.path.name, *(partner.path.name for partner in parts.values() if partner)])
        if missing:
            incomplete.append(f"{adapter.path.name}: {'; '.join(missing)}")
        else:
            sets.append(line)
    return sets, incomplete


def _partners(adapter: Identity, found: list[Identity]) -> dict[str, Identity | None]:
    """What the adapter needs beside what its checkpoint brings -> the first file that is it."""
    values, brings = adapter.values, adapter.brings
    channels = values.get("channels")
    parts: dict[str, Identity | None] = {}
    if "denoiser" not in brings:
        width = values["dim"]
        dit = _first(found, "wan-dit", dim=width, **({"in_channels": channels} if channels else {}))
        parts[f"a Wan DiT of width {width} in {FOLDERS['denoiser']}"] = dit
        channels = channels or (dit.values["in_channels"] if dit else None)
    if channels and "vae" not in brings:
        parts[f"a Wan VAE of {channels} channels in {FOLDERS['vae']}"] = _first(found, "wan-vae", channels=channels)
    if values.get("design") == "t5":
        parts[f"UMT5 in {FOLDERS['text_encoder']}"] = _first(found, "t5")
    elif "text_encoder" not in brings:
        encoder = _first(found, "qwen2.5-vl", hidden_size=values["hidden_size"])
        parts[f"Qwen2.5-VL with its vision tower in {FOLDERS['text_encoder']}"] = encoder
    return parts


def _first(found: list[Identity], kind: str, **values: object) -> Identity | None:
    fits = (i for i in found if i.kind == kind and all(i.values.get(name) == value for name, value in values.items()))
    return next(fits, None)
