"""A whole edit, stage by stage: ours, stock diffusers Wan and the Kiwi-Edit reference, on the same weights and tokens.

    python benchmarks/edit.py --json edit.json --write docs/speed.md
    KIWI_PATH=kiwi KIWI_PYTHONPATH=tf457 python benchmarks/edit.py ...   # with its columns; see scripts/make_golden.py

Each runs in processes of its own that take turns, so that a slow minute of the machine hits all of them. A stage:
seconds of the process on the CPU (median of all rounds), bytes that its first call adds, and its FLOPs at the speed of
this machine's own matrix product, the floor. A stage that has no equal part in a peer is left empty: stock Wan
has no source and reads T5 features; Kiwi-Edit's MLLM needs its files.
A second table: a step with what is the same in every step computed once an edit, as always here, and every time.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import results  # noqa: E402
import torch  # noqa: E402
from process import clear_peak, peak_resident, resident  # noqa: E402

if TYPE_CHECKING:
    from instructx_core.pipeline import InstructXPipeline
    from instructx_core.sampling.batch import EditBatch
    from instructx_core.sampling.guidance import Conditions

STAGES = ("read", "MLLM", "VAE encode", "steps", "VAE decode", "write")
PEERS = ("ours", "stock", "kiwi")
CLIPS = {"picture": (1, 0), "picture, reference": (1, 1), "clip": (0, 0), "clip, reference": (0, 1)}  # 0: --frames
# glibc keeps what is freed: else it depends on the heap's layout whether a process gives 90 MB back after each VAE call
# and faults them in again, a tenth of the time. The same for all peers, which otherwise differ by that alone.
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
Calls = dict[str, Callable[[], Any]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped one)")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="of a process")
    parser.add_argument("--turns", type=int, default=3, help="processes of each peer")
    results.add_options(parser, document=True)
    parser.add_argument("--only", choices=(*PEERS, "hoisting"), help=argparse.SUPPRESS)
    return parser.parse_args()


def load(args: argparse.Namespace) -> InstructXPipeline:
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def conditions_of(pipe: InstructXPipeline, batch: EditBatch) -> Conditions:
    return pipe.conditions(pipe.encode_instruction(batch, 8.0), pipe.encode_pictures(batch))


def ours(args: argparse.Namespace, folder: Path) -> Calls:
    from instructx_core.editing.fit import to_uint8_frames
    from instructx_core.media.files import read_media, write_video
    from instructx_core.sampling.batch import edit_batch

    pipe, clip = load(args), folder / "clip.mp4"
    shape = (args.frames, args.size, args.size, 3)
    write_video(clip, torch.randint(0, 256, shape, dtype=torch.uint8).numpy(), 8)
    frames = torch.from_numpy(read_media(clip).frames_FHWC)
    batch = edit_batch(frames, "make the circle blue")
    conditions, noise = conditions_of(pipe, batch), torch.randn_like(pipe.encode_pictures(batch).source)
    steps = pipe.instructx_config.sampling.num_steps
    return {
        "read": lambda: read_media(clip),
        "MLLM": lambda: pipe.encode_instruction(batch, 8.0),
        "VAE encode": lambda: pipe.encode_pictures(batch),
        "steps": lambda: pipe.denoise(noise, conditions, steps),
        "VAE decode": lambda: pipe.decode(noise, "pt"),
        "write": lambda: write_video(folder / "out.mp4", to_uint8_frames(pipe.decode(noise, "pt")), 8),
    }


def stock(args: argparse.Namespace, _folder: Path) -> Calls:
    from diffusers import WanPipeline, WanTransformer3DModel

    from instructx_core.sampling.schedule import build_scheduler

    pipe = load(args)
    config, own = pipe.instructx_config, ("_", "source_", "reference_")
    extra = (*own, "context", "timestep_rounding")
    model = WanTransformer3DModel(**{k: v for k, v in pipe.transformer.config.items() if not k.startswith(extra)})
    state = pipe.transformer.state_dict()
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith(own)})
    wan: Any = WanPipeline(
        tokenizer=None, text_encoder=None, vae=pipe.vae, scheduler=build_scheduler(config), transformer=model.eval()
    )
    wan.set_progress_bar_config(disable=True)
    queries = config.instruction.query_count("image" if args.frames == 1 else "video")
    text = torch.randn(1, queries, config.denoiser.text_dim)
    pixels = torch.rand(1, 3, args.frames, args.size, args.size) * 2 - 1
    with torch.no_grad():
        latent = wan.vae.encode(pixels).latent_dist.mode()

    @torch.no_grad()
    def encode() -> Any:
        return wan.vae.encode(pixels).latent_dist.mode()

    @torch.no_grad()
    def decode() -> Any:
        return wan.video_processor.postprocess_video(wan.vae.decode(latent, return_dict=False)[0], output_type="pt")

    return {
        "VAE encode": encode,
        "steps": lambda: wan(
            prompt_embeds=text,
            latents=torch.randn(latent.shape),
            num_frames=args.frames,
            height=args.size,
            width=args.size,
            num_inference_steps=config.sampling.num_steps,
            guidance_scale=1.0,
            output_type="latent",
        ),
        "VAE decode": decode,
    }


def kiwi_code() -> Any:
    """The public reference, as scripts/make_golden.py imports it."""
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "scripts" / "make_golden.py")
    assert spec is not None and spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    return golden.reference(Path(os.environ["KIWI_PATH"]))


def kiwi_models(reference: Any, pipe: InstructXPipeline) -> tuple[Any, Any, Any]:
    """Its DiT, source embedder and VAE with the weights of ours."""
    from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original

    dit, vae = pipe.instructx_config.denoiser, pipe.instructx_config.vae
    names = ("dim", "ffn_dim", "text_dim", "freq_dim", "eps", "patch_size", "num_heads", "num_layers")
    size = {name: getattr(dit, name) for name in names}
    model = reference.dit.WanModel(has_image_input=False, in_dim=dit.in_channels, out_dim=dit.out_channels, **size)
    state = pipe.transformer.state_dict()
    wan_state = {key: value for key, value in state.items() if not key.startswith(("source_", "reference_"))}
    model.eval().load_state_dict({dit_to_original(key): value for key, value in wan_state.items()})
    embedder = reference.dit.ConditionalEmbedder(in_dim=dit.in_channels, dim=dit.dim, patch_size=dit.patch_size)
    for name, value in embedder.state_dict().items():
        value.copy_(state[f"source_embedder.{name.split('.')[-1]}"])
    sizes = {"z_dim": vae.z_dim, "dim_mult": list(vae.dim_mult), "num_res_blocks": vae.num_res_blocks}
    reference.vae.VideoVAE_ = functools.partial(reference.vae.VideoVAE_, dim=vae.base_dim, **sizes)
    wan = reference.vae.WanVideoVAE(vae.z_dim)
    wan.model.load_state_dict({vae_to_original(key, vae): value for key, value in pipe.vae.state_dict().items()})
    return model, embedder, wan


def kiwi(args: argparse.Namespace, _folder: Path) -> Calls:
    reference, pipe = kiwi_code(), load(args)
    model, embedder, wan = kiwi_models(reference, pipe)
    config = pipe.instructx_config
    t, cell = (args.frames - 1) // 4 + 1, args.size // config.vae.scale_factor_spatial
    noise = torch.randn(1, config.vae.z_dim, t, cell, cell)
    context = torch.randn(1, config.instruction.num_video_queries, config.denoiser.dim)

    @torch.no_grad()
    def steps() -> Any:
        schedule = reference.pipeline.FlowMatchScheduler(
            shift=config.sampling.shift, sigma_min=0.0, extra_one_step=True
        )
        schedule.set_timesteps(config.sampling.num_steps, shift=config.sampling.shift)
        latents = noise
        for timestep in schedule.timesteps:
            velocity = reference.pipeline.model_fn_wan_video(
                model,
                embedder,
                None,
                vae_source_input=noise,
                vae_ref_image=None,
                latents=latents,
                timestep=timestep[None],
                context=context,
                scheduler=schedule,
            )
            latents = schedule.step(velocity, timestep, latents)
        return latents

    pixels = torch.rand(3, args.frames, args.size, args.size) * 2 - 1
    return {
        "VAE encode": lambda: wan.encode([pixels], "cpu"),
        "steps": steps,
        "VAE decode": lambda: wan.decode([noise[0]], "cpu"),
    }


def hoisting(args: argparse.Namespace, _folder: Path) -> Calls:
    """All steps of an edit, its constants computed once or, as a compiled model does it, in every step."""
    from instructx_core.sampling.batch import edit_batch
    from instructx_core.speed import constants

    pipe, calls = load(args), {}

    def steps(every_time: bool, *given: Any) -> Any:
        as_compiled = patch.object(constants, "is_compiled", lambda _model: True) if every_time else nullcontext()
        with as_compiled:
            return pipe.denoise(*given, pipe.instructx_config.sampling.num_steps)

    for name, (count, with_reference) in CLIPS.items():
        frames = torch.randint(0, 256, (count or args.frames, args.size, args.size, 3), dtype=torch.uint8)
        pictures = [frames[0]] * with_reference
        batch = edit_batch(frames, "make the circle blue", pictures)
        given = torch.randn_like(pipe.encode_pictures(batch).source), conditions_of(pipe, batch)
        calls[f"{name}: once"] = functools.partial(steps, False, *given)
        calls[f"{name}: every time"] = functools.partial(steps, True, *given)
    return calls


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """{stage: [bytes, seconds of each round ...]} of one peer, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        make = {"ours": ours, "stock": stock, "kiwi": kiwi, "hoisting": hoisting}[args.only]
        calls = make(args, Path(folder))
        found = {}
        for name, call in calls.items():
            ctypes.CDLL(None).malloc_trim(0)  # what earlier stages freed goes back, so that this one's need shows
            clear_peak()
            before, seconds = resident(), []
            call()  # warm-up
            most = max(peak_resident() - before, 0)
            for _ in range(args.rounds):
                start = time.process_time()
                call()
                seconds.append(time.process_time() - start)
            found[name] = [float(most), *seconds]
    return found


