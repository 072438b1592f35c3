"""What works together in a models folder: the DiT, VAE and encoder of every adapter, and what one lacks."""

from __future__ import annotations

from .identity import Identity


def combine(found: list[Identity]) -> tuple[list[str], list[str]]:
    """(complete sets, what adapters lack), one line an adapter or Kiwi-Edit file."""
    sets, lacking = [], []
    for adapter in found:
        if adapter.kind not in ("adapter", "kiwi-training", "kiwi-folder"):
            continue
        parts = {} if adapter.kind == "kiwi-folder" else _partners(adapter, found)
        missing = [name for name, partner in parts.items() if partner is None]
        line = " + ".join([adapter.path.name, *(partner.path.name for partner in parts.values() if partner)])
        if missing:
            lacking.append(f"{adapter.path.name}: {'; '.join(missing)}")
        else:
            sets.append(line)
    return sets, lacking


def _partners(adapter: Identity, found: list[Identity]) -> dict[str, Identity | None]:
    """What the adapter needs -> the first file that is it."""
    width, channels = adapter.values["dim"], adapter.values.get("channels")
    parts: dict[str, Identity | None] = {}
    if adapter.values.get("dit") != "full":
        dit = _first(found, "wan-dit", dim=width, **({"in_channels": channels} if channels else {}))
        parts[f"a Wan DiT of width {width} in diffusion_models"] = dit
        channels = channels or (dit.values["in_channels"] if dit else None)
    if channels:
        parts[f"a Wan VAE of {channels} channels in vae"] = _first(found, "wan-vae", channels=channels)
    parts["Qwen2.5-VL with its vision tower in text_encoders"] = _first(
        found, "qwen2.5-vl", hidden_size=adapter.values["hidden_size"]
    )
    return parts


def _first(found: list[Identity], kind: str, **values: object) -> Identity | None:
    fits = (i for i in found if i.kind == kind and all(i.values.get(name) == value for name, value in values.items()))
    return next(fits, None)
