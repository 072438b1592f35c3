"""safetensors files with our config in their metadata: read strictly, written whole or not at all.

Every tensor is checked as it is read: a missing, unexpected, misshapen, quantised or non-finite one raises InputError
with its name. Pickle formats are refused, they can run code. Imports torch and safetensors only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import InstructXConfig
from .errors import InputError

METADATA_KEY = "instructx"
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")
PLAIN_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def some(names: list[str] | set[str], count: int = 3) -> str:
    """The first few names for a message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - count} more" if len(ordered) > count else ""
    return ", ".join(ordered[:count]) + more


@contextmanager
def open_tensors(path: str | Path, device: str = "cpu") -> Iterator[safe_open]:
    """An open safetensors file. Raises InputError when it is missing, a pickle, or damaged."""
    file = Path(path)
    if file.suffix.lower() in PICKLE_SUFFIXES:
        raise InputError(
            f"{file.name} is a pickle file, which can run code when it is opened; "
            "convert it to .safetensors with the tool of whoever made it"
        )
    if not file.is_file():
        raise InputError(f"no file {file}; check the path")
    try:
        with safe_open(str(file), framework="pt", device=device) as handle:
            yield handle
    except SafetensorError as error:
        raise InputError(f"{file.name} is damaged or not a safetensors file ({error}); download it again") from None


def read_config(path: str | Path) -> InstructXConfig | None:
    """The InstructXConfig in the file's metadata; None for a file that carries none (a plain Wan or Qwen file)."""
    with open_tensors(path) as handle:
        text = (handle.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        return InstructXConfig.from_json(text)
    except ValueError as error:
        raise InputError(f"{Path(path).name} carries an unreadable config: {error}") from None


def read_tensors(
    path: str | Path,
    rename: Callable[[str], str | None] = lambda key: key,
    device: str | torch.device = "cpu",
    dtype_of: Callable[[str], torch.dtype | None] = lambda name: None,
) -> dict[str, Tensor]:
    """All tensors of a file under new names, read one by one to `device`, in the dtype that `dtype_of(name)` gives.

    rename returning None skips a tensor. Tensors own their memory: mapped ones start at odd addresses, where CPU
    kernels are slower and round differently. Raises InputError on a quantised or non-finite tensor and on two of one
    name.
    """
    tensors: dict[str, Tensor] = {}
    with open_tensors(path, str(device)) as handle:
        for key in handle.keys():
            name = rename(key)
            if name is None:
                continue
            tensor = handle.get_tensor(key)
            if tensor.dtype not in PLAIN_DTYPES:
                raise InputError(
                    f"{Path(path).name}: {key} is {tensor.dtype}, a quantised file; use the bf16, fp16 or fp32 file"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(
                    f"{Path(path).name}: {key} holds NaN or infinity; the file is broken, download it again"
                )
            if name in tensors:
                raise InputError(f"{Path(path).name}: {key} appears under two spellings; use a file of one layout")
            tensors[name] = tensor.to(dtype_of(name) or tensor.dtype, copy=True)
    return tensors


def check_names(file: str, have: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """Raises InputError naming the first few missing, unexpected or misshapen tensors. `want` may be on meta."""
    missing, extra = set(want) - set(have), set(have) - set(want)
    if missing or extra:
        parts = [f"{len(missing)} missing ({some(missing)})"] if missing else []
        parts += [f"{len(extra)} unexpected ({some(extra)})"] if extra else []
        raise InputError(f"{file} does not fit the model: {'; '.join(parts)}; use the file of this model")
    wrong = [
        f"{n} {tuple(have[n].shape)}, expected {tuple(want[n].shape)}" for n in want if have[n].shape != want[n].shape
    ]
    if wrong:
        raise InputError(f"{file} has {len(wrong)} tensors of another size ({some(wrong)}); use the file of this model")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], config: InstructXConfig, dtype: torch.dtype) -> None:
    """One file in `dtype` with the config in its metadata, flushed to the disk. Raises InputError on NaN."""
    plain = {}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
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


def own_memory(module: nn.Module) -> nn.Module:
    """Copy memory-mapped CPU parameters (after diffusers' from_pretrained) to memory of their own, in place.

    Mapped tensors start at odd addresses: CPU kernels are slower there and round differently in the last bit.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % 64:
                parameter.data = parameter.data.clone()
    return module
