"""Long edits on the shapes world: memory against length, and how well windows fit together against three baselines.

    python benchmarks/long.py memory --json memory.json --folder DIR  5 s, 30 s, 5 min of the tiny world, a process each
    python benchmarks/long.py seams --json seams.json [--host DIR]    8 windows of 17 frames; DIR: a ComfyUI's tree
    python benchmarks/long.py report --memory memory.json --seams seams.json --plot docs/long-video.png \\
        --write docs/long-video.md

--host needs the host's own packages (tests/comfyui/requirements.txt). Memory is the process's peak resident set (VmHWM)
after every window, twice: with glibc's heap as it is, and with every larger block mapped by itself, which is what the
edit asks for, without the gaps of a heap. Jumps are what shapes.jumps measures, in levels of 255: at each method's own
joins (where another window begins or ends to count) and at all other frames. `--write` puts the tables between the
marks `<!-- memory -->` and `<!-- seams -->`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FPS, SIZE, WINDOWS = 16, 17, 8
LENGTHS = {"5 s": 5, "30 s": 30, "5 min": 300}
# (task, number) of test clips whose first window the shipped model gets right, one of a task
CASES = (("color", 3), ("swap", 1), ("add", 0), ("remove", 0), ("background", 0), ("style", 1), ("hybrid", 1),
         ("segment", 2))  # fmt: skip
Edited = tuple[np.ndarray, set[int]]  # a clip, and its joins: i for the change from frame i to frame i+1
STEPS = 4
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}  # bytes from which glibc maps a block by itself
OURS = "hand-over, smooth joins"
QUICK = (OURS, "hand-over, plain joins", "independent, a seed each")  # what the test compares
FADE = 8  # frames two cross-faded windows share, the habit of published nodes


def peak_mib() -> float:
    """Largest resident set of this process so far, MiB."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


# --- memory ----------------------------------------------------------------------------------------------------------


def edit_one(source: Path, output: Path, steps: int, window: int, side: int) -> dict[str, Any]:
    """One long edit in this process: peak memory and seconds after every window."""
    from instructx_core import edit_file, load_pipeline
    from instructx_core.long_video.job import WindowOptions

    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    start, peaks, seconds = time.perf_counter(), [], []

    def note(*_: Any) -> None:
        peaks.append(round(peak_mib(), 1))
        seconds.append(round(time.perf_counter() - start, 2))

    options = WindowOptions(frames=window)
    edit_file(
        pipe, source, "make the circle blue", output=output, steps=steps, windows=options, max_pixels=side * side,
        on_window=note,
    )  # fmt: skip
    return {"peaks_mib": peaks, "seconds": seconds, "peak_mib": round(peak_mib(), 1)}


def memory(folder: Path, steps: int, window: int, side: int) -> dict[str, Any]:
    """Every length in a process of its own; the same clip, played longer."""
    from instructx_core.media.files import write_video
    from instructx_core.media.stream import scan_clip
    from instructx_core.shapes import sample, there_and_back

    settings = {"steps": steps, "window": window, "side": side}
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    found: dict[str, Any] = {**settings, "fps": FPS, "lengths": {}}
    for name, seconds in LENGTHS.items():
        source, output = folder / f"{seconds}.mp4", folder / f"{seconds}_edited.mp4"
        frames = there_and_back(sample("test", 6, "video", "color"), seconds * FPS).source_FHWC
        write_video(source, frames, FPS)
        command = [sys.executable, __file__, "one", str(source), str(output), *options]

        def run(command: list[str] = command, **env: str) -> dict[str, Any]:
            done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env})
            return json.loads(done.stdout)

        told, mapped = run(), run(**MAPPED)
        kept = scan_clip(output).frames == len(frames)
        found["lengths"][name] = {"frames": len(frames), "frames_kept": kept, **told, "mapped": mapped}
        sys.stderr.write(f"{name}: {told['peak_mib']} MiB, {told['seconds'][-1]} s; mapped {mapped['peak_mib']} MiB\n")
    return found


# --- seams -----------------------------------------------------------------------------------------------------------


