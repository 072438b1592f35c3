"""How well the windows of a long edit fit together, against independent windows, cross-fade and ComfyUI's own way.

    python benchmarks/joins.py --json joins.json [--host DIR] [--clips 4]        DIR: a ComfyUI's tree
    python benchmarks/joins.py --from joins.json --plot docs/long-video.png --write docs/long-video.md

Clips of 8 windows of 17 frames: the first test clips of each task whose first window the model gets right, so that
success says how an edit goes on. Jumps are what shapes.jumps measures, in levels of 255: at each method's own joins
(where another window begins or ends to count) and at all other frames. --host needs the host's own packages
(tests/comfyui/requirements.txt).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from instructx_core.pipeline import InstructXPipeline
    from instructx_core.shapes import Sample

FPS, SIZE, WINDOWS, STEPS = 16, 17, 8, 4
TASKS = ("color", "swap", "add", "remove", "background", "tone", "style", "hybrid", "segment")  # without references
JoinedClip = tuple[np.ndarray, set[int]]  # a clip, and its joins: i for the change from frame i to frame i+1
OURS = "hand-over, smooth joins"
QUICK = (OURS, "hand-over, plain joins", "independent, a seed each")  # what the test compares
FADE = 8  # frames two cross-faded windows share, the habit of published nodes


def methods(edit: Callable[..., np.ndarray], clip: Sample) -> dict[str, Callable[[], JoinedClip]]:
    """Name -> the long clip edited that way. edit(frames, seed, pinned) edits one window."""
    from instructx_core.editing.windows import FADE as FADED
    from instructx_core.editing.windows import edit_windows, plan_windows

    frames_FHWC = clip.source_FHWC
    plain = plan_windows(len(frames_FHWC), SIZE)

    def handed_over(kind: str, pin: bool, fade: bool, match: bool = False, own_seeds: bool = False) -> JoinedClip:
        windows = plan_windows(len(frames_FHWC), SIZE, joins=kind)
        results = edit_windows(
            iter(frames_FHWC),
            windows,
            lambda given, w: edit(given, w.index if own_seeds else 0, w.pinned() if pin else 0),
            match_colour=match,
            fade=FADED if fade else 0,
        )
        return np.concatenate([result.new_FHWC for result in results]), {w.first_new - 1 for w in windows[1:]}

    def independent(own_seeds: bool) -> JoinedClip:
        made = [edit(frames_FHWC[w.start : w.stop], w.index if own_seeds else 0, 0)[w.shared :] for w in plain]
        return np.concatenate(made), {w.first_new - 1 for w in plain[1:]}

    def cross_fade() -> JoinedClip:
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


def judge(clip: Sample, edited_FHWC: np.ndarray, joins: set[int]) -> dict[str, Any]:
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
        "error": error,
        "join": jump_F[at].mean(),
        "join_max": jump_F[at].max(),
        "inside": np.delete(jump_F, at).mean(),
    }
    return {"success": success, "joins": len(at), **{name: round(float(value), 3) for name, value in found.items()}}


def window_editor(
    pipe: InstructXPipeline, instruction: str, steps: int
) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """edit(frames, seed, pinned) of one window."""

    from instructx_core.editing.piece import Piece, edit_piece
    from instructx_core.editing.settings import Sampling

    made: dict[tuple[bytes, int, int], np.ndarray] = {}  # the methods have windows in common

    def edit(frames_FHWC: np.ndarray, seed: int, pinned: int) -> np.ndarray:
        key = (frames_FHWC.tobytes(), seed, pinned)
        if key not in made:
            piece = Piece(frames_FHWC, float(FPS), instruction, pinned=pinned)
            guidance = float(pipe.instructx_config.sampling.guidance_scale)
            made[key] = edit_piece(pipe, piece, Sampling(steps, guidance, seed), lambda step, total: None)
        return made[key]

    return edit


def find_cases(pipe: InstructXPipeline, steps: int, clips: int, tasks: Sequence[str] = TASKS) -> list[tuple[str, int]]:
    """(task, number) of the first test clips of each task whose first window the model gets right."""
    from instructx_core.shapes import sample, score

    found = []
    for task in tasks:
        good = 0
        for index in range(40):
            clip = sample("test", index, "video", task)
            edited_FHWC = window_editor(pipe, clip.instruction, steps)(clip.source_FHWC, 0, 0)
            if good < clips and score(clip, edited_FHWC).success:
                found.append((task, index))
                good += 1
            if good == clips:
                break
    return found


def seams(
    steps: int,
    host: Path | None,
    save: Path | None,
    clips: int = 1,
    chosen: Sequence[str] = (),
    tasks: Sequence[str] = TASKS,
    windows: int = WINDOWS,
) -> dict[str, Any]:
    """Every method, or the `chosen` ones, on so many clips a task, in one run."""
    import torch

    from instructx_core import load_pipeline
    from instructx_core.shapes import sample, there_and_back

    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    cases = find_cases(pipe, steps, clips, tasks)
    rows: dict[str, Any] = {}
    for task, index in cases:
        clip = there_and_back(sample("test", index, "video", task), windows * (SIZE - 1) + 1)
        edit = window_editor(pipe, clip.instruction, steps)
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
    return {"steps": steps, "window": SIZE, "windows": windows, "clips": [*map(list, cases)], "methods": rows}


def context_windows(tree: Path, clip: Any, steps: int) -> Callable[[], JoinedClip]:
    """The host's own way: the whole clip at once, each step in overlapping windows of latents that are averaged."""

    def run() -> JoinedClip:
        import comfy_host
        import torch

        comfy_host.enter_host(tree)
        pack = comfy_host.load_pack()
        host, sd = importlib.import_module("comfy.utils"), importlib.import_module("comfy.sd")
        manual = importlib.import_module("comfy_extras.nodes_context_windows").WanContextWindowsManualNode
        name = "instructx_tiny.safetensors"
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
                .args[:4]
            )
            newer = {"freenoise": False} if "freenoise" in inspect.signature(manual.execute).parameters else {}
            windowed = manual.execute(patched, SIZE, FADE, "standard_static", 1, False, "pyramid", **newer).args[0]
            sampler = pack("nodes.sampler").InstructXSampler
            image = sampler.execute(windowed, *rest, vae, 0, steps, 1.0, 3.0, "euler", "instructx", 1.0).args[0]
        handler, frames = windowed.model_options["context_handler"], rest[-1]["samples"].shape[2]
        parts = [
            window if isinstance(window, list) else window.index_list
            for window in handler.context_schedule.func(frames, handler, windowed.model_options)
        ]
        # Latent frame t > 0 holds the pixel frames 4t-3 .. 4t.
        spans = ((max(4 * part[0] - 3, 0), 4 * part[-1] + 1) for part in parts)
        return (image * 255.0).round().to(torch.uint8).numpy(), borders(spans, len(image))

    return run


