"""Outputs of edits: the command line on small files, InstructXPipeline called directly, the benchmark, printed texts.

Part of scripts/outputs.py, which calls record_edits, record_eval and record_info. The inputs are drawn
here in whole numbers, so they are the same everywhere; their digests are recorded as well.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from outputs import ROOT, Record, command, preload, start, tensors_of

BLUE = "make the circle blue"
# name -> input, output and options of `instructx edit`; they run in this order
IMAGES = {
    "plain": "image.png a.png",
    "jpeg": "image.png a.jpg",
    "webp": "photo.jpg a.webp",
    "steps": "image.png a.png --steps 2 --instruction 'invert the colors'",
    "alpha": "alpha.png a.png",
    "alpha lost": "alpha.png a.jpg",
    "keep-outside auto": "photo.jpg a.png --keep-outside auto",
    "keep-outside mask": "photo.jpg a.png --keep-outside mask.png --feather 3",
    "keep-outside alpha": "alpha.png a.png --keep-outside auto --feather 0",
    "one reference": "image.png a.png --reference other.png --instruction 'replace the circle with the object'",
    "two references": "image.png a.png --reference other.png --reference photo.jpg",
    "guidance": "image.png a.png --guidance 2",
    "guidance and reference": "image.png a.png --guidance 1.5 --reference other.png",
    "size": "photo.jpg a.png --size 96x80",
    "unipc": "image.png a.png --scheduler unipc --steps 6",
    "cache first-block": "image.png a.png --cache first-block --steps 8",
    "cache first-block threshold": "image.png a.png --cache first-block:0.3 --steps 8 --guidance 2",
    "cache mag": "image.png a.png --cache mag --steps 8",
    "cache taylorseer": "image.png a.png --cache taylorseer --steps 8",
    "tile on": "photo.jpg a.png --size 160x128 --tile on",
    "tile off": "photo.jpg a.png --size 160x128 --tile off",
    "reuse, made": "image.png a.png --reuse kept",
    "reuse, found": "image.png a.png --reuse kept",
    "reuse, another seed": "image.png a.png --reuse kept --seed 4 --reference other.png",
    "bfloat16": "image.png a.png --dtype bfloat16",
    "float16": "image.png a.png --dtype float16",
    "fp8": "image.png a.png --fp8",
    "attention exact": "image.png a.png --attention exact",
    "attention off": "image.png a.png --attention off",
    "lora": "image.png a.png --lora lora.safetensors:0.5",
    "lora self": "image.png a.png --lora lora.safetensors --lora-layers self --dtype bfloat16",
    "tile on, large": "large.png a.png --size 720x96 --steps 1 --tile on",
    "tile off, large": "large.png a.png --size 720x96 --steps 1 --tile off",
    "model and part": "image.png a.png --model MODEL --part vae=MODEL/vae/instructx_tiny.safetensors",
}
CLIPS = {
    "clip with sound": "clip.mp4 a.mp4",
    "clip, guidance": "clip.mp4 a.mov --guidance 2 --steps 2",
    "clip, reference": "clip.mp4 a.mp4 --reference other.png",
    "clip, keep-outside": "wide.mp4 a.mp4 --keep-outside auto",
    "clip, keep-outside mask": "wide.mp4 a.mp4 --keep-outside mask.png",
    "clip, tile on": "wide.mp4 a.mp4 --size 160x128 --tile on --steps 1",
    "clip, bfloat16": "clip.mp4 a.mp4 --dtype bfloat16",
    "clip, cache": "clip.mp4 a.mp4 --cache first-block --steps 6",
    "clip, reuse made": "clip.mp4 a.mp4 --reuse kept",
    "clip, reuse found": "clip.mp4 a.mp4 --reuse kept --seed 4",
    "odd length": "short.mkv a.mkv",
    "one piece": "long.mp4 a.mp4 --max-frames 60 --steps 2",
    "windows": "long.mp4 a.mp4",
    "windows plain": "long.mp4 a.mp4 --joins plain",
    "windows context first": "long.mp4 a.mp4 --context first --steps 2",
    "windows match-colour": "long.mp4 a.mp4 --match-colour --steps 2",
    "windows overlap": "long.mp4 a.mp4 --overlap 2 --steps 2",
    "windows overlap plain": "long.mp4 a.mp4 --overlap 3 --joins plain --match-colour --steps 2",
    "windows keep-outside": "long.mp4 a.mp4 --keep-outside auto --steps 2",
    "windows all": "long.mp4 a.mkv --window 0.7s --overlap 2 --context first --reference other.png --guidance 2"
    " --steps 1",
    "windows of a short clip": "short.mkv a.mp4 --window 5 --reuse kept",
    "windows, cache mag": "long.mp4 a.mp4 --cache mag:0.5 --steps 8",
}
REFUSED = {
    "no file": "none.png a.png",
    "kinds": "clip.mp4 a.png",
    "size": "image.png a.png --size 8x",
    "seed": "image.png a.png --seed -1",
    "window": "long.mp4 a.mp4 --window long",
    "window and max-frames": "long.mp4 a.mp4 --window 9 --max-frames 50",
    "max-frames": "long.mp4 a.mp4 --max-frames 20",
    "feather": "image.png a.png --feather 2",
    "mask": "photo.jpg a.png --keep-outside clip.mp4",
    "part": "image.png a.png --part nose=image.png",
    "lora": "image.png a.png --lora image.png",
    "cache": "image.png a.png --cache all",
    "split": "clip.mp4 a.mp4 --split",
    "model": "image.png a.png --model none",
}
JOBS: list[Any] = [
    {"input": "image.png", "output": "j1.png"},
    {"input": "alpha.png", "output": "j2.png", "steps": 2, "seed": 5, "guidance": 1.5},
    "{not JSON",
    {"input": "photo.jpg", "output": "j3.png", "size": "96x80", "reference": "other.png"},
    {"input": "photo.jpg", "output": "j4.png", "keep_outside": "mask.png", "feather": 2, "reference": ["other.png"]},
    {"input": "none.png", "output": "j5.png"},
    {"input": "short.mkv", "output": "j6.mp4", "window": "5", "overlap": 1, "joins": "plain", "context": "first"},
    {"input": "clip.mp4", "output": "j7.mp4", "max_frames": 17, "partial": True, "steps": 2},
    {"input": "clip.mp4", "output": "j8.png"},
    {"input": "image.png", "output": "j9.png", "colour": 1},
]


# --- inputs --------------------------------------------------------------------------------------------------------


def drawn(height: int = 64, width: int = 64, time: int = 0, seed: int = 0) -> np.ndarray:
    """A red disc and a green square on a ramp with a little noise; they move with time. uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 6, (height, width, 3))
    frame = np.stack([x * 60 // width + 90, y * 60 // height + 110, 150 - (x + y) * 40 // (height + width)], -1) + noise
    disc = (y - height // 3) ** 2 + (x - width // 3 - time) ** 2 < (height // 5) ** 2
    frame[disc] = (220, 30, 40)
    side, top, left = height // 4, height * 3 // 5, width * 3 // 5 - time // 2
    frame[top : top + side, left : left + side] = (30, 190, 60)
    return frame.astype(np.uint8)


def write_clip(path: Path, frames: list[np.ndarray], rate: int, sound: bool = False) -> None:
    """H.264 without loss, on one thread; sound: a tone as AAC."""
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=rate, options={"qp": "0", "preset": "ultrafast", "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        tone: Any = out.add_stream("aac", rate=16000) if sound else None
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
        if sound:
            samples = (np.arange(16000 * len(frames) // rate) * 800 % 20000 - 10000).astype(np.int16)[None]
            heard: Any = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            heard.sample_rate = 16000
            out.mux(tone.encode(heard))
            out.mux(tone.encode(None))


def write_inputs(folder: Path) -> None:
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    Image.fromarray(drawn()).save(folder / "image.png")
    Image.fromarray(drawn(64, 64, 20, 1)[:, ::-1].copy()).save(folder / "other.png")
    Image.fromarray(drawn(96, 720)).save(folder / "large.png")
    Image.fromarray(drawn(90, 122)).save(folder / "photo.jpg", quality=90)
    mask = np.zeros((90, 122), np.uint8)
    mask[20:60, 10:70] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    alpha = np.dstack([drawn(70, 66), np.arange(70 * 66).reshape(70, 66) % 256]).astype(np.uint8)
    Image.fromarray(alpha).save(folder / "alpha.png")
    write_clip(folder / "clip.mp4", [drawn(time=i) for i in range(17)], 16, sound=True)
    write_clip(folder / "wide.mp4", [drawn(90, 122, i) for i in range(5)], 25)
    write_clip(folder / "short.mkv", [drawn(time=i) for i in range(6)], 12)
    write_clip(folder / "long.mp4", [drawn(time=i // 2, seed=i % 3) for i in range(39)], 16, sound=True)
    (weights,) = model_folder().glob("diffusion_models/*.safetensors")
    generator, lora = torch.Generator().manual_seed(7), {}
    for key, value in tensors_of(weights).items():
        if key.startswith("blocks.") and key.endswith(".weight") and value.ndim == 2:
            for half, shape in (("A", (2, value.shape[1])), ("B", (value.shape[0], 2))):
                name = f"base_model.model.{key.removesuffix('.weight')}.lora_{half}.weight"
                lora[name] = torch.randn(shape, generator=generator) * 0.2
    save_file(lora, folder / "lora.safetensors")


def model_folder() -> Path:
    """The shipped model."""
    (found,) = (ROOT / "instructx_core").rglob("diffusion_models")
    return found.parent


# --- groups --------------------------------------------------------------------------------------------------------


def record_edits(record: Record, folder: Path) -> None:
    preload()
    write_inputs(folder)
    for path in sorted(folder.iterdir()):
        record.add_file(f"input {path.name}", path)
    for name, text in (IMAGES | CLIPS).items():
        report, output = edit(folder, text)
        record.add_text(f"{name}: report", report)
        record.add_file(name, output)
        output.unlink()
    for name, text in REFUSED.items():
        report, output = edit(folder, text)
        record.add_text(f"refused {name}: report", report)
        record.add(f"refused {name}: writes nothing", not output.exists())
    record_killed(record, folder)
    record_jobs(record, folder)


def edit(folder: Path, text: str) -> tuple[str, Path]:
    """What `instructx edit` printed, and its output."""
    source, output, *options = shlex.split(text.replace("MODEL", str(model_folder())))
    given = ["--instruction", BLUE, "--seed", "3", "--device", "cpu", *options]  # of two values the last counts
    return command(folder, "edit", "--input", source, "--output", output, *given), folder / output


def record_killed(record: Record, folder: Path) -> None:
    """Killed after its first window, then run again. The second report is left out: it tells when the kill came."""
    options = ["--instruction", BLUE, "--seed", "3", "--steps", "24", "--window", "9", "--device", "cpu"]
    arguments = ["edit", "--input", "long.mp4", "--output", "k.mp4", *options]
    process = start(folder, *arguments)
    while process.is_alive() and "window 1/" not in (folder / "stderr").read_text(encoding="utf-8"):
        time.sleep(0.02)
    process.kill()
    process.join()
    record.add("killed", [process.exitcode, (folder / "k.mp4").exists()])
    command(folder, *arguments)
    record.add_file("killed and resumed", folder / "k.mp4")


def record_jobs(record: Record, folder: Path) -> None:
    """A list, twice. The keys of its journal are left out: they hold the version."""
    lines = [line if isinstance(line, str) else json.dumps({"instruction": BLUE} | line) for line in JOBS]
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("jobs", "jobs again"):
        record.add_text(f"{name}: report", command(folder, "edit", "--jobs", "jobs.jsonl", "--device", "cpu"))
    for path in sorted(folder.glob("j?.*")):
        record.add_file(f"jobs {path.name}", path)
    journal = (folder / "jobs.done.jsonl").read_text(encoding="utf-8").split("\n")
    entries = [json.loads(line) for line in journal if line]
    record.add("jobs: journal", [(entry["output"], entry["sha256"]) for entry in entries])


def record_eval(record: Record, folder: Path) -> None:
    """The benchmark and the demo. The model's fingerprint, which is made of names of tensors, is left out; sheets hold
    it in their title, and differ with it.
    """
    preload()

    def bench(name: str, *options: str) -> None:
        report = command(folder, "eval", "shapes", "--json", "e.json", "--sheet", "e.png", "--device", "cpu", *options)
        record.add_text(f"{name}: report", re.sub(r"\btiny-[0-9a-f]{12}\b", "tiny", report))
        numbers = json.loads((folder / "e.json").read_text(encoding="utf-8"))
        record.add_text(name, json.dumps({**numbers, "model": ""}, indent=1))
        if (folder / "e.png").exists():
            record.add_file(f"{name}, sheet", folder / "e.png")
            (folder / "e.png").unlink()

    bench("images and clips", "--images", "22", "--clips", "9", "--batch-size", "4")
    bench("guidance", "--images", "11", "--clips", "3", "--guidance", "2", "--steps", "3", "--seed", "5")
    bench("bfloat16", "--images", "4", "--clips", "0", "--dtype", "bfloat16")
    record.add_text("demo: report", command(folder, "demo", "--output", "demo", "--device", "cpu"))
    for path in sorted((folder / "demo").iterdir()):
        record.add_file(f"demo {path.name}", path)


PRESETS = ("tiny", "paper_14b", "kiwi_5b")
VERBS = ("demo", "edit", "eval", "train", "inspect", "convert", "verify", "kernels", "info")


def record_info(record: Record, folder: Path) -> None:
    """Printed texts. `kernels report` names packages and card of the machine: it compares on one machine only."""
    preload()
    calls = ["--help", "--version", "nonsense", *(f"{verb} --help" for verb in VERBS)]
    calls += [f"info {preset}" for preset in PRESETS]
    calls += ["info paper_14b --clip 832x480x81 --gpu 4090", "info kiwi_5b --gpu 3060 --steps 8", "info tiny --vram 12"]
    calls += ["info tiny --clip 64x64", "info kiwi_5b --gpu nonsense", "info paper_14b --clip 1280x720x81 --gpu h100"]
    calls += ["kernels report", "kernels report --no-test", "kernels selftest", "kernels bench --rounds 0"]
    calls += [f"kernels {action} --help" for action in ("report", "selftest", "bench")]
    calls += ["train nonsense", "train tiny_dit --from-shipped", "train export", "eval shapes --json none/a.json"]
    for call in calls:
        record.add_text(f"instructx {call}", command(folder, *call.split()))
