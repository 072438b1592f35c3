"""`instructx info [PRESET]`: parameters by component, tokens, FLOPs and bytes of a clip. No weights are needed.

With --gpu or --vram also the floor in seconds and the memory plans that fit; with --train what a stage costs to train.
"""

from __future__ import annotations

import argparse
import re

from ..config import DESIGNS, PRESETS, preset, with_design
from ..costs.cards import Card, find_card
from ..errors import InputError
from ..geometry import ClipSize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "preset",
        choices=list(PRESETS),
        nargs="?",
        default="kiwi_5b",
        help="which model (default: kiwi_5b, the one with public weights)",
    )
    parser.add_argument(
        "--design",
        choices=list(DESIGNS),
        default="queries",
        help="one of the study (docs/study.md)",
    )
    parser.add_argument("--clip", help="WIDTHxHEIGHTxFRAMES, e.g. 832x480x81 (default: the model's usual clip)")
    parser.add_argument("--gpu", help="card, e.g. 3060, 4060ti, 4090, h100: floor in seconds and memory plans for it")
    parser.add_argument("--vram", type=float, help="memory of a card in GiB: which plan fits")
    parser.add_argument("--train", metavar="STAGE", help="stage1, stage2, stage3, lora: what training it costs instead")
    parser.add_argument("--rank", type=int, default=32, help="with --train lora: of the LoRA (default: 32)")
    parser.add_argument("--gpus", type=int, default=1, help="with --train: number of cards (default: 1)")
    parser.add_argument("--steps", type=int, help="denoising steps for the floor (default: the preset's)")


def parse_clip(text: str) -> ClipSize:
    """'832x480x81' -> its size. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip().lower())
    if match is None:
        raise InputError(f"--clip {text!r} is not a clip; write WIDTHxHEIGHTxFRAMES, e.g. 832x480x81")
    return ClipSize(int(match[1]), int(match[2]), int(match[3]))


def run(args: argparse.Namespace) -> int:
    clip = None if args.clip is None else parse_clip(args.clip)
    card = None if args.gpu is None else find_card(args.gpu)
    if args.vram is not None and not args.vram > 0:
        raise InputError(f"--vram is {args.vram}; give the card's memory in GiB, e.g. 12")
    if args.steps is not None and args.steps < 1:
        raise InputError(f"--steps is {args.steps}; use at least 1")
    if args.train == "lora":
        return _lora(args, clip, card)
    if args.train is not None:
        return _training(args, clip, card)
    from ..costs.info import cost_report

    print(cost_report(with_design(preset(args.preset), args.design), clip, card, args.vram, args.steps))
    return 0


def _lora(args: argparse.Namespace, clip: ClipSize | None, card: Card | None) -> int:
    """Of pictures of the model's usual size, four a step, or of a clip, one a step."""
    from ..config import preset
    from ..costs.lora import lora_report

    if args.rank < 1:
        raise InputError(f"--rank is {args.rank}; use at least 1")
    config = preset(args.preset)
    clip = clip or ClipSize(config.sampling.width, config.sampling.height, 1)
    print(lora_report(config, args.rank, clip, 4 if clip.frames == 1 else 1, card or args.vram))
    return 0


def _training(args: argparse.Namespace, clip: ClipSize | None, card: Card | None) -> int:
    from ..costs.plan import StageSample, plan_report, stage_cost
    from ..training.recipes.registry import find_stage

    recipe = find_stage(args.train, "--train")
    if recipe.preset != args.preset:
        raise InputError(
            f"--train {args.train} is no stage of {args.preset}; use stage1, stage2 or stage3 of paper_14b"
        )
    if args.gpus < 1:
        raise InputError(f"--gpus is {args.gpus}; use at least 1")
    config = recipe.model_config(preset(recipe.preset))
    usual = config.sampling
    clip = clip or ClipSize(usual.width, usual.height, usual.frames)
    wanted = {"image": ClipSize(clip.width, clip.height, 1)} if recipe.video_probability < 1 else {}
    wanted |= {"video": clip} if recipe.video_probability > 0 else {}
    cost = stage_cost(recipe, config, {name: (StageSample(size), StageSample(size)) for name, size in wanted.items()})
    print(plan_report(cost, config, args.gpus, card))
    return 0
