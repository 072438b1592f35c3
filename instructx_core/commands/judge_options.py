"""Options of a judge behind an address, as `instructx eval judge` and `instructx edit --best-of` have them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..evaluation.judge.client import ModelJudge
    from ..evaluation.judge.pictures import Viewing
    from ..evaluation.judge.question import JudgeProtocol


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """One group of them."""
    group = parser.add_argument_group("judge", "an MLLM behind an address; nothing is sent anywhere else")
    group.add_argument("--judge", metavar="URL", help="address that speaks chat completions, like http://host:8000/v1")
    group.add_argument("--judge-model", metavar="NAME", help="the model to ask there")
    group.add_argument("--judge-name", metavar="NAME", help="in tables (default: the model)")
    group.add_argument(
        "--key", default="OPENAI_API_KEY", metavar="VAR", help="environment variable with the key (OPENAI_API_KEY)"
    )
    group.add_argument("--temperature", type=float, default=0.0, help="default: 0")
    group.add_argument("--frames", type=int, help="of a clip that the judge is shown (default: 8)")
    group.add_argument("--side", type=int, help="longest side of what it is shown (default: clips 512, pictures all)")
    group.add_argument("--video", choices=["frames", "native"], help="clips as frames, or as files (default: frames)")
    group.add_argument("--concurrency", type=int, default=4, help="requests at once (default: 4)")
    group.add_argument("--rpm", type=float, help="requests a minute at most (default: no limit)")
    group.add_argument("--max-requests", type=int, help="stop after so many; run again to go on")
    group.add_argument("--max-tokens", type=int, help="of a reply (default: the server's)")
    group.add_argument("--structured", choices=["auto", "off"], default="auto", help="ask for the reply's schema")


def refuse_pace_on_ray(args: argparse.Namespace) -> None:
    """Raises InputError for what one process alone can keep to."""
    given = [f"--{name.replace('_', '-')}" for name in ("rpm", "max_requests") if getattr(args, name) is not None]
    if given and args.runner == "ray":
        raise InputError(f"{given[0]} with --runner ray: each worker would count for itself; leave one of them out")


def asked_by(args: argparse.Namespace, protocol: JudgeProtocol, viewing: Viewing) -> ModelJudge:
    """The options of a judge as one, with the questions and the usual view of a benchmark."""
    from ..evaluation.judge.chat import ClientSettings
    from ..evaluation.judge.client import ModelJudge

    names = ("temperature", "concurrency", "rpm", "max_requests", "max_tokens", "structured", "key")
    settings = ClientSettings(
        url=args.judge or "http://nowhere.invalid/v1",
        model=args.judge_model or "none",
        name=args.judge_name,
        **{name: getattr(args, name) for name in names},
    )
    given = {name: getattr(args, name) for name in ("frames", "side", "video") if getattr(args, name) is not None}
    return ModelJudge(settings, protocol, replace(viewing, **given))
