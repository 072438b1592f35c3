"""`instructx edit`: an image or video by instruction, with a report of everything that was done to it; or many.

One edit: --input, --instruction, --output. A list of them: --jobs FILE.jsonl, whose lines hold the same options; those
of the command line are the defaults. Exit code 0: all done; 1: a job of the list failed; 2: bad input.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..fields import NO_RESULT
from .judge_options import add_judge_arguments, asked_by, refuse_pace_on_ray
from .model import ModelOptions, ProgressLine, add_model_arguments, add_sampling_arguments, pipeline_of
from .speed import speed_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..editing.job_list import BadLine, Job
    from ..editing.jobs import Outcome
    from ..editing.journal import Journal
    from ..editing.windows import WindowResult
    from ..evaluation.judge.best_of import BestOf
    from ..pipeline import InstructXPipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", help="image or video")
    parser.add_argument("--instruction", help='what to change, e.g. "make the circle blue"')
    parser.add_argument(
        "--reference", action="append", default=[], help="picture the instruction refers to; repeatable"
    )
    parser.add_argument("--output", help="file to write: .png .jpg ... or .mp4 .mov .mkv")
    parser.add_argument(
        "--jobs",
        type=Path,
        metavar="FILE.jsonl",
        help='many edits instead of one: a line is {"input": .., "instruction": .., "output": ..} and options; what is '
        "finished is skipped when the list is run again",
    )
    parser.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="with --jobs: where finished ones are remembered (default: FILE.done.jsonl beside the list)",
    )
    parser.add_argument(
        "--runner",
        choices=["loop", "ray"],
        default="loop",
        help="with --jobs: one after the other here (default), or over the machines of a Ray cluster (extra: scale)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --runner ray: processes that edit (default: one a GPU)"
    )
    parser.add_argument(
        "--size", help="largest area to work at, WxH, e.g. 832x480; the source's shape is kept (default: by model)"
    )
    parser.add_argument("--max-frames", type=int, help="edit in one piece, and refuse a clip longer than this")
    parser.add_argument(
        "--split",
        action="store_true",
        help="started by torchrun: all processes work on this one clip (--jobs gives each process clips of its own)",
    )
    parser.add_argument(
        "--best-of", type=int, metavar="N", help="edit with N seeds and keep the one that --judge scores best"
    )
    add_window_arguments(parser)
    add_robust_arguments(parser)
    add_judge_arguments(parser)
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    from ..editing.windows.options import CONTEXTS
    from ..editing.windows.plan import JOINS

    group = parser.add_argument_group(
        "long clips",
        "A clip of more frames than the model was made for (tiny 17, paper_14b 81, kiwi_5b 121) is edited in windows: "
        "each goes on from the last edited frame of the one before it. Any of these options asks for windows.",
    )
    group.add_argument("--window", metavar="5s|FRAMES", help="length of a window (default: 5s, at most the model's)")
    group.add_argument("--overlap", type=int, help="frames handed over to the next window (default: 1)")
    group.add_argument(
        "--context", choices=CONTEXTS, help="whose frames the encoder sees: of each window, or of the first"
    )
    group.add_argument(
        "--joins",
        choices=JOINS,
        help="smooth: the frame handed over is not edited again, and the step to the next window fades out (default); "
        "plain: as in the paper",
    )
    group.add_argument(
        "--edit-fps",
        type=float,
        metavar="FPS",
        help="edit that many frames a second, e.g. 16, and carry the edit over to those between (default: every frame)",
    )
    group.add_argument("--match-colour", action="store_true", help="correct colour drift where windows meet")
    group.add_argument("--restart", action="store_true", help="throw away finished windows of an interrupted edit")


def add_robust_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source")
    group.add_argument(
        "--keep-outside",
        metavar="MASK|auto",
        help="give the result the source's size and change nothing outside of a mask: a picture, white where the edit "
        "may show, or auto: where the edit differs",
    )
    group.add_argument("--feather", type=int, help="pixels over which the mask fades inwards (default: 8)")
    group.add_argument("--partial", action="store_true", help="edit what can be read of a damaged or cut off clip")
    group.add_argument("--need-sound", action="store_true", help="refuse a clip of whose sound some cannot be kept")


def attention_lines(pipe: InstructXPipeline) -> list[str]:
    """What attention ran in the DiT, and why; nothing where it is the stock one."""
    from ..speed.attention import session_of

    session = session_of(pipe.transformer)
    lines = session.report().splitlines()[1:] if session is not None else []
    return [f"attention {line}" for line in lines]


def given_options(args: argparse.Namespace) -> dict[str, object]:
    """The options of an edit that were given, as a line of a list holds them."""
    from ..editing.options import option_types

    values = {name: vars(args).get(name) for name in option_types()}  # a test demands a flag of each
    return {name: value for name, value in values.items() if value is not None and value is not False}


def best_of(args: argparse.Namespace) -> BestOf | None:
    """What --best-of asks for. Raises InputError for a judge without it and the other way round."""
    if args.best_of is None:
        if args.judge is not None or args.judge_model is not None:
            raise InputError("--judge is for --best-of; give --best-of N, or leave it out")
        return None
    from ..evaluation.judge.best_of import BestOf
    from ..evaluation.judge.pictures import Viewing
    from ..evaluation.judge.vie import Vie

    if args.judge is None or not args.judge_model:
        raise InputError("--best-of needs a judge; give --judge URL and --judge-model NAME")
    refuse_pace_on_ray(args)
    return BestOf(args.best_of, asked_by(args, Vie(), Viewing()), cache(partial(_key, args)))


def run(args: argparse.Namespace) -> int:
    if args.jobs is not None:
        return run_list(args)
    if args.journal is not None or args.workers is not None or args.runner != "loop":
        raise InputError("--journal, --runner and --workers are for a list of edits; give --jobs")
    return run_one(args)


def run_one(args: argparse.Namespace) -> int:
    from ..editing.edit import edit
    from ..editing.look import look_at
    from ..editing.options import read_request
    from ..editing.progress import SILENT, Progress
    from ..editing.windows.state import windows_folder
    from ..speed.parallel import place_of, share_folder

    missing = [f"--{name}" for name in ("input", "instruction", "output") if getattr(args, name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is missing; give --input, --instruction and --output, or --jobs")
    values = {"input": args.input, "instruction": args.instruction, "output": args.output, "reference": args.reference}
    request = read_request({**values, **given_options(args)})
    several = best_of(args)
    if several is not None:
        several.check(request)
    if args.split:
        prepare_split(args)
    look = look_at(request)  # all that needs no model, before one is loaded, which can take minutes
    line = ProgressLine("step")
    if not args.split or place_of().rank == 0:
        for note in look.notes:
            line.tell(f"note      {note}")
    pipe = pipeline_of(args)
    if not args.split:
        report = (several or edit)(pipe, look, Progress(line, partial(tell_window, line)))
    else:
        first = place_of().rank == 0
        make = edit if several is None else partial(several.together, judges=first, share=share_folder)
        with pipe.split(request.output) as output:
            share_folder(windows_folder(output))
            ours = dataclasses.replace(look, request=dataclasses.replace(request, output=output))
            report = make(pipe, ours, Progress(line, partial(tell_window, line)) if first else SILENT)
    if not args.split or place_of().rank == 0:
        print("\n".join([*report.lines(), *attention_lines(pipe), *speed_lines(pipe, args)]))
    return 0


def tell_window(line: ProgressLine, result: WindowResult, total: int) -> None:
    """A line on stderr after each window, which a long edit is watched by."""
    window = result.window
    line.tell(
        f"window {window.index + 1}/{total}: frames {window.first_new} to {window.stop - 1}, "
        f"differs by {result.join:.1f} of 255 from the one before"
    )


def prepare_split(args: argparse.Namespace) -> None:
    """Attention that several processes can share. Raises InputError without torchrun, or for options under which the
    processes would not take the same steps."""
    from ..speed.parallel import check_several

    check_several()
    parting = [name for name in ("cache", "compile") if getattr(args, name)]
    parting += [] if args.offload == "none" else ["offload"]
    if parting:
        names = ", ".join(f"--{name}" for name in parting)
        raise InputError(f"--split with {names}: the processes would not take the same steps; leave one of them out")
    if args.attention == "auto":
        args.attention = "off"  # torch's: the kernels' processor knows one process only


def run_list(args: argparse.Namespace) -> int:
    """Runs --jobs, tells each outcome as it comes and all of them at the end."""
    from ..editing.job_list import read_jobs
    from ..editing.jobs import Outcome, outcome_table
    from ..editing.journal import Journal

    given = [f"--{name}" for name in ("input", "instruction", "output", "reference") if getattr(args, name)]
    if given:
        raise InputError(f"{', '.join(given)} with --jobs; write it into the lines of {args.jobs}")
    if args.split:
        raise InputError("--split with --jobs; under torchrun --jobs gives each process clips of its own: leave it out")
    if args.workers is not None and args.runner != "ray":
        raise InputError("--workers without --runner ray; on one machine torchrun starts several processes")
    best_of(args)  # what is wrong with it is said before anything is read
    jobs = read_jobs(args.jobs, given_options(args))
    journal, outcomes = Journal(args.jobs, args.journal), list[Outcome]()
    if args.runner != "ray":
        jobs = _own_part(jobs)
    runner = _on_ray if args.runner == "ray" else _here
    try:
        for outcome in runner(args, jobs, journal):
            outcomes.append(outcome)
            print(f"{len(outcomes)}/{len(jobs)} {outcome.status}: {outcome.text}", flush=True)
    finally:
        print(outcome_table(outcomes, len(jobs)))
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def _own_part(jobs: list[Job | BadLine]) -> list[Job | BadLine]:
    """Under torchrun what this process takes of the list, else all of it."""
    from ..editing.jobs import in_any_order
    from ..speed.parallel import place_of, share

    place = place_of()
    return share(in_any_order(jobs) if place.world > 1 else jobs, place)


def _here(args: argparse.Namespace, jobs: list[Job | BadLine], journal: Journal) -> Iterator[Outcome]:
    from ..editing.jobs import run_jobs

    several, load = best_of(args), partial(pipeline_of, args)
    if several is None:
        return run_jobs(jobs, journal, _key(args), load)
    return run_jobs(jobs, journal, several.key(), load, several)


def _on_ray(args: argparse.Namespace, jobs: list[Job | BadLine], journal: Journal) -> Iterator[Outcome]:
    from ..editing.cluster import Model, run_on_ray
    from ..speed.parallel import place_of

    if place_of().world > 1:
        raise InputError("--runner ray under torchrun; start it once, Ray starts the workers")
    several = best_of(args)
    key = partial(_key, args) if several is None else partial(_key_of_several, args)
    model = Model(key, partial(pipeline_of, args), partial(best_of, args))
    return run_on_ray(jobs, journal, model, args.workers)


def _key_of_several(args: argparse.Namespace) -> str:
    several = best_of(args)
    assert several is not None
    return several.key()


def _key(args: argparse.Namespace) -> str:
    return key_of_model(ModelOptions.of(args))


def key_of_model(options: ModelOptions) -> str:
    """Changes with every option and every byte of a file that changes what the model makes."""
    from ..editing.jobs import model_key
    from ..formats.layouts.folders import SHIPPED

    files: list[Path] = []
    settings = _settings(dataclasses.replace(options, model=options.model or SHIPPED), files)
    return model_key(files, settings)


def _settings(value: Any, files: list[Path]) -> Any:
    """As JSON takes it, without fields marked NO_RESULT. Paths are put into `files`, to be told by their content."""
    if dataclasses.is_dataclass(value):
        fields = (f for f in dataclasses.fields(value) if not f.metadata.get(NO_RESULT))
        return {f.name: _settings(getattr(value, f.name), files) for f in fields}
    if isinstance(value, dict):
        return [(str(name), _settings(value[name], files)) for name in sorted(value)]
    if isinstance(value, tuple | list):
        return [_settings(each, files) for each in value]
    if isinstance(value, Path):
        files.append(value)
        return "file"
    return value
