"""Our denoising loop against stock diffusers WanPipeline: seconds a step and peak memory at equal tokens.

Both run the same random weights, scheduler, steps and context length, interleaved in one process, order swapped every
round, so that a busy machine slows both. Ours also adds a source latent and checks every step for NaN; stock also runs
the text embedding. Goal: at most 5 % slower. Memory is measured in a process of its own for each.

    python benchmarks/pipeline.py --preset tiny --frames 17 --size 64 --json out.json
    python benchmarks/pipeline.py --preset paper_14b --layers 4 --frames 21 --size 480 --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import results
import torch
from process import clear_peak, peak_resident, resident
from torch import Tensor

GOAL = 1.05


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--layers", type=int, help="DiT layers instead of the preset's")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    results.add_options(parser)
    parser.add_argument("--only", choices=("ours", "stock"), help=argparse.SUPPRESS)
    return parser.parse_args()


def build(args: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """The two loops as functions without arguments: noise -> latent."""
    from diffusers import WanPipeline, WanTransformer3DModel

    from instructx_core.config import preset
    from instructx_core.denoiser import build_denoiser
    from instructx_core.geometry import latent_frames, latent_size
    from instructx_core.pipeline import InstructXPipeline
    from instructx_core.sampling.guidance import Conditions
    from instructx_core.sampling.schedule import build_scheduler
    from instructx_core.vae import build_vae

    config = preset(args.preset)
    dit = dataclasses.replace(config.denoiser, num_layers=args.layers or config.denoiser.num_layers)
    config = dataclasses.replace(config, denoiser=dit)
    torch.manual_seed(0)
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    with device:
        ours_model = build_denoiser(config)
        known = inspect.signature(WanTransformer3DModel.__init__).parameters
        stock_config = {k: v for k, v in ours_model.config.items() if k in known}
        stock_model = WanTransformer3DModel(**stock_config)
    state = ours_model.state_dict()
    stock_model.load_state_dict({k: v for k, v in state.items() if not k.startswith(("source_", "reference_"))})
    vae = build_vae(dataclasses.replace(config.vae, base_dim=4, decoder_base_dim=None))  # only its config is read
    h, w = latent_size(args.size, args.size, config)
    noise = torch.randn(1, dit.in_channels, latent_frames(args.frames), h, w, device=device)
    length = config.instruction.query_count("image" if args.frames == 1 else "video")
    context = torch.randn(1, length, dit.dim, device=device, dtype=dtype)
    text = torch.randn(1, length, dit.text_dim, device=device, dtype=dtype)
    loops: dict[str, Callable[[], Tensor]] = {}
    if args.only != "stock":
        pipe = InstructXPipeline(vae, ours_model.to(dtype).eval(), None, None, build_scheduler(config), config)
        pipe.set_progress_bar_config(disable=True)
        conditions = Conditions(context, source=noise.to(dtype))
        loops["ours"] = lambda: pipe.denoise(noise, conditions, args.steps)
    if args.only != "ours":
        stock: Any = WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            scheduler=build_scheduler(config),
            transformer=stock_model.to(dtype).eval(),
        )
        stock.set_progress_bar_config(disable=True)
        loops["stock"] = lambda: stock(
            prompt_embeds=text,
            latents=noise,
            num_frames=args.frames,
            height=args.size,
            width=args.size,
            num_inference_steps=args.steps,
            guidance_scale=1.0,
            output_type="latent",
            return_dict=False,
        )[0]
    return loops


def clock(loop: Callable[[], Tensor], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    loop()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_of(args: argparse.Namespace) -> int:
    """Bytes that one loop needs above its weights and libraries (a run in this process)."""
    loop = next(iter(build(args).values()))
    if args.device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        loop()
        return torch.cuda.max_memory_allocated() - before
    clear_peak()
    before = resident()
    loop()
    return peak_resident() - before


def child_peak(name: str) -> int:
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    args = arguments()
    if args.only:
        print(peak_of(args))
        return
    loops = build(args)
    for loop in loops.values():  # warm-up
        loop()
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for index in range(args.rounds):
        for name in sorted(loops, reverse=bool(index % 2)):
            seconds[name].append(clock(loops[name], args.device) / args.steps)
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["stock"], strict=True))
    peaks = {name: child_peak(name) for name in loops}
    where = torch.cuda.get_device_name() if args.device != "cpu" else platform.processor() or platform.machine()
    result = {
        "device": where,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "settings": {k: v for k, v in vars(args).items() if k not in ("json", "only")},
        "seconds_per_step": {name: statistics.median(values) for name, values in seconds.items()},
        "spread": {name: [min(values), max(values)] for name, values in seconds.items()},
        "peak_bytes": peaks,
        "ratio": ratio,
        "goal": GOAL,
    }
    lines = [
        f"{where}, {result['threads']} threads, {args.rounds} rounds of {args.steps} steps",
        f"{'':8}{'s/step':>12}{'min':>12}{'max':>12}{'peak MB':>12}",
    ]
    for name, values in seconds.items():
        numbers = (statistics.median(values), min(values), max(values))
        lines.append(f"{name:8}" + "".join(f"{n:12.5f}" for n in numbers) + f"{peaks[name] / 1e6:12.1f}")
    lines.append(f"ours / stock, median of pairs: {ratio:.3f} (goal <= {GOAL})")
    results.report(args, result, "\n".join(lines))


if __name__ == "__main__":
    main()
