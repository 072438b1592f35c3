"""A step of the patched model against native Wan in ComfyUI, with equal tokens: what the node pack's patch costs.

Native gets the same frames (references as its own time_dim_concat), context and weights, and skips its
text embedding too: the patch is not credited with what it saves there. Both are one forward of the host's DiT with its
wrappers, below the sampler, interleaved in one process with the order swapped every round. On a CPU it is the time of
this process that counts, so other processes disturb less. Goal: at most 3 %.

    COMFYUI_PATH=... python benchmarks/patched_step.py --frames 81 --height 128 --width 128 --json out.json
    COMFYUI_PATH=... python benchmarks/patched_step.py --dim 5120 --ffn 13824 --layers 4 --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import results
from comfy_host import enter_host, host_tree, load_pack

GOAL = 1.03


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=256, help="DiT width, a multiple of 128")
    parser.add_argument("--ffn", type=int, default=768)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--channels", type=int, default=16, choices=(16, 48))
    parser.add_argument("--frames", type=int, default=17, help="pixel frames, 4n+1")
    parser.add_argument("--height", type=int, default=64, help="pixels")
    parser.add_argument("--width", type=int, default=64, help="pixels")
    parser.add_argument("--references", type=int, default=1)
    parser.add_argument("--context", type=int, default=512, help="context tokens")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    results.add_options(parser)
    return parser.parse_args()


def build(options: argparse.Namespace) -> tuple[Any, Any]:
    """(native MODEL, patched MODEL) on the same random weights, both embedders own, source scaled by sigma."""
    import torch
    from comfy import ldm, model_management, model_patcher, ops, supported_models  # noqa: F401 - loads ldm
    from comfy.ldm.wan.model import WanModel

    patching = load_pack()("nodes.parts.model_patch")
    config_module = importlib.import_module("instructx_pack.instructx_core.config")
    dtype, c = getattr(torch, options.dtype), options.channels
    shape = {"in_dim": c, "out_dim": c, "dim": options.dim, "ffn_dim": options.ffn, "num_layers": options.layers}
    kind = supported_models.WAN22_T2V if c == 48 else supported_models.WAN21_T2V
    unet = {**shape, "image_model": "wan2.1", "model_type": "t2v", "num_heads": options.dim // 128, "dtype": dtype}
    base = kind(unet).get_model({}, "").to(options.device)
    assert isinstance(base.diffusion_model, WanModel)
    for weight in base.diffusion_model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    device = torch.device(options.device)
    base.diffusion_model.text_embedding.forward = lambda context: context
    native = model_patcher.ModelPatcher(base, device, model_management.unet_offload_device())
    denoiser = config_module.DenoiserConfig(
        dim=options.dim,
        ffn_dim=options.ffn,
        num_layers=options.layers,
        num_heads=options.dim // 128,
        in_channels=c,
        out_channels=c,
        source_embedder="own",
        source_scale="sigma",
        reference_embedder="own",
    )
    embedder = {"weight": torch.randn(options.dim, c, 1, 2, 2) * 0.02, "bias": torch.zeros(options.dim)}
    adapter = SimpleNamespace(
        denoiser=denoiser, source_embedder=embedder, reference_embedder=embedder, name="benchmark"
    )
    return native, patching.patch_model(native, adapter)


def steps(options: argparse.Namespace, native: Any, patched: Any) -> dict[str, Callable[[], None]]:
    """One forward each, synchronised."""
    import torch

    dtype, stride = getattr(torch, options.dtype), 16 if options.channels == 48 else 8
    grid = ((options.frames - 1) // 4 + 1, options.height // stride, options.width // stride)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=options.device, dtype=dtype)

    x, source = rand(1, options.channels, *grid), rand(1, options.channels, *grid)
    references = rand(1, options.channels, options.references, *grid[1:]) if options.references else None
    context = rand(1, options.context, options.dim)
    timestep = torch.full((1,), 500.0, device=options.device)

    def forward(model: Any, extra: dict[str, Any]) -> Callable[[], None]:
        def step() -> None:
            with torch.inference_mode():
                model.model.diffusion_model(
                    x,
                    timestep,
                    context=context,
                    time_dim_concat=references,
                    transformer_options={"wrappers": model.wrappers},
                    **extra,
                )
            if options.device == "cuda":
                torch.cuda.synchronize()

        return step

    return {
        "native": forward(native, {}),
        "patched": forward(patched, {"instructx_source": source}),
    }


def measure(both: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for step in (*both.values(), *both.values()):  # warm up
        step()
    for round_ in range(rounds):
        for name in sorted(both, reverse=bool(round_ % 2)):
            start = clock()
            both[name]()
            seconds[name].append(clock() - start)
    return seconds


def main() -> int:
    options = arguments()
    version = enter_host(host_tree(), options.device)
    import torch

    clock = time.process_time if options.device == "cpu" else time.perf_counter
    seconds = measure(steps(options, *build(options)), options.rounds, clock)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    # Pairs of one round saw the same machine: their ratio's median is steadier than the ratio of medians.
    ratios = [a / b for a, b in zip(seconds["patched"], seconds["native"], strict=True)]
    ratio = statistics.median(ratios)
    spread = statistics.quantiles(ratios, n=4)
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    lines = (
        f"ComfyUI {version}, torch {torch.__version__}, {where}, {options.dtype}",
        f"native {medians['native'] * 1e3:.2f} ms, patched {medians['patched'] * 1e3:.2f} ms a step (medians)",
        f"patched / native {ratio:.3f} (quartiles {spread[0]:.3f} to {spread[2]:.3f}), goal at most {GOAL}",
    )
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    numbers = {"comfyui": version, "device": where, "ratio": ratio, "quartiles": spread, "seconds": medians}
    results.report(options, {**settings, **numbers}, "\n".join(lines))
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