def ceilings() -> dict[str, float]:
    """FLOP/s of a matrix product and bytes/s of a copy (read and write) on this machine, best of five."""
    a, big = torch.randn(1024, 1024), torch.randn(1 << 24)
    out, copy = torch.empty_like(a), torch.empty_like(big)

    def best(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(6):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times[1:])

    matmul = best(lambda: torch.mm(a, a, out=out))
    return {"matmul": 2 * 1024**3 / matmul, "copy": 2 * 4 * big.numel() / best(lambda: copy.copy_(big))}


def flops(args: argparse.Namespace) -> dict[str, int]:
    from instructx_core.costs.measure import edit_costs as count

    facts = count(load(args).instructx_config, args.frames, args.size, args.size)
    names = {"MLLM": "encoder", "VAE encode": "VAE encode", "steps": "DiT", "VAE decode": "VAE decode"}
    return {stage: facts["flops"][name] for stage, name in names.items()}


def table(result: dict[str, Any]) -> str:
    peers, top = result["peers"], result["ceilings"]
    lines = [
        f"{result['where']}, {result['threads']} thread(s), torch {result['torch']}; matrix product "
        f"{top['matmul'] / 1e9:.1f} GFLOP/s, copy {top['copy'] / 1e9:.1f} GB/s. {result['clip']}.",
        "",
        "| stage | GFLOP | floor, s | " + " | ".join(f"{name}, s | MB" for name in peers) + " |",
        "| --- | --- | --- |" + " --- | --- |" * len(peers),
    ]
    for stage in STAGES:
        count = result["flops"].get(stage)
        cells = ["", ""] if count is None else [f"{count / 1e9:.2f}", f"{count / top['matmul']:.3f}"]
        for found in peers.values():
            cells += [f"{found[stage][0]:.3f}", f"{found[stage][1] / 1e6:.0f}"] if stage in found else ["", ""]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    if not result["hoisting"]:
        return "\n".join(lines)
    lines += ["", "| milliseconds of a step | constants once | every time | saved |", "| --- | --- | --- | --- |"]
    measured = {name: 1e3 * found[0] / result["steps"] for name, found in result["hoisting"].items()}
    for name in CLIPS:
        once, always = measured[f"{name}: once"], measured[f"{name}: every time"]
        lines.append(f"| {name} | {once:.2f} | {always:.2f} | {100 * (1 - once / always):.0f} % |")
    return "\n".join(lines)