def methods(edit: Callable[..., np.ndarray], clip: Any) -> dict[str, Callable[[], Edited]]:
    """Name -> the long clip edited that way. edit(frames, seed, pinned) edits one window."""
    from instructx_core.long_video import FADE as FADED
    from instructx_core.long_video import edit_windows, plan_windows

    frames_FHWC = clip.source_FHWC
    plain = plan_windows(len(frames_FHWC), SIZE)

    def handed_over(kind: str, pin: bool, fade: bool, match: bool = False, own_seeds: bool = False) -> Edited:
        windows = plan_windows(len(frames_FHWC), SIZE, joins=kind)
        results = edit_windows(
            iter(frames_FHWC), windows,
            lambda given, w: edit(given, w.index if own_seeds else 0, w.pinned() if pin else 0),
            match_colour=match, fade=FADED if fade else 0,
        )  # fmt: skip
        return np.concatenate([result.new_FHWC for result in results]), {w.first_new - 1 for w in windows[1:]}

    def independent(own_seeds: bool) -> Edited:
        made = [edit(frames_FHWC[w.start : w.stop], w.index if own_seeds else 0, 0)[w.shared :] for w in plain]
        return np.concatenate(made), {w.first_new - 1 for w in plain[1:]}

    def cross_fade() -> Edited:
        parts = plan_windows(len(frames_FHWC), SIZE, FADE)
        total, weight_F = np.zeros(frames_FHWC.shape), np.zeros(len(frames_FHWC))
        for w in parts:
            ramp_F = np.minimum(1.0, np.arange(1, w.frames + 1) / (FADE + 1))
            share_F = (ramp_F if w.index else 1.0) * (ramp_F[::-1] if w.index + 1 < len(parts) else 1.0)
            share_F = np.broadcast_to(share_F, w.frames)
            total[w.start : w.stop] += edit(frames_FHWC[w.start : w.stop], 0, 0) * share_F[:, None, None, None]
            weight_F[w.start : w.stop] += share_F
        mixed_FHWC = np.rint(total / weight_F[:, None, None, None]).astype(np.uint8)
        return mixed_FHWC, borders(((w.start, w.stop) for w in parts), len(frames_FHWC))

    return {
        OURS: lambda: handed_over("smooth", True, True),
        "hand-over, plain joins": lambda: handed_over("plain", False, False),
        "hand-over, pinned only": lambda: handed_over("plain", True, False),
        "hand-over, faded only": lambda: handed_over("smooth", False, True),
        "smooth joins, colours matched": lambda: handed_over("smooth", True, True, match=True),
        "smooth joins, a seed each": lambda: handed_over("smooth", True, True, own_seeds=True),
        "independent, one seed": lambda: independent(False),
        "independent, a seed each": lambda: independent(True),
        f"cross-fade of {FADE} frames": cross_fade,
    }


def borders(spans: Iterable[tuple[int, int]], frames: int) -> set[int]:
    """Changes from frame to frame at which one of the spans (start, stop) begins or ends."""
    return {edge - 1 for span in spans for edge in span if 0 < edge < frames}


