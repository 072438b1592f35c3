"""Runs the public reference of this design, showlab/Kiwi-Edit (MIT), on tiny models and stores its numbers.

    pip install --target tf457 "transformers==4.57.*" "diffusers==0.36.*" "huggingface_hub<1.0"
    git clone https://github.com/showlab/Kiwi-Edit kiwi
    KIWI_PATH=kiwi PYTHONPATH=tf457 python scripts/make_golden.py           # writes tests/golden/kiwi_*.json
    KIWI_PATH=kiwi PYTHONPATH=tf457 python scripts/make_golden.py --check   # compares with what is stored

CPU, fp32 where no other type is named. The weights and inputs are formulas (tests/support/kiwi_case.py); of the
reference only its own functions run, with stand-ins for two packages that the run does not need. None of its code is
kept here.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.machinery
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "scripts")]

import golden_edits  # noqa: E402
import kiwi_case as case  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

from instructx_core.config import InstructXConfig  # noqa: E402

STAND_INS = ("deepspeed", "modelscope")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)  # the parts of Qwen2.5-VL's chat template that an edit uses


def reference(path: Path) -> Any:
    """The reference's modules by short names."""
    for name in STAND_INS:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.snapshot_download = None  # type: ignore[attr-defined]
        sys.modules[name] = module
    sys.path[:0] = [str(path), str(path / "utils" / "convert_diffusers")]
    names = {
        "pipeline": "diffsynth.pipelines.wan_video_mllm",
        "dit": "diffsynth.models.wan_video_dit",
        "vae": "diffsynth.models.wan_video_vae",
        "mllm": "diffsynth.models.mllm_encoder",
        "qwen": "diffsynth.models.modeling_qwen2_5_vl",
        "vision": "diffsynth.models.qwen_vl_utils",
        "video": "diffsynth.data.video",
        "base": "diffsynth.utils",
        "diffusers": "pipeline_kiwi_edit",
    }
    return types.SimpleNamespace(**{short: importlib.import_module(name) for short, name in names.items()})


def numbers(tensor: Tensor) -> list[Any]:
    """Nested lists with eight significant digits."""

    def shorten(value: Any) -> Any:
        return [shorten(v) for v in value] if isinstance(value, list) else float(f"{value:.8g}")

    return shorten(tensor.detach().double().tolist())


# --- encoder -------------------------------------------------------------------------------------------------------


def processor(record: dict[str, Any]) -> Any:
    """Qwen2.5-VL's processor around the byte tokenizer; keeps what it returned in `record`."""
    from transformers import Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer = Qwen2TokenizerFast(tokenizer_object=case.byte_tokenizer(), pad_token="<|endoftext|>")

    class Recording(Qwen2_5_VLProcessor):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            made = super().__call__(*args, **kwargs)
            record["inputs"] = dict(made)  # a copy: the caller turns the pixels into bf16 in place
            return made

    Recording.__name__ = "Qwen2_5_VLProcessor"
    return Recording(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)


def reference_encoder(kiwi: Any, record: dict[str, Any], config: InstructXConfig | None = None) -> Any:
    """Its encoder with the weights of kiwi_case.small_encoder()."""
    config = config or case.small_config()
    ours = case.small_encoder(config)
    tools = processor(record)
    qwen_config = ours.mllm.config
    ids = {name: tools.tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    qwen_config.image_token_id, qwen_config.video_token_id = ids["image_pad"], ids["video_pad"]
    qwen_config.vision_start_token_id = tools.tokenizer.convert_tokens_to_ids("<|vision_start|>")
    model = kiwi.qwen.Qwen2_5_VLForConditionalGeneration(qwen_config).eval()
    model.model.load_state_dict(ours.mllm.state_dict())
    query_id = tools.tokenizer.convert_tokens_to_ids("<|object_ref_start|>")

    def query_mask(self: Any, input_ids: Tensor, inputs_embeds: Tensor) -> Tensor:  # theirs looks for Qwen's id, 151646
        return (input_ids == query_id).unsqueeze(-1).expand_as(inputs_embeds)

    kiwi.qwen.Qwen2_5_VLModel.get_query_placeholder_mask = query_mask
    kiwi.mllm.Qwen2_5_VLForConditionalGeneration = types.SimpleNamespace(from_pretrained=lambda *a, **k: model)
    kiwi.mllm.AutoProcessor = types.SimpleNamespace(from_pretrained=lambda *a, **k: tools)
    rule = config.instruction
    encoder = kiwi.mllm.QwenVLMLLMEncoder(
        "Qwen2.5",
        torch.float32,
        "cpu",
        config.denoiser.dim,
        rule.num_image_queries,
        rule.num_video_queries,
        rule.num_reference_queries,
        max_object_token=768,
    )
    with torch.no_grad():
        names = {"image": "image_queries", "video": "video_queries", "reference": "ref_queries"}
        for name, theirs in names.items():
            getattr(encoder, theirs).q.copy_(ours.queries[name])
    encoder.connetor.load_state_dict(ours.connector.state_dict())
    encoder.ref_connector.load_state_dict(ours.reference_connector.state_dict())
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: record.update(position_ids=kwargs["position_ids"]), with_kwargs=True
    )
    encoder.connetor.register_forward_pre_hook(lambda module, args: record.update(query=args[0]))
    return encoder


