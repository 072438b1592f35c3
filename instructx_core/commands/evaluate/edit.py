"""`instructx eval edit FOLDER`: the items of an evaluation -> outputs, by InstructX or another editor.

Without another option the editor is the model that --model names. --outputs takes what another program made, --command
starts one an item, --diffusers runs a pipeline of diffusers from a local folder. Exit code 1: an item has no output.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError, some
from ..model import (
    ProgressLine,
    add_model_arguments,
    add_runner_arguments,
    add_sampling_arguments,
    check_runner,
    pick_device,
    pipeline_of,
)

if TYPE_CHECKING:
    from ...evaluation.editors.run import Editor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation, made by `eval items`")
    parser.add_argument("--name", help="of the editor, in tables (default: by model)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items of each kind only")
    other = parser.add_argument_group("another editor").add_mutually_exclusive_group()
    other.add_argument("--outputs", type=Path, metavar="DIR", help="a folder of outputs that are made already")
    other.add_argument(
        "--command",
        metavar="LINE",
        help='started once an item: "my-editor {source} {instruction} {output}", also {reference} {mask} {seed} {id} '
        "{task}",
    )
    other.add_argument("--diffusers", metavar="NAME:DIR", help="a pipeline's name, and its weights on this machine")
    parser.add_argument("--timeout", type=float, default=3600.0, help="with --command: seconds an item (default: 3600)")
    parser.add_argument("--size", help="largest area to work at, WxH; the source's shape is kept (default: by model)")
    add_runner_arguments(parser)
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ...evaluation.editors.cluster import edit_on_ray
    from ...evaluation.editors.folder import left_over, take_folder
    from ...evaluation.editors.run import edit_items
    from ...evaluation.items import check_items, first_of_each
    from ...evaluation.run_folder import RunFolder

    check_runner(args)
    folder = RunFolder(args.folder)
    folder.benchmark()
    items = first_of_each(folder.items(), args.limit)
    check_items(items, args.folder)
    if args.outputs is not None and args.runner == "ray":
        raise InputError("--outputs with --runner ray: nothing is edited; leave --runner out")
    if args.outputs is not None:
        name = args.name or args.outputs.absolute().name
        outputs = take_folder(folder, name, args.outputs, items)
        if other := left_over(args.outputs, outputs, args.folder / name):
            print(f"{len(other)} files of {args.outputs} are of no item: {some(other)}")
    elif args.runner == "ray":
        make, progress = partial(editor_of, args), ProgressLine("edited")
        name, outputs = edit_on_ray(folder, make, items, args.seed, progress, args.workers)
    else:
        editor = editor_of(args)
        name, outputs = editor.name, edit_items(folder, editor, items, args.seed, ProgressLine("edited"))
    failed = [output for output in outputs if output.error is not None]
    print(f"{name}: {len(outputs) - len(failed)} outputs in {args.folder / name}")
    for output in failed[:5]:
        print(f"no output of {output.id}: {output.error}")
    if len(failed) > 5:
        print(f"... and of {len(failed) - 5} more; outputs.jsonl says why of each")
    return 1 if failed else 0


def editor_of(args: argparse.Namespace) -> Editor:
    """The editor that the options name. Raises InputError for one that cannot be had."""
    from ...editing.options import parse_size

    pixels = None if args.size is None else parse_size(args.size)["max_pixels"]
    if args.command is not None:
        from ...evaluation.editors.command import Command

        if args.name is None:
            raise InputError("--command needs --name: what the editor is called in tables")
        return Command(args.command, args.name, args.timeout)
    if args.diffusers is not None:
        from ...evaluation.editors.pipelines import PipelineEditor, open_pipeline

        pipe, adapter, weights = open_pipeline(args.diffusers, pick_device(args.device), args.dtype)
        return PipelineEditor(pipe, adapter, args.name, weights, args.steps, args.guidance, pixels)
    from ...evaluation.editors.ours import Ours

    return Ours(pipeline_of(args), args.name, args.steps, args.guidance, pixels)
