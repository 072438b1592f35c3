"""What inspect and verify say of Kiwi-Edit's files: the training file and the diffusers folder, from headers alone."""

from __future__ import annotations

from pathlib import Path

from .added_shapes import connector_widths, lora_text, query_counts, ranks
from .dit_sizes import dit_sizes
from .folders import DIFFUSERS_DIT, DIFFUSERS_VAE, KIWI_REFERENCE, KIWI_SOURCE
from .identity import ENCODER_FILE, MISSING, NO_TEXT, Header, Identity, listed
from .kiwi_config import reference_position
from .kiwi_folder import encoder_file
from .kiwi_names import wan_name
from .public_models import KIWI_DIT, KIWI_TENSORS, dit_title, latent_channels, vae_for
from .weight_file import OpenFiles


def tell_training_file(opened: OpenFiles, path: Path) -> Identity | None:
    header = opened.open(path).once(Header)
    shapes = {key.removeprefix("pipe."): shape for key, shape in header.shapes.items()}
    queries = query_counts(shapes, r"mllm\.(image|video|ref)_queries\.q")
    if not queries:
        return None
    width, dim = connector_widths(shapes, r"mllm\.connec?tor\.([02])\.weight")
    dit = {name: shape for key, shape in shapes.items() if (name := wan_name(key)) is not None}
    included = "lora" if ranks(dit) else "full" if dit else "none"
    stage = 3 if "reference" in queries else 2 if "vae_condition.patch_embedding.weight" in shapes else 1
    holds = {
        "lora": f"a LoRA of the DiT, {lora_text(dit)}",
        "full": f"the whole Wan DiT {dit_title(dit_sizes(dit))}",
        "none": "no DiT: the one it was trained on is unchanged",
    }
    first = reference_position(None, header.path.stem)[0] == "first"
    facts = (
        ("holds", f"{holds[included]} ({len(dit)} tensors)"),
        ("numbers", header.numbers),
        ("queries", listed(queries)),
        ("MLLM LoRA", lora_text({key: shape for key, shape in shapes.items() if key.startswith("mllm.model.")})),
        ("reference", "first, by the file name" if first else "last: the file name does not say pad_first"),
    )
    given = (shape[1] for key, shape in shapes.items() if key.endswith("patch_embedding.weight") and len(shape) > 1)
    channels = next(given, latent_channels(dim))
    needs = (ENCODER_FILE, vae_for(channels)) + ((f"the Wan DiT of width {dim}",) if included != "full" else ())
    values = {"stage": stage, "queries": queries, "dim": dim, "hidden_size": width, "channels": channels}
    values |= {"dit": included, "reference_first": first}
    title = f"Kiwi-Edit training file, stage {stage}"
    public = dim == KIWI_DIT.dim and included != "lora"
    wrong = header.unlike(KIWI_TENSORS[stage]) if public else None
    brings = ("denoiser",) if included == "full" else ()
    takers = _kiwi_takers(path.name, included)
    return header.identity("kiwi-training", title, facts, needs, takers, values, wrong, brings)


def _kiwi_takers(name: str, included: str) -> tuple[str, ...]:
    """With a DiT of its own it is a checkpoint; without, an adapter for the Wan that it was trained on."""
    command = f"instructx edit --model {name} --part NAME=FILE for what it needs"
    if included == "full":
        return (
            "node Load Checkpoint (InstructX), file in models/checkpoints",
            command,
            f"instructx convert {name} OUT.safetensors --to original, and --to adapter, for the other loaders",
        )
    merge = f"instructx convert DIT OUT.safetensors --to merged --lora {name}, for Load Diffusion Model"
    return (
        "node Load Encoder (InstructX), as the adapter, file in models/model_patches",
        *((merge,) if included == "lora" else ()),
        command,
    )


def tell_folder(opened: OpenFiles, root: Path) -> Identity:
    """The parts one by one: a folder of another author may lack some."""
    folders = {name: root / name for name in (DIFFUSERS_DIT, DIFFUSERS_VAE, KIWI_SOURCE, KIWI_REFERENCE)}
    there = {name: folder.is_dir() and any(folder.glob("*.safetensors")) for name, folder in folders.items()}
    queries, dim = {}, 0
    if encoder_file(root).is_file():
        shapes = opened.open(encoder_file(root)).once(Header).shapes
        named = ((name, f"{name}_queries") for name in ("image", "video", "ref"))
        queries = {name: shapes[key][0] for name, key in named if len(shapes.get(key, ())) == 2}
        dim = (shapes.get("connector.2.weight") or (0,))[0]
    takers = (
        "node Load Checkpoint (InstructX), folder in models/diffusers",
        f"instructx convert {root.name} OUT.safetensors --to adapter | original",
    )
    # without its reference embedder it is whole: it refuses references
    lacks = [name for name in folders if not there[name] and name != KIWI_REFERENCE] + ([] if queries else ["queries"])
    return Identity(
        root,
        "kiwi-folder",
        "Kiwi-Edit folder of diffusers",
        (("queries", listed(queries) or MISSING),),
        (NO_TEXT,),
        takers,
        {"queries": queries, "dim": dim},
        parts={name: folder if there[name] else None for name, folder in folders.items()},
        brings=("denoiser", "vae", "text_encoder"),
        wrong=f"without {', '.join(lacks)}: download the whole folder" if lacks else None,
    )
