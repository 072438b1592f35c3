"""Modules that a file fills: built empty, and loaded strictly. Between the readers and torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from ..containers.strict import check_tensor_names


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Modules built inside have their parameters on meta but real buffers (RoPE tables): ready for load(assign=True).

    The default "meta" device would lose the buffers that no file holds.
    """
    original = nn.Module.register_parameter

    def register(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(module, name, param)
        if param is not None:
            module._parameters[name] = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def assign_tensors(file: Path, module: nn.Module, state: Mapping[str, Tensor], spell: Callable[[str], str]) -> None:
    """Strict load into a module of empty parameters. Messages use the file's spelling."""
    want = module.state_dict()
    check_tensor_names(file.name, {spell(k): v for k, v in state.items()}, {spell(k): v for k, v in want.items()})
    module.load_state_dict(state, strict=True, assign=True)