def encoder_numbers(kiwi: Any) -> dict[str, Any]:
    """Token ids, positions, grids, pixels, the query slice and the context of every case."""
    record: dict[str, Any] = {}
    encoder = reference_encoder(kiwi, record)
    result = {}
    for name in case.CASES:
        frames, picture = case.case(name)
        images = [Image.fromarray(frame.numpy()) for frame in frames]
        source = {"src_image": images} if len(images) == 1 else {"src_video": images}
        references = None if picture is None else [Image.fromarray(picture.numpy())]
        with torch.no_grad():
            context = encoder(case.TEXTS[name], ref_image=references, **source)
        inputs, position = record["inputs"], record["position_ids"][-3:, 0]
        video = "pixel_values_videos" in inputs
        result[name] = {
            "input_ids": case.run_lengths(inputs["input_ids"][0].tolist()),
            "position_ids": [case.run_lengths(axis.diff().tolist()) for axis in position],
            "first_position": position[:, 0].tolist(),
            "grid": inputs["video_grid_thw" if video else "image_grid_thw"][0].tolist(),
            "pixels": [round(v, 6) for v in case.samples(inputs["pixel_values_videos" if video else "pixel_values"])],
            "query": numbers(record["query"][0]),
            "context": numbers(context[0]),
        }
        if references:
            result[name]["reference_grid"] = inputs["image_grid_thw"][0].tolist()
    return result


def seen_levels(kiwi: Any, kind: str, height: int, width: int) -> Tensor:
    """What its qwen_vl_utils makes of the pictures of that kind: uint8 (frames, height, width, 3)."""
    frames, picture = case.resized_case(kind, height, width)
    frames = frames if picture is None else picture[None]
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    if kind == "video":
        clip = kiwi.vision.fetch_video({"video": images, "max_frames": 16, "max_pixels": 512 * 512})
        return clip.permute(0, 2, 3, 1).to(torch.uint8)
    limit = {"max_pixels": 28 * 28 * 768} if kind == "reference" else {}
    return torch.from_numpy(np.array(kiwi.vision.fetch_image({"image": images[0], **limit})))[None]


def resized_numbers(kiwi: Any) -> dict[str, Any]:
    """Pictures that have to be resized: a digest of every level that the MLLM sees, and the context."""
    encoder, cases = reference_encoder(kiwi, {}), {}
    for height, width in case.RESIZED:
        for kind in case.KINDS:
            frames, picture = case.resized_case(kind, height, width)
            images = [Image.fromarray(frame.numpy()) for frame in frames]
            references = None if picture is None else [Image.fromarray(picture.numpy())]
            source = {"src_image": images} if kind == "image" else {"src_video": images}
            with torch.no_grad():
                context = encoder("Make it blue.", ref_image=references, **source)
            cases[f"{kind} {height}x{width}"] = {
                "levels": case.digest(seen_levels(kiwi, kind, height, width)),
                "context": numbers(torch.tensor(case.samples(context))),
            }
    import PIL

    return {"pillow": PIL.__version__, "cases": cases}


# --- DiT, scheduler ------------------------------------------------------------------------------------------------


