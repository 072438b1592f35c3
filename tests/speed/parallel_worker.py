"""One of two processes: the split model against the whole one, then command lines, each by both.

torchrun parallel_worker.py FOLDER LINES    JSON: [[port, [argument, ...]], ...]. FOLDER/RANK.json: tokens of a split
sample that this process computed, then [exit code, output] of each line. The libraries are loaded once for all of
them; each line has a group of its own, over its port.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from tiny import own_config, randomise  # noqa: E402

from instructx_core.cli import main  # noqa: E402
from instructx_core.denoiser import build_denoiser  # noqa: E402
from instructx_core.speed.constants import constants_of  # noqa: E402
from instructx_core.speed.parallel import place_of, split_clip  # noqa: E402


def threads() -> list[str]:
    """Of this process, C++'s included, by name; where there is no /proc, none."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def split_tokens() -> int:
    """How many of a sample's 27 tokens this process computed; their result is the whole model's."""
    dist.init_process_group("cpu:gloo")
    for position in ("last", "first"):
        torch.manual_seed(0)
        model = randomise(build_denoiser(own_config(reference_position=position)))
        given = {
            "hidden_states": torch.randn(1, 16, 2, 6, 6),
            "timestep": torch.tensor([700.0]),
            "encoder_hidden_states": torch.randn(1, 5, 256),
            "source": torch.randn(1, 16, 2, 6, 6),
            "references": torch.randn(1, 16, 1, 6, 6),  # 27 tokens: they do not divide by two
        }
        with torch.no_grad():
            whole = model(**given, return_dict=False)[0]
            seen: list[int] = []
            model.blocks[0].attn1.to_q.register_forward_hook(
                lambda m, args, out, seen=seen: seen.append(args[0].shape[1])
            )
            with split_clip(model, torch.device("cpu")), constants_of(model):
                for _ in range(2):
                    split = model(**given, return_dict=False)[0]
                    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)
            assert seen[0] == seen[1]
            assert torch.equal(model(**given, return_dict=False)[0], whole), "and then it is whole again"
    dist.barrier()
    dist.destroy_process_group()
    return seen[0]


def run(port: int, arguments: list[str]) -> tuple[int, str]:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    with redirect_stdout(StringIO()) as output:
        code = main(arguments)
    return code, output.getvalue()


if __name__ == "__main__":
    tokens = split_tokens()
    results = [run(port, arguments) for port, arguments in json.loads(sys.argv[2])]
    (Path(sys.argv[1]) / f"{place_of().rank}.json").write_text(json.dumps([tokens, *results]))
    left = [name for name in threads() if "gloo" in name]
    assert not left, f"they would run into the end of the interpreter: {left}"