def _by_task(cases: Sequence[Sequence[Any]]) -> str:
    """ "color 0, 1; swap 1"."""
    tasks = dict.fromkeys(task for task, _ in cases)
    return "; ".join(f"{task} {', '.join(str(n) for name, n in cases if name == task)}" for task in tasks)


def seams_table(joins: dict[str, Any]) -> str:
    lines = [
        f"{joins['windows']} windows of {joins['window']} frames (smooth joins need a window more), "
        f"{joins['steps']} steps, {len(joins['clips'])} clips of the test split ({_by_task(joins['clips'])}); of 255.",
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


def main() -> None:
    import results  # here, since a test loads this file from elsewhere

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--clips", type=int, default=1, help="of each task")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--windows", type=int, default=WINDOWS, help="of a clip")
    parser.add_argument("--host", type=Path, help="a ComfyUI tree: its context windows as well")
    parser.add_argument("--save", type=Path, help="folder for the edited clips")
    parser.add_argument("--from", dest="measured", type=Path, help="what --json wrote, instead of a run")
    parser.add_argument("--plot", type=Path, help="picture of the joins")
    results.add_options(parser, document=True)
    args = parser.parse_args()
    if args.measured:
        found = json.loads(args.measured.read_text(encoding="utf-8"))
    else:
        found = seams(args.steps, args.host, args.save, args.clips, (), args.tasks, args.windows)
    results.report(args, found, seams_table(found), "seams")
    if args.plot:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