def reference_dit(kiwi: Any, sizes: dict[str, Any] = case.DIT) -> tuple[Any, Any, Any]:
    """Its DiT, source embedder and reference embedder with the weights of kiwi_case.parameters()."""
    size = {**sizes, "patch_size": tuple(sizes["patch_size"])}
    dit = kiwi.dit.WanModel(has_image_input=False, **size).eval()
    embedders = [
        kiwi.dit.ConditionalEmbedder(in_dim=size["in_dim"], dim=size["dim"], patch_size=size["patch_size"])
        for _ in range(2)
    ]
    targets = dict(dit.state_dict())
    for prefix, embedder in zip(("source_embedder", "reference_embedder"), embedders, strict=True):
        targets |= {f"{prefix}.{key.split('.')[-1]}": value for key, value in embedder.state_dict().items()}
    for name, value in case.parameters({name: tuple(value.shape) for name, value in targets.items()}).items():
        targets[name].copy_(value)
    return dit, embedders[0], embedders[1]


def scheduler(kiwi: Any, steps: int) -> Any:
    made = kiwi.pipeline.FlowMatchScheduler(shift=case.SHIFT, sigma_min=0.0, extra_one_step=True)
    made.set_timesteps(steps, shift=case.SHIFT)
    return made


def denoise(kiwi: Any, name: str) -> dict[str, Any]:
    """Four steps of one case. "rounded": its timestep in bf16, as in its pipeline; "bf16": everything in bf16."""
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    dit, source_embedder, reference_embedder = (module.to(dtype) for module in reference_dit(kiwi))
    reference_embedder.ref_pad_first = name == "first"
    given = {key: value.to(dtype) for key, value in case.dit_inputs().items()}
    steps = scheduler(kiwi, case.STEPS)
    latents, first, after = given["noise"], None, []
    for timestep in steps.timesteps:
        rounded = timestep.bfloat16() if name in ("rounded", "bf16") else timestep
        velocity = kiwi.pipeline.model_fn_wan_video(
            dit,
            source_embedder,
            reference_embedder,
            vae_source_input=given["source"],
            vae_ref_image=None if name == "none" else [given["reference"]],
            latents=latents,
            timestep=rounded.to(dtype)[None],
            context=given["context"],
            scheduler=steps,
        )
        first = velocity if first is None else first
        latents = steps.step(velocity, timestep, latents)
        after.append(numbers(latents.flatten()))
    assert first is not None
    return {"first_velocity": numbers(first.flatten()), "latents": after}


def dit_numbers(kiwi: Any) -> dict[str, Any]:
    with torch.no_grad():
        cases = {name: denoise(kiwi, name) for name in case.DIT_CASES}
    sigmas = {}
    for count in (4, 8, 20, 30, 50):
        sigmas[f"diffsynth_{count}"] = numbers(scheduler(kiwi, count).sigmas)
        shifted, _ = kiwi.diffusers.KiwiEditPipeline._setup_scheduler(None, count, shift=case.SHIFT)
        sigmas[f"diffusers_{count}"] = numbers(shifted)
    return {"config": case.DIT, "sigmas": sigmas, "cases": cases}


# --- VAE, pixels, geometry -----------------------------------------------------------------------------------------


def reference_vae(kiwi: Any, channels: int) -> Any:
    """Its VAE of 16 or 48 latent channels at the width of kiwi_case.vae_config()."""
    module, config = kiwi.vae, case.vae_config(channels)
    if channels == 48:
        full, module.VideoVAE38_ = module.VideoVAE38_, None
        module.VideoVAE38_ = functools.partial(full, dec_dim=config.decoder_base_dim)
        return module.WanVideoVAE38(dim=config.base_dim)
    full = module.VideoVAE_
    module.VideoVAE_ = functools.partial(full, dim=config.base_dim)
    made = module.WanVideoVAE()
    module.VideoVAE_ = full
    return made


def filled_vae(kiwi: Any, channels: int) -> Any:
    """That VAE with the weights of kiwi_case.parameters()."""
    vae = reference_vae(kiwi, channels)
    targets = vae.model.state_dict()
    for name, value in case.parameters({name: tuple(value.shape) for name, value in targets.items()}).items():
        targets[name].copy_(value)
    return vae


def vae_numbers(kiwi: Any, channels: int) -> dict[str, Any]:
    """Its statistics, and a clip encoded (normalised) and decoded again."""
    vae = filled_vae(kiwi, channels)
    with torch.no_grad():
        latent = vae.encode([case.vae_clip()[0]], "cpu")
        decoded = vae.decode([latent[0]], "cpu")
    return {
        "mean": numbers(vae.mean),
        "std": numbers(vae.std),
        "shape": list(latent.shape),
        "latent": numbers(latent.flatten()),
        "decoded": numbers(torch.tensor(case.samples(decoded))),
    }


