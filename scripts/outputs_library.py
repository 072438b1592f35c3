"""Outputs of the library: InstructXPipeline called directly, edit_file, presets, and the tensors that are loaded.

Part of scripts/outputs.py. Only public names of instructx_core are used, and what the pipeline has as one of diffusers;
contexts are taken in a callback, so that nothing inside the pipeline is named.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from outputs import Record, as_json, plain
from outputs_edits import BLUE, PRESETS, drawn, write_inputs
from PIL import Image

import instructx_core

CLIP = np.stack([drawn(time=i) for i in range(9)])
IMAGE = drawn()
REFERENCE = drawn(40, 50, 3, 1)


def record_library(record: Record, folder: Path) -> None:
    torch.set_num_threads(1)
    record_weights(record)
    pipe: Any = instructx_core.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    record_calls(record, pipe)
    record_contexts(record, pipe)
    record_callbacks(record, pipe)
    record_schedulers(record, pipe)
    record_saved(record, pipe, folder / "saved")
    record_files(record, pipe, folder)
    record_refusals(record, pipe, folder)
    for name in PRESETS:
        config = instructx_core.preset(name)
        record.add_text(f"preset {name}", config.to_json())
        record.add(f"preset {name} read again", instructx_core.InstructXConfig.from_json(config.to_json()) == config)


def record_weights(record: Record) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for merged in (True, False):
            pipe: Any = instructx_core.load_pipeline(dtype=dtype, merge_lora=merged)
            for part in ("vae", "transformer", "encoder"):
                module = getattr(pipe, part)
                name = f"weights {dtype}, merge_lora {merged}: {part}".replace("torch.", "")
                record.add_tensors(name, module.state_dict())
                record.add(f"{name} order", [name for name, _ in module.named_parameters()])
            record.add_text(
                f"load reports {dtype} {merged}", "\n".join(plain(str(r), Path("/none")) for r in pipe.load_reports)
            )


def call(pipe: Any, source: Any, instruction: str | None = BLUE, seed: int = 3, **options: Any) -> Any:
    """The frames of one call; latents unless asked for otherwise."""
    options = {"output_type": "latent", "generator": torch.Generator().manual_seed(seed), **options}
    return pipe(source, instruction, **options).frames


def record_calls(record: Record, pipe: Any) -> None:
    sources: dict[str, Any] = {"image": IMAGE, "clip": CLIP}
    for name, source in sources.items():
        for kind in ("np", "pt", "latent"):
            record.add(f"{name} {kind}", call(pipe, source, output_type=kind))
        pictures = call(pipe, source, output_type="pil")[0]
        record.add(f"{name} pil", np.stack([np.asarray(picture) for picture in pictures]))
        record.add(f"{name} guidance", call(pipe, source, guidance_scale=3.0, num_inference_steps=3))
        for number, given in (("one", REFERENCE), ("two", [REFERENCE, drawn(64, 30, 0, 2)])):
            record.add(f"{name} {number} reference", call(pipe, source, reference=given, num_inference_steps=2))
    options = {"num_inference_steps": 2, "return_dict": False, "output_type": "np"}
    record.add("tuple", pipe(IMAGE, BLUE, generator=torch.Generator().manual_seed(1), **options)[0])
    forms = {
        "float array": IMAGE.astype(np.float32) / 255,
        "tensor": torch.from_numpy(CLIP),
        "pil": Image.fromarray(IMAGE),
        "list of pil": [Image.fromarray(frame) for frame in CLIP],
        "float tensor": torch.from_numpy(CLIP).float() / 255,
    }
    for name, form in forms.items():
        record.add(f"source as {name}", call(pipe, form, num_inference_steps=1))
    record.add("fps", call(pipe, CLIP, fps=4.0, num_inference_steps=2))
    record.add("sigma_min", call(pipe, IMAGE, sigma_min=0.1))
    record.add("other size", call(pipe, np.stack([drawn(48, 80)] * 5), height=48, width=80))
    noise = torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    record.add("latents given", call(pipe, CLIP, latents=noise))
    for count in (1, 2):
        record.add(f"pinned {count}", call(pipe, CLIP, pinned=count, guidance_scale=1.5))
    pipe.to(torch.bfloat16)
    record.add("bfloat16", call(pipe, CLIP, reference=REFERENCE, guidance_scale=2.0, num_inference_steps=2))
    pipe.to(torch.float32)


def record_contexts(record: Record, pipe: Any) -> None:
    """Contexts as the callback gives them, then handed in instead of the instruction."""
    seen: dict[str, Any] = {}

    def keep(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.update(tensors)
        return {}

    names = ("context", "negative_context")
    for kind, source, reference in (("image", IMAGE, None), ("clip", CLIP, None), ("reference", CLIP, [REFERENCE])):
        options = {"guidance_scale": 2.0, "num_inference_steps": 2, "reference": reference}
        call(pipe, source, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=names, **options)
        for name in names:
            record.add(f"{name} of {kind}", seen[name])
        record.add(
            f"from contexts, {kind}", call(pipe, source, None, **options, **{name: seen[name] for name in names})
        )
        record.add(
            f"from another context, {kind}",
            call(pipe, source, None, context=seen["context"] * 0.5, reference=reference),
        )


def record_callbacks(record: Record, pipe: Any) -> None:
    calls: list[Any] = []

    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        calls.append([step, float(timestep), sorted(tensors), pipe.num_timesteps, float(pipe.guidance_scale)])
        return {"latents": tensors["latents"] * 0.9, "context": tensors["context"] * 1.1}

    def stop(pipe: Any, step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return {}

    names = ("latents", "context")
    record.add(
        "callback changes", call(pipe, CLIP, callback_on_step_end=change, callback_on_step_end_tensor_inputs=names)
    )
    record.add("callback was told", calls)
    record.add("interrupted", call(pipe, CLIP, callback_on_step_end=stop))


def record_schedulers(record: Record, pipe: Any) -> None:
    import diffusers

    usual = pipe.scheduler
    for name in ("FlowMatchHeunDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"):
        kind = getattr(diffusers, name)
        flow = {} if name.startswith("Flow") else {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        pipe.scheduler = kind.from_config(usual.config, **flow)
        record.add(f"scheduler {name}", outcome(lambda: call(pipe, IMAGE, num_inference_steps=6)))
    pipe.scheduler = usual


def record_saved(record: Record, pipe: Any, folder: Path) -> None:
    """Left out: model_index.json, which names modules of the package, and configs, which name releases of libraries."""
    from safetensors.torch import load_file

    pipe.save_pretrained(folder)
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            record.add_tensors(f"saved {path.relative_to(folder)}", load_file(path))
    record.add("saved files", sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    again = instructx_core.InstructXPipeline.from_pretrained(folder)
    again.set_progress_bar_config(disable=True)
    record.add("saved and loaded", call(again, CLIP, reference=REFERENCE, guidance_scale=2.0))


def record_files(record: Record, pipe: Any, folder: Path) -> None:
    """edit_file and its report, without seconds and without the file's places."""
    write_inputs(folder)
    cases: dict[str, tuple[str, str, dict[str, Any]]] = {
        "image": ("photo.jpg", "a.png", {"seed": 4, "max_pixels": 96 * 80}),
        "reference": ("image.png", "b.png", {"references": [folder / "other.png"], "guidance": 2.0, "steps": 2}),
        "clip": ("clip.mp4", "c.mp4", {"steps": 2}),
        "odd clip": ("short.mkv", "d.mov", {"max_frames": 6}),
        "windows": ("long.mp4", "e.mp4", {"steps": 1}),
    }
    for name, (source, output, options) in cases.items():
        steps: list[Any] = []
        windows: list[Any] = []
        report = instructx_core.edit_file(
            pipe,
            folder / source,
            BLUE,
            output=folder / output,
            progress=lambda *seen, to=steps: to.append(seen),
            on_window=lambda result, total, to=windows: to.append([total, result.join]),
            **options,
        )
        record.add_file(f"edit_file {name}", folder / output)
        values = {**dataclasses.asdict(report), "size": report.size, "seconds": sorted(report.seconds)}
        values = {key: str(value) for key, value in values.items() if key not in ("box", "source", "output")}
        record.add_text(f"edit_file {name}: report", plain("\n".join(report.lines()), folder) + as_json(values))
        record.add(f"edit_file {name}: progress", [steps, windows])


