"""One of two processes: the split model against the whole one. argv: nothing; started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from tiny import own_config, randomise  # noqa: E402

from instructx_core.denoiser import build_denoiser  # noqa: E402
from instructx_core.speed.constants import constants_of  # noqa: E402
from instructx_core.speed.parallel import place_of, split_clip  # noqa: E402


def threads() -> list[str]:
    """Of this process, C++'s included, by name; where there is no /proc, none."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def main() -> None:
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
            assert seen == [14 - place_of().rank] * 2, seen
            assert torch.equal(model(**given, return_dict=False)[0], whole), "and then it is whole again"
    rank = dist.get_rank()
    dist.barrier()
    dist.destroy_process_group()
    left = [name for name in threads() if "gloo" in name]
    assert not left, f"they would run into the end of the interpreter: {left}"
    if rank == 0:
        print("EQUAL")


if __name__ == "__main__":
    main()
