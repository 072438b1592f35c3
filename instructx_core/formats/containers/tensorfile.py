"""Weight files with our config in their metadata: read strictly (formats/source.py), written whole or not at all.

Every tensor is checked as it is read: a missing, unexpected, misshapen or non-finite one raises InputError with its
name. Imports torch and safetensors only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...config import InstructXConfig
from ...errors import InputError
from ..telling.report import some as some
from .opening import open_source
from .quantised import dequantised
from .tensor_source import TensorSource

METADATA_KEY = "instructx"
FLOATS = ("F64", "F32", "F16", "BF16")


def read_config(path: str | Path) -> InstructXConfig | None:
    """The InstructXConfig in the file's metadata; None for a file that carries none (a plain Wan or Qwen file)."""
    with open_source(path) as source:
        text = source.metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        return InstructXConfig.from_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{Path(path).name} carries an unreadable config: {error}") from None


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor is free of NaN and infinity. aminmax keeps both and is 40 times as fast on a CPU
    as isfinite, which matters for billions of weights."""
    return tensor.numel() == 0 or all(bool(torch.isfinite(end)) for end in tensor.detach().aminmax())


def read_weight(
    source: TensorSource, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Tensor:
    """One floating-point tensor of a dequantised source. Raises InputError on any other, and on NaN or infinity."""
    if source.dtype(key) not in FLOATS:
        raise InputError(
            f"{source.path.name}: {key} is {source.dtype(key)}, no plain weight: a quantisation that is unknown here; "
            "use the bf16, fp16, fp8_scaled or GGUF file"
        )
    tensor = source.get(key, device, dtype)
    if not is_finite(tensor):
        raise InputError(f"{source.path.name}: {key} holds NaN or infinity; the file is broken, download it again")
    return tensor


def name_all(source: TensorSource, keys: Iterable[str], rename: Callable[[str], str | None]) -> dict[str, str]:
    """New name -> name in the file, without those that `rename` answers with None.

    Raises InputError on two of one name.
    """
    names: dict[str, str] = {}
    for key in keys:
        name = rename(key)
        if name in names:
            raise InputError(f"{source.path.name}: {key} appears under two spellings; use a file of one layout")
        if name is not None:
            names[name] = key
    return names


def read_tensors(
    path: str | Path,
    rename: Callable[[str], str | None] = lambda key: key,
    device: str | torch.device = "cpu",
    dtype_of: Callable[[str], torch.dtype | None] = lambda name: None,
) -> dict[str, Tensor]:
    """All tensors of a file under new names, read one by one to `device`, in the dtype that `dtype_of(name)` gives.

    rename returning None skips a tensor. Quantised tensors come back plain. Raises InputError as read_weight and
    name_all do.
    """
    with dequantised(open_source(path)) as source:
        names = name_all(source, source.keys(), rename)
        return {name: read_weight(source, key, device, dtype_of(name)) for name, key in names.items()}


Shapes = Mapping[str, Tensor] | Mapping[str, tuple[int, ...]]


def check_names(file: str, have: Shapes, want: Shapes) -> None:
    """Raises InputError naming the first few missing, unexpected or misshapen tensors. Values: tensors or shapes."""
    missing, extra = set(want) - set(have), set(have) - set(want)
    if missing or extra:
        parts = [f"{len(missing)} missing ({some(missing)})"] if missing else []
        parts += [f"{len(extra)} unexpected ({some(extra)})"] if extra else []
        raise InputError(f"{file} does not fit the model: {'; '.join(parts)}; use the file of this model")
    shapes = {name: tuple(tuple(getattr(s[name], "shape", s[name])) for s in (have, want)) for name in want}
    wrong = [f"{name} {ours}, expected {theirs}" for name, (ours, theirs) in shapes.items() if ours != theirs]
    if wrong:
        raise InputError(f"{file} has {len(wrong)} tensors of another size ({some(wrong)}); use the file of this model")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], config: InstructXConfig, dtype: torch.dtype) -> None:
    """One file in `dtype` with the config in its metadata, flushed to the disk. Raises InputError on NaN."""
    plain = {}
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(
                f"{name} holds NaN or infinity; it was not saved: lower the learning rate and resume earlier"
            )
        plain[name] = tensor.detach().to("cpu", dtype).contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(plain, str(path), metadata={"format": "pt", METADATA_KEY: config.to_json()})
    path.chmod(0o666 & ~_umask())  # safetensors makes it private
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def whole_folder(folder: str | Path, known: tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder that becomes `folder` only if the block succeeds: no partial checkpoint is ever seen there.

    An existing `folder` is replaced when it holds nothing but the `known` entries. Raises InputError otherwise.
    """
    target = Path(folder)
    if target.exists():
        if not target.is_dir():
            raise InputError(f"{target} is a file; give a folder")
        foreign = sorted(entry.name for entry in target.iterdir() if entry.name not in known)
        if foreign:
            raise InputError(f"{target} holds other files ({some(foreign)}); save into a new or empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        if target.exists():
            old = temporary.with_suffix(".old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


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