def taking_turns(names: list[str], turns: int) -> dict[str, dict[str, list[float]]]:
    """{name: {stage: [seconds, bytes]}}: medians over the rounds of all processes, the most memory of one."""
    found: dict[str, dict[str, list[list[float]]]] = {name: {} for name in names}
    for _ in range(turns):
        for name in names:
            for stage, (most, *seconds) in child(name).items():
                found[name].setdefault(stage, []).append([most, *seconds])
    result = {}
    for name, stages in found.items():
        if stages:
            result[name] = {
                stage: [statistics.median(second for run in runs for second in run[1:]), max(run[0] for run in runs)]
                for stage, runs in stages.items()
            }
    for stages in result.values():
        if "write" in stages:  # the call decodes first, so that there is something to write
            stages["write"][0] = max(stages["write"][0] - stages["VAE decode"][0], 0.0)
    return result


def child(name: str) -> dict[str, list[float]]:
    env = {**os.environ, **KEEP}
    if name == "kiwi" and "KIWI_PYTHONPATH" in env:
        env["PYTHONPATH"] = env["KIWI_PYTHONPATH"]
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(f"the run of {name} failed, its columns stay empty:\n{done.stderr[-3000:]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = arguments()
    torch.manual_seed(0)
    if args.only:
        print(json.dumps(measure(args)))
        return
    peers = [name for name in PEERS if name != "kiwi" or "KIWI_PATH" in os.environ]
    measured = taking_turns([*peers, "hoisting"], args.turns)
    result = {
        "where": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "clip": f"{args.frames} frames of {args.size}x{args.size}, median of {args.turns} times {args.rounds} rounds, "
        "CPU seconds",
        "ceilings": ceilings(),
        "flops": flops(args),
        "steps": load(args).instructx_config.sampling.num_steps,
        "peers": {name: stages for name, stages in measured.items() if name != "hoisting"},
        "hoisting": measured.get("hoisting", {}),
    }
    results.report(args, result, table(result), "edit")


if __name__ == "__main__":
    main()
