"""`instructx <verb>`: the command line. Each verb is a small module that loads only when it is called.

Errors of the user come out as one line, `error: ...`, with exit code 2; an interrupt exits with 130. Anything else that
is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

from .errors import InputError
from .version import __version__

# verb -> (module with add_arguments(parser) and run(args) -> exit code, one line of help)
VERBS = {
    "demo": (".commands.demo", "edit bundled images and clips with the shipped model; writes a sheet and clips"),
    "edit": (".commands.edit", "edit an image or a video by instruction"),
    "eval": (".commands.eval", "measure a model on the procedural benchmark"),
    "bench": (".commands.bench", "a benchmark of your own clips: instructions by a model, chosen by people"),
    "data": (".commands.data", "edits in files: check, look at, export, encode ahead of a run"),
    "train": (".commands.train", "run or resume a training recipe"),
    "study": (".commands.study", "the paper's design study and ablations: list, run, report"),
    "synthesize": (".commands.synthesize", "training pairs from films: cut, find, erase, check, describe"),
    "inspect": (".commands.inspect", "what a weight file or folder is, what it needs and what takes it"),
    "convert": (".commands.convert", "a weight file into another form of the same weights"),
    "verify": (".commands.verify", "check a folder of models: whole, known, and what works together"),
    "kernels": (".commands.kernels", "attention kernels: report, selftest, bench"),
    "info": (".commands.info", "parameters, tokens, FLOPs and bytes of a preset"),
}


def _overview() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {verb:<11}{text}" for verb, (_, text) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="instructx",
        description="Instruction editing of images and videos.",
        epilog=f"verbs:\n{listing}\n\n`instructx VERB --help` lists the options of a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"instructx {__version__}")
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help=", ".join(VERBS))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 2 bad input, 130 interrupted; argparse itself exits with 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of ASCII, or a name that is no UTF-8: no edit must fail there
            stream.reconfigure(errors="backslashreplace")
    args = _overview().parse_args(arguments[:1])
    try:
        module = importlib.import_module(VERBS[args.verb][0], __package__)
        parser = argparse.ArgumentParser(prog=f"instructx {args.verb}", description=VERBS[args.verb][1])
        module.add_arguments(parser)
        given = module.with_stage(arguments[1:]) if args.verb == "eval" else arguments[1:]
        return int(module.run(parser.parse_args(given)) or 0)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