def judge(clip: Any, edited_FHWC: np.ndarray, joins: set[int]) -> dict[str, Any]:
    """Success of each window; error; mean and largest jump at the joins, mean jump elsewhere; of 255."""
    from instructx_core.shapes import jumps, part, score

    step = SIZE - 1
    success = [
        score(part(clip, i * step, i * step + SIZE), edited_FHWC[i * step : i * step + SIZE]).success
        for i in range((len(edited_FHWC) - 1) // step)
    ]
    jump_F, at = jumps(edited_FHWC, clip.target_FHWC), sorted(joins)
    error = np.abs(edited_FHWC.astype(np.float32) - clip.target_FHWC).mean()
    found = {
        "error": error, "join": jump_F[at].mean(), "join_max": jump_F[at].max(),
        "inside": np.delete(jump_F, at).mean(),
    }  # fmt: skip
    return {"success": success, "joins": len(at), **{name: round(float(value), 3) for name, value in found.items()}}


def seams(
    steps: int, host: Path | None, save: Path | None, cases: Sequence[tuple[str, int]] = CASES,
    chosen: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Every method, or the `chosen` ones, on every case, in one run."""
    from fractions import Fraction

    import torch

    from instructx_core import load_pipeline
    from instructx_core.clip import run_clip
    from instructx_core.media.base import Media
    from instructx_core.shapes import sample, there_and_back

    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    rows: dict[str, Any] = {}
    for task, index in cases:
        clip = there_and_back(sample("test", index, "video", task), WINDOWS * (SIZE - 1) + 1)

        made: dict[tuple[bytes, int, int], np.ndarray] = {}  # the methods have windows in common

        def edit(frames_FHWC: np.ndarray, seed: int, pinned: int, clip: Any = clip, made: Any = made) -> np.ndarray:
            key = (frames_FHWC.tobytes(), seed, pinned)
            if key not in made:
                media = Media(Path("clip"), frames_FHWC, (64, 64), is_video=True, fps=Fraction(FPS))
                made[key] = run_clip(pipe, media, clip.instruction, [], steps, None, seed, None, pinned=pinned)[0]
            return made[key]

        ways = methods(edit, clip)
        if host is not None:
            ways["ComfyUI context windows"] = context_windows(host, clip, steps)
        for name, way in ways.items():
            if chosen and name not in chosen:
                continue
            with torch.no_grad():
                edited_FHWC, joins = way()
            rows.setdefault(name, {})[f"{task} {index}"] = judge(clip, edited_FHWC, joins)
            sys.stderr.write(f"{task} {index}, {name}: {rows[name][f'{task} {index}']}\n")
            if save is not None:
                np.savez_compressed(save / f"{task}_{index}_{name.replace(' ', '_')}.npz", edited_FHWC)
    return {"steps": steps, "window": SIZE, "windows": WINDOWS, "clips": [*map(list, cases)], "methods": rows}


def load_host(tree: Path) -> Callable[[str], ModuleType]:
    """ComfyUI's modules in this process, on the CPU, and this pack as it loads it; by_name("nodes.sampler")."""
    sys.path.insert(0, str(tree))
    cli = importlib.import_module("comfy.cli_args")
    cli.args.cpu = True
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {ROOT} is no node pack")
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pack"])
    return lambda name: importlib.import_module(f"pack.{name}")


def context_windows(tree: Path, clip: Any, steps: int) -> Callable[[], Edited]:
    """The host's own way: the whole clip at once, each step in overlapping windows of latents that are averaged."""

    def run() -> Edited:
        import torch

        pack = load_host(tree)
        host, sd = importlib.import_module("comfy.utils"), importlib.import_module("comfy.sd")
        manual = importlib.import_module("comfy_extras.nodes_context_windows").WanContextWindowsManualNode
        name = "instructx_tiny.safetensors"
        pack("nodes.host").register_shipped_models()
        tiny = ROOT / "instructx_core" / "assets" / "tiny"
        model = sd.load_diffusion_model(str(tiny / "diffusion_models" / name), model_options={"dtype": torch.float32})
        vae = sd.VAE(sd=host.load_torch_file(str(tiny / "vae" / name)), dtype=torch.float32)
        (encoder,) = pack("nodes.load_encoder").InstructXLoadEncoder.execute(name, name, "fp32", "cpu").args
        source = torch.from_numpy(clip.source_FHWC.copy()).float() / 255.0
        with torch.inference_mode():
            queries = pack("nodes.query_embeddings").InstructXQueryEmbeddings.execute(encoder, clip.instruction, source)
            positive = pack("nodes.connector").InstructXConnector.execute(queries.args[0]).args[0]
            patched, *rest = (
                pack("nodes.source_reference")
                .InstructXSourceReference.execute(model, positive, vae, source, "error", "error")
                .args
            )
            newer = {"freenoise": False} if "freenoise" in inspect.signature(manual.execute).parameters else {}
            windowed = manual.execute(patched, SIZE, FADE, "standard_static", 1, False, "pyramid", **newer).args[0]
            sampler = pack("nodes.sampler").InstructXSampler
            image = sampler.execute(windowed, *rest, vae, 0, steps, 1.0, 3.0, "euler", "instructx", 1.0).args[0]
        handler, frames = windowed.model_options["context_handler"], rest[-1]["samples"].shape[2]
        parts = [window if isinstance(window, list) else window.index_list
                 for window in handler.context_schedule.func(frames, handler, windowed.model_options)]  # fmt: skip
        # Latent frame t > 0 holds the pixel frames 4t-3 .. 4t.
        spans = ((max(4 * part[0] - 3, 0), 4 * part[-1] + 1) for part in parts)
        return (image * 255.0).round().to(torch.uint8).numpy(), borders(spans, len(image))

    return run


# --- report ----------------------------------------------------------------------------------------------------------


def flatness(measured: dict[str, Any]) -> str:
    """How much the longest clip takes more than the shortest, in words."""
    rows = measured["lengths"].values()
    heap, mapped = ([row["peak_mib"] for row in part] for part in (rows, [row["mapped"] for row in rows]))
    apart = [f"{100 * (max(peaks) / min(peaks) - 1):.1f} %" for peaks in (heap, mapped)]
    return f"largest and smallest peak differ by {apart[0]}, with mapped blocks by {apart[1]}"


def memory_table(measured: dict[str, Any]) -> str:
    side, size = measured["side"], measured["window"]
    lines = [
        f"Frames of {side}x{side}, windows of {size} frames, {measured['steps']} step(s), each length in a process of "
        f"its own; {flatness(measured)}.",
        "",
        "| length | frames | windows | peak memory, MiB | with mapped blocks | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in measured["lengths"].items():
        windows, seconds = len(row["peaks_mib"]), row["seconds"][-1]
        cells = (row["frames"], windows, row["peak_mib"], row["mapped"]["peak_mib"], seconds)
        lines.append(f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def seams_table(joins: dict[str, Any]) -> str:
    lines = [
        f"{joins['windows']} windows of {joins['window']} frames (smooth joins: one more), {joins['steps']} steps, "
        f"{len(joins['clips'])} clip(s): "
        f"{', '.join(f'`{task}` {index}' for task, index in joins['clips'])} of the test split; of 255.",
        "",
        "| method | windows that succeed | error | joins | jump there | largest | elsewhere |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, cases in joins["methods"].items():
        good, total = (sum(f(case["success"]) for case in cases.values()) for f in (sum, len))
        count = sum(case["joins"] for case in cases.values())
        error, *means = (
            np.mean([case[key] for case in cases.values()]) for key in ("error", "join", "join_max", "inside")
        )
        numbers = " | ".join(f"{value:.2f}" for value in means)
        lines.append(f"| {name} | {good} of {total} | {error:.2f} | {count} | {numbers} |")
    return "\n".join(lines)


def draw(joins: dict[str, Any], plot: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    names = list(joins["methods"])
    means = {
        key: [np.mean([c[key] for c in joins["methods"][n].values()]) for n in names] for key in ("join", "inside")
    }
    rows = np.arange(len(names))
    axes.barh(rows - 0.2, means["join"], 0.4, label="at the joins")
    axes.barh(rows + 0.2, means["inside"], 0.4, label="elsewhere")
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set(xlabel="jump from frame to frame beyond the true one, of 255", title="Where windows meet")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(plot, dpi=110)


def report(memory_json: Path | None, seams_json: Path | None, plot: Path | None, page: Path | None) -> None:
    """Prints the tables of what is given, puts them into the page, draws the joins."""
    import document

    found = {"memory": (memory_json, memory_table), "seams": (seams_json, seams_table)}
    for name, (path, table) in found.items():
        if path is None:
            continue
        measured = json.loads(path.read_text(encoding="utf-8"))
        sys.stdout.write(table(measured) + "\n\n")
        if page is not None:
            document.write(page, name, table(measured))
        if name == "seams" and plot is not None:
            draw(measured, plot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("one")
    one.add_argument("source", type=Path)
    one.add_argument("output", type=Path)
    for verb in ("memory", "seams"):
        command = verbs.add_parser(verb)
        command.add_argument("--json", type=Path, required=True)
    for verb in ("memory", "seams", "one"):
        verbs.choices[verb].add_argument("--steps", type=int, default=STEPS)
    for verb in ("memory", "one"):
        verbs.choices[verb].add_argument("--window", type=int, default=SIZE, help="frames")
        verbs.choices[verb].add_argument("--side", type=int, default=64, help="of a frame, pixels")
    verbs.choices["memory"].add_argument("--folder", type=Path, required=True, help="for the clips")
    verbs.choices["seams"].add_argument("--host", type=Path, help="a ComfyUI tree: its context windows as well")
    verbs.choices["seams"].add_argument("--save", type=Path, help="folder for the edited clips")
    told = verbs.add_parser("report")
    told.add_argument("--memory", type=Path, help="what memory wrote")
    told.add_argument("--seams", type=Path, help="what seams wrote")
    told.add_argument("--plot", type=Path, help="picture of the joins")
    told.add_argument("--write", type=Path, help="document to put the tables into")
    args = parser.parse_args()
    if args.verb == "one":
        sys.stdout.write(json.dumps(edit_one(args.source, args.output, args.steps, args.window, args.side)))
    elif args.verb == "report":
        report(args.memory, args.seams, args.plot, args.write)
    else:
        if args.verb == "memory":
            found = memory(args.folder, args.steps, args.window, args.side)
        else:
            found = seams(args.steps, args.host, args.save)
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
