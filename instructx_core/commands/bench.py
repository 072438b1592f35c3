"""`instructx bench propose | curate | manifest`: a benchmark of your own clips, made as VIE-Bench was (A.1).

    clips -> propose -> proposals.jsonl -> curate -> a page -> its file -> manifest -> instructx eval items vie

The model is asked at the address of --url alone; the page needs no server and sends nothing anywhere.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .model import ProgressLine

if TYPE_CHECKING:
    from ..evaluation.bench.propose import ClipTask
    from ..evaluation.judge.pictures import Viewing

LOOKED_AT = 20  # clips that a dry run decodes; the rest is taken to be like them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    text = "clips -> five instructions each, by an MLLM behind an address"
    _add_propose(stages.add_parser("propose", help=text, description=text))
    text = "proposals -> a page on which to accept, reword and reject them"
    page = stages.add_parser("curate", help=text, description=text)
    page.add_argument("folder", type=Path, help="where propose wrote proposals.jsonl")
    page.add_argument("--out", type=Path, help="the page (default: FOLDER/curate.html)")
    page.add_argument("--side", type=int, default=480, help="longest side of clips on the page (default: 480)")
    page.add_argument("--title", default="Curation of a benchmark")
    text = "the file that the page saved -> the manifest of a benchmark, which `eval items vie` reads"
    manifest = stages.add_parser("manifest", help=text, description=text)
    manifest.add_argument("folder", type=Path, help="where propose wrote proposals.jsonl")
    manifest.add_argument("decisions", type=Path, nargs="+", help="files that the page saved, of one or more people")
    manifest.add_argument("--out", type=Path, help="default: FOLDER/manifest.jsonl")


def _add_propose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips and all below it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the proposals; the same one goes on")
    parser.add_argument("--references", type=Path, metavar="DIR", help="pictures of things, for reference edits")
    parser.add_argument("--url", help="address that speaks chat completions, like http://host:8000/v1")
    parser.add_argument("--model", help="the model to ask there")
    parser.add_argument("--key", default="OPENAI_API_KEY", metavar="VAR", help="environment variable with the key")
    parser.add_argument("--temperature", type=float, default=1.0, help="default: 1")
    parser.add_argument("--frames", type=int, default=8, help="of a clip that the model is shown (default: 8)")
    parser.add_argument("--side", type=int, default=512, help="longest side of what it is shown (default: 512)")
    parser.add_argument("--video", choices=["frames", "native"], default="frames", help="clips as frames, or as files")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once (default: 4)")
    parser.add_argument("--rpm", type=float, help="requests a minute at most (default: no limit)")
    parser.add_argument("--max-requests", type=int, help="stop after so many; run again to go on")
    parser.add_argument("--max-tokens", type=int, help="of a reply (default: the server's)")
    parser.add_argument("--structured", choices=["auto", "off"], default="auto", help="ask for the reply's schema")
    parser.add_argument("--dry-run", action="store_true", help="count clips, pictures and tokens; send nothing")


def run(args: argparse.Namespace) -> int:
    return {"propose": _propose, "curate": _curate, "manifest": _manifest}[args.stage](args)


def _propose(args: argparse.Namespace) -> int:
    from ..evaluation.bench.propose import clip_tasks, find_clips, find_references, propose, unlike_the_paper
    from ..evaluation.judge.chat import ChatClient, ClientSettings
    from ..evaluation.judge.pictures import Viewing

    tasks = clip_tasks(find_clips(args.clips), find_references(args.references))
    viewing = Viewing(args.frames, args.side, args.video)
    if args.dry_run:
        return _count(tasks, viewing)
    if args.url is None or args.model is None:
        raise InputError("no model; give --url and --model (or --dry-run to count first)")
    names = ("url", "model", "key", "temperature", "concurrency", "rpm", "max_requests", "max_tokens", "structured")
    chat = ChatClient(ClientSettings(**{name: getattr(args, name) for name in names}), "the model")
    progress, lines = ProgressLine("proposed"), []
    for line in propose(args.out, tasks, chat, viewing):
        lines.append(line)
        progress(len(lines), len(tasks))
    proposed = [line for line in lines if line.status == "ok"]
    kinds = Counter(each.task for line in proposed for each in line.proposals)
    print(f"{sum(kinds.values())} proposals of {len(proposed)} clips in {args.out}")
    print("\n".join(f"  {task:<20}{count:>5}" for task, count in kinds.items()))
    for line in (line for line in lines if line.status != "ok"):
        print(f"no proposals of {line.name}: {line.status} ({line.reason})")
    for warning in unlike_the_paper(proposed):
        print(f"warning: {warning}")
    return 0 if len(proposed) == len(tasks) else 1


def _count(tasks: Sequence[ClipTask], viewing: Viewing) -> int:
    """Prints what would be sent, as far as some of the clips tell."""
    from ..evaluation.bench.propose import question_of

    seen = [question_of(task, viewing) for task in tasks[:: -(-len(tasks) // LOOKED_AT)]]
    pictures, tokens = (
        round(len(tasks) * sum(getattr(each, name) for each in seen) / len(seen)) for name in ("pictures", "tokens")
    )
    print(f"{len(tasks)} clips, {len(tasks)} requests, {pictures} pictures, about {tokens} tokens to send")
    return 0


def _curate(args: argparse.Namespace) -> int:
    from ..evaluation.bench.curation import CURATED, proposed_clips, write_curation_page
    from ..pages.embed import Rendition

    page = args.out or args.folder / "curate.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{page}: curation is a page; use .html")
    clips = proposed_clips(args.folder)
    size = write_curation_page(page, args.folder, args.title, Rendition(args.side, CURATED.quality, CURATED.crf))
    count = sum(len(clip.proposals) for clip in clips)
    print(f"{page}: {count} proposals of {len(clips)} clips, {size / 1e6:.1f} MB of media")
    return 0


def _manifest(args: argparse.Namespace) -> int:
    from ..evaluation.bench.curation import join_decisions, write_manifest
    from ..evaluation.benchmarks.tasks import VIE_COUNTS

    path = args.out or args.folder / "manifest.jsonl"
    counts = write_manifest(path, args.folder, join_decisions(args.decisions))
    print(f"{path}: {sum(counts.values())} items, of {sum(VIE_COUNTS.values())} in Table 4")
    print("\n".join(f"  {task:<20}{count:>5} of {VIE_COUNTS[task]}" for task, count in counts.items()))
    partial = " --partial" if counts != VIE_COUNTS else ""
    print(f"go on with: instructx eval items vie {path} --out RUN{partial}")
    return 0
