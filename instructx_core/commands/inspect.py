"""`instructx inspect PATH`: what a weight file or folder is, what it needs and what takes it. Reads headers only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="+", help=".safetensors or .gguf file, index of shards, or a folder")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead, for programs")


def run(args: argparse.Namespace) -> int:
    from ..formats.telling.identify import identify

    found = [identify(path) for path in args.path]
    if args.json:
        print(json.dumps([identity.as_json() for identity in found], indent=1))
    else:
        print("\n\n".join("\n".join(identity.lines()) for identity in found))
    return 0
