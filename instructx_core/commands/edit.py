"""`instructx edit`: an image or video by instruction, with a report of everything that was done to it; or many.

One edit: --input, --instruction, --output. A list of them: --jobs FILE.jsonl, whose lines hold the same options; those
of the command line are the defaults. Exit code 0: all done; 1: a job of the list failed; 2: bad input.
"""

from __future__ import annotations

import argparse
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .model import ProgressLine, add_model_arguments, add_sampling_arguments, load, parse_lora, parse_parts
from .speed import CHANGES_PIXELS, speed_lines

if TYPE_CHECKING:
    from ..editing.paste import KeepOutside


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, help="image or video")
    parser.add_argument("--instruction", help='what to change, e.g. "make the circle blue"')
    parser.add_argument(
        "--reference", type=Path, action="append", default=[], help="picture the instruction refers to; repeatable"
    )
    parser.add_argument("--output", type=Path, help="file to write: .png .jpg ... or .mp4 .mov .mkv")
    parser.add_argument(
        "--jobs", type=Path, metavar="FILE.jsonl",
        help='many edits instead of one: a line is {"input": .., "instruction": .., "output": ..} and options; what is '
        "finished is skipped when the list is run again",
    )  # fmt: skip
    parser.add_argument(
        "--size", help="largest area to work at, WxH, e.g. 832x480; the source's shape is kept (default: by model)"
    )
    parser.add_argument("--max-frames", type=int, help="edit in one piece, and refuse a clip longer than this")
    parser.add_argument(
        "--split", action="store_true",
        help="started by torchrun: all processes work on this one clip (--jobs gives each process clips of its own)",
    )  # fmt: skip
    add_window_arguments(parser)
    add_robust_arguments(parser)
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "long clips",
        "A clip of more frames than the model was made for (tiny 17, paper_14b 81, kiwi_5b 121) is edited in windows: "
        "each goes on from the last edited frame of the one before it. Any of these options asks for windows.",
    )
    group.add_argument("--window", metavar="5s|FRAMES", help="length of a window (default: 5s, at most the model's)")
    group.add_argument("--overlap", type=int, help="frames handed over to the next window (default: 1)")
    group.add_argument(
        "--context", choices=["window", "first"], help="whose frames the encoder sees: of each window, or of the first"
    )
    group.add_argument(
        "--joins", choices=["smooth", "plain"],
        help="smooth: the frame handed over is not edited again, and the step to the next window fades out (default); "
        "plain: as in the paper",
    )  # fmt: skip
    group.add_argument("--match-colour", action="store_true", help="correct colour drift where windows meet")
    group.add_argument("--restart", action="store_true", help="throw away finished windows of an interrupted edit")


def parse_window(text: str | None) -> dict[str, Any]:
    """'81' -> {"frames": 81}; '5s' -> {"seconds": 5.0}; None -> {}. Raises InputError for anything else."""
    if text is None:
        return {}
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)s", text.strip().lower())
    if match is None:
        raise InputError(f"--window {text!r} is no length; write seconds as 5s, or frames as 81")
    return {"frames": int(match[1])} if match[1] else {"seconds": float(match[2])}


def window_options(args: argparse.Namespace) -> Any:
    """WindowOptions where one of their options was given, else None: edit_file's own rule. Raises InputError."""
    from ..editing.windows.job import WindowOptions

    given = {name: getattr(args, name) for name in ("overlap", "context", "joins") if getattr(args, name) is not None}
    given |= {name: True for name in ("match_colour", "restart") if getattr(args, name)}
    given |= parse_window(args.window)
    return WindowOptions(**given) if given else None


def add_robust_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source")
    group.add_argument(
        "--keep-outside", metavar="MASK|auto",
        help="give the result the source's size and change nothing outside of a mask: a picture, white where the edit "
        "may show, or auto: where the edit differs",
    )  # fmt: skip
    group.add_argument("--feather", type=int, help="pixels over which the mask fades inwards (default: 8)")
    group.add_argument("--partial", action="store_true", help="edit what can be read of a damaged or cut off clip")


def keep_outside(args: argparse.Namespace) -> KeepOutside | None:
    """--keep-outside and --feather. Raises InputError for a feather without a mask."""
    from ..editing.paste import AUTO, FEATHER, KeepOutside

    if args.keep_outside is None:
        if args.feather is not None:
            raise InputError("--feather needs --keep-outside; give a mask or auto")
        return None
    mask = None if args.keep_outside == AUTO else Path(args.keep_outside)
    if mask is not None and args.jobs is not None:
        mask = args.jobs.parent / mask
    return KeepOutside(mask, FEATHER if args.feather is None else args.feather)