def rule_numbers(kiwi: Any) -> dict[str, Any]:
    """Frames and sizes that the MLLM sees, the demo's crop, the pipeline's rounding, pixels, noise, both VAEs."""
    vision, result = kiwi.vision, {}
    clips = {n: [Image.new("RGB", (112, 112), (i, i, i)) for i in range(n)] for n in case.LENGTHS}
    result["frames"] = {n: vision.fetch_video({"video": clip})[:, 0, 0, 0].int().tolist() for n, clip in clips.items()}
    sizes = {}
    for height, width in case.SIZES:
        image = Image.new("RGB", (width, height))
        clip = vision.fetch_video({"video": [image], "max_pixels": 512 * 512})
        sizes[f"{height}x{width}"] = {
            "video": list(clip.shape[2:]),
            "image": list(vision.fetch_image({"image": image}).size[::-1]),
            "reference": list(vision.fetch_image({"image": image, "max_pixels": 28 * 28 * 768}).size[::-1]),
            "source": golden_edits.crop_of(kiwi, height, width),
            "diffusers": list(kiwi.diffusers.KiwiEditPipeline._check_resize(height, width, 80, 32, 32)),
        }
    base = types.SimpleNamespace(torch_dtype=torch.bfloat16, device="cpu")
    levels = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    pixels = kiwi.base.BasePipeline.preprocess_image(base, levels)[0, 0, 0]
    decoded = torch.linspace(-1, 1, 65)[None, :, None].expand(1, 65, 3)
    written = kiwi.base.BasePipeline.vae_output_to_image(base, decoded, "H W C")
    noise = kiwi.base.BasePipeline.generate_noise(base, (1, 16, 1, 2, 2), seed=7, torch_dtype=torch.float32)
    return result | {
        "sizes": sizes,
        "pixels_bf16": numbers(pixels),
        "written": np.array(written)[0, :, 0].tolist(),
        "noise": numbers(noise.flatten()),
        "vae": {str(c): vae_numbers(kiwi, c) for c in (16, 48)},
    }


def edit_numbers(kiwi: Any) -> dict[str, Any]:
    parts = golden_edits.Parts(reference_encoder, reference_dit, filled_vae, numbers)
    return golden_edits.edit_numbers(kiwi, parts)


JOBS = {
    "encoder": encoder_numbers,
    "resized": resized_numbers,
    "denoiser": dit_numbers,
    "rules": rule_numbers,
    "edits": edit_numbers,
}


# --- files ---------------------------------------------------------------------------------------------------------


def difference(have: Any, want: Any) -> float:
    """Largest difference of two trees of numbers, relative to the larger tree leaf above 1; inf where they differ."""
    if isinstance(have, dict) and isinstance(want, dict) and have.keys() == want.keys():
        return max((difference(have[key], want[key]) for key in have), default=0.0)
    if isinstance(have, list) and isinstance(want, list) and len(have) == len(want):
        return max((difference(a, b) for a, b in zip(have, want, strict=True)), default=0.0)
    if isinstance(have, (int, float)) and isinstance(want, (int, float)):
        return abs(have - want) / max(1.0, abs(want))
    return 0.0 if have == want else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the stored numbers and write nothing")
    parser.add_argument("--only", nargs="*", choices=tuple(JOBS), help="some of the files")
    arguments = parser.parse_args()
    path = os.environ.get("KIWI_PATH", "")
    if not Path(path, "diffsynth").is_dir():
        sys.exit(f"KIWI_PATH is {path!r}; set it to a checkout of showlab/Kiwi-Edit")
    kiwi = reference(Path(path).resolve())
    import transformers

    commit = subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Kiwi-Edit {commit or 'unknown'}"
    command = "KIWI_PATH=kiwi PYTHONPATH=tf457 python scripts/make_golden.py"
    for name in arguments.only or JOBS:
        made = json.loads(json.dumps(JOBS[name](kiwi)))
        if arguments.check:
            stored = case.golden(name)
            largest = difference(made, {key: stored[key] for key in made if key in stored})
            sys.stdout.write(f"{name}: largest difference {largest:.1e}\n")
        else:
            text = json.dumps({"command": command, "versions": versions, **made}, separators=(",", ":"))
            (case.FOLDER / f"kiwi_{name}.json").write_text(text + "\n", encoding="utf-8")
            sys.stdout.write(f"{name}: {len(text) // 1000} kB\n")


if __name__ == "__main__":
    main()