def outcome(run: Callable[[], Any]) -> Any:
    """The result, or the sentence of an error."""
    try:
        return run()
    except (instructx_core.InputError, ValueError, TypeError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"


def record_refusals(record: Record, pipe: Any, folder: Path) -> None:
    edit_file: Any = instructx_core.edit_file
    runs: dict[str, Callable[[], Any]] = {
        "frames": lambda: pipe(CLIP[:3], BLUE),
        "size": lambda: pipe(IMAGE[:40], BLUE),
        "asked size": lambda: pipe(IMAGE, BLUE, height=32),
        "nothing to do": lambda: pipe(IMAGE),
        "output type": lambda: pipe(IMAGE, BLUE, output_type="gif"),
        "callback": lambda: pipe(IMAGE, BLUE, callback_on_step_end_tensor_inputs=("nose",)),
        "latents": lambda: pipe(IMAGE, BLUE, latents=torch.zeros(1, 2)),
        "pinned": lambda: pipe(CLIP, BLUE, pinned=3),
        "negative": lambda: pipe(IMAGE, context=torch.zeros(1, 16, 4096), guidance_scale=2.0),
        "array": lambda: pipe(np.zeros((4, 4)), BLUE),
        "reference": lambda: pipe(IMAGE, BLUE, reference=np.zeros((1, 2, 3, 4, 5))),
        "empty": lambda: edit_file(pipe, folder / "image.png", " ", output=folder / "x.png"),
        "steps": lambda: edit_file(pipe, folder / "image.png", BLUE, output=folder / "x.png", steps=0),
        "suffix": lambda: edit_file(pipe, folder / "image.png", BLUE, output=folder / "x.txt"),
        "folder": lambda: edit_file(pipe, folder / "image.png", BLUE, output=folder / "none" / "x.png"),
        "preset": lambda: instructx_core.preset("none"),
        "model": lambda: instructx_core.load_pipeline(folder / "none"),
        "model folder": lambda: instructx_core.load_pipeline(folder),
    }
    for name, run in runs.items():
        report = outcome(run)
        record.add_text(f"refused {name}", plain(report if isinstance(report, str) else "was not refused", folder))