def parse_size(text: str | None) -> int | None:
    """'832x480' -> its area in pixels. Raises InputError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise InputError(f"--size {text!r} is not a size; write WIDTHxHEIGHT, e.g. 832x480")
    return int(match[1]) * int(match[2])


def attention_lines(pipe: Any) -> list[str]:
    """What attention ran in the DiT, and why; nothing where it is the stock one."""
    from ..speed.attention import session_of

    session = session_of(pipe.transformer)
    lines = session.report().splitlines()[1:] if session is not None else []
    return [f"attention {line}" for line in lines]


def edit_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of one edit as keyword arguments of edit_file. Raises InputError for a wrong size."""
    return {
        "steps": args.steps, "guidance": args.guidance, "seed": args.seed, "max_pixels": parse_size(args.size),
        "max_frames": args.max_frames, "windows": window_options(args),
        "partial": args.partial, "keep_outside": keep_outside(args),
    }  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return run_one(args) if args.jobs is None else run_list(args)


def run_one(args: argparse.Namespace) -> int:
    from ..editing.edit import check_kind, check_request, edit_file
    from ..media.files import read_image, read_media
    from ..media.outputs import output_kind
    from ..speed.parallel import place_of

    missing = [f"--{name}" for name in ("input", "instruction", "output") if getattr(args, name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is missing; give --input, --instruction and --output, or --jobs")
    options = edit_options(args)
    # Everything that needs no model is checked before loading one, which takes minutes for a large checkpoint.
    check_request(args.instruction, args.seed, args.steps, options["max_pixels"])
    look = read_media(args.input, first_only=True)
    check_kind(look, output_kind(args.output), args.output)
    if options["keep_outside"] is not None:
        options["keep_outside"].check(look)
    for path in args.reference:
        read_image(path)
    if args.split:
        check_split(args)
    pipe = load(args)
    if args.split and options["max_frames"] is None:  # one piece: a window resumed in one process would part them
        options["max_frames"] = pipe.instructx_config.sampling.frames
    tells, line = not args.split or place_of().rank == 0, ProgressLine("step")
    with pipe.split(args.output) if args.split else nullcontext(args.output) as output:
        report = edit_file(
            pipe, args.input, args.instruction, args.reference, output=output, **options,
            progress=line if tells else None,
            on_window=lambda result, total: line.tell(
                f"window {result.window.index + 1}/{total}: frames {result.window.first_new} to "
                f"{result.window.stop - 1}, differs by {result.join:.1f} of 255 from the one before"
            ),
        )  # fmt: skip
    if tells:
        print("\n".join([*report.lines(), *attention_lines(pipe), *speed_lines(pipe, args)]))
    return 0


def check_split(args: argparse.Namespace) -> None:
    """Raises InputError without torchrun, or for options under which the processes would not take the same steps."""
    from ..speed.parallel import check_several

    check_several()
    parting = [name for name in ("cache", "compile") if getattr(args, name)]
    parting += [] if args.offload == "none" else ["offload"]
    if parting or window_options(args) is not None:
        names = ", ".join(f"--{name}" for name in parting) or "a window"
        raise InputError(f"--split with {names}: the processes would not take the same steps; leave one of them out")
    if args.attention == "auto":
        args.attention = "off"  # torch's: the kernels' processor knows one process only


# Options a line of the list may hold: what Python type JSON must give.
JOB_OPTIONS = {"steps": int, "guidance": (int, float), "seed": int, "size": str, "max_frames": int, "keep_outside": str,
               "feather": int, "partial": bool, "window": str,
               "overlap": int, "context": str, "joins": str}  # fmt: skip


def run_list(args: argparse.Namespace) -> int:
    """Runs --jobs, tells each outcome as it comes and all of them at the end."""
    from ..editing.edit import edit_file
    from ..editing.jobs import Journal, model_key, read_jobs, run_jobs, summary
    from ..speed.parallel import place_of, share
    from ..weights import SHIPPED

    given = [f"--{name}" for name in ("input", "instruction", "output", "reference") if getattr(args, name)]
    if given:
        raise InputError(f"{', '.join(given)} with --jobs; write it into the lines of {args.jobs}")
    if args.split:
        raise InputError("--split with --jobs; under torchrun --jobs gives each process clips of its own: leave it out")

    def parse(values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if name not in JOB_OPTIONS:
                raise InputError(f"{name} is no option of a job; use {', '.join(JOB_OPTIONS)}")
            if not isinstance(value, JOB_OPTIONS[name]) or (isinstance(value, bool) and name != "partial"):
                raise InputError(f"{name} is {value!r}, a {type(value).__name__}; see instructx edit --help")
        return edit_options(argparse.Namespace(**{**vars(args), **values}))

    jobs = share(read_jobs(args.jobs, parse), place_of())  # under torchrun, this process's part
    changing = ("dtype", "attention", "scheduler", "lora_layers", *CHANGES_PIXELS)
    loras, parts = [parse_lora(text) for text in args.lora], parse_parts(args.part)
    settings = {name: getattr(args, name) for name in changing}
    settings |= {"parts": list(parts), "strengths": [strength for _, strength in loras]}
    key = model_key([args.model or SHIPPED, *parts.values(), *(path for path, _ in loras)], settings)
    outcomes = []
    try:
        for outcome in run_jobs(jobs, Journal(args.jobs), key, lambda: load(args), edit_file):
            outcomes.append(outcome)
            print(f"{len(outcomes)}/{len(jobs)} {outcome.status}: {outcome.message or outcome.job.output}", flush=True)
    finally:
        print(summary(outcomes))
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0
