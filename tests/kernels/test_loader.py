"""From source to launch on the stand-in driver: what is compiled, cached, loaded, launched, and why it is not."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
import torch

from instructx_core.kernels import abi, loader, nvrtc
from instructx_core.kernels.cache import KernelCache
from instructx_core.kernels.driver import Driver
from instructx_core.kernels.errors import KernelError

CPU = torch.device("cpu")
NAME = "attention_bf16_d128"


def launch(runtime: loader.Runtime, name: str = NAME, heads: int = 3) -> None:
    arguments = abi.KERNELS[name].args(heads=heads)
    runtime.launch(name, arguments, (2, heads, 1), CPU, heads)


def test_compiled_once_then_cached(stand_in, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "instructx"):
        first = stand_in.runtime(tmp_path)
        launch(first)
        launch(first)
    assert stand_in.lib.stand_in_compiles() == 1 and stand_in.lib.stand_in_loads() == 1
    assert [r.message for r in caplog.records] == ["attention: compiling attention.cu for sm_89 (once, a few seconds)"]
    expected = abi.KERNELS[NAME].shared(3)
    assert stand_in.launches() == [f"{NAME} grid 2 3 1 block 256 shared {expected} stream 0"] * 2
    launch(stand_in.runtime(tmp_path))  # another process
    assert stand_in.lib.stand_in_compiles() == 1 and stand_in.lib.stand_in_loads() == 2


def test_of_parallel_workers_one_compiles(stand_in, tmp_path: Path) -> None:
    codes: list[bytes] = []
    workers = [
        threading.Thread(target=lambda: codes.append(stand_in.runtime(tmp_path).code("attention.cu", "sm_89")))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert len(codes) == 4 and len(set(codes)) == 1
    assert stand_in.lib.stand_in_compiles() == 1


def test_headers_go_in_memory(stand_in, tmp_path: Path) -> None:
    launch(stand_in.runtime(tmp_path))
    given = dict(line.split(":") for line in stand_in.lib.stand_in_headers().decode().splitlines())
    assert list(given) == list(abi.HEADERS)
    assert all(int(size) == len(loader.source_text(name).encode()) for name, size in given.items())


def test_the_package_holds_what_a_gpu_needs() -> None:
    """csrc/ goes whole into the wheel and the node pack: sources and headers, and nothing of the tests' emulator."""
    held = {path.name for path in loader.SOURCE_FOLDER.iterdir()}
    assert held == {*abi.HEADERS, *abi.SOURCES}


def test_key_names_source_card_compiler_and_options(stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles() -> int:
        before = stand_in.lib.stand_in_compiles()
        launch(stand_in.runtime(tmp_path))
        return stand_in.lib.stand_in_compiles() - before

    assert [compiles(), compiles()] == [1, 0]
    stand_in.lib.stand_in_card(12, 0)
    assert [compiles(), compiles()] == [1, 0]
    monkeypatch.setattr(abi, "COMPILE_OPTIONS", ("--std=c++17", "--extra"))
    assert [compiles(), compiles()] == [1, 0]
    real = loader.source_text
    monkeypatch.setattr(loader, "source_text", lambda name: real(name) + ("// x" if name == "ptx.cuh" else ""))
    assert [compiles(), compiles()] == [1, 0]
    monkeypatch.setattr(nvrtc.Nvrtc, "version", (12, 8), raising=False)
    runtime = stand_in.runtime(tmp_path)
    runtime.compiler.version = (12, 8)
    launch(runtime)
    assert stand_in.lib.stand_in_compiles() == 5


def test_a_damaged_file_is_compiled_again(stand_in, tmp_path: Path) -> None:
    launch(stand_in.runtime(tmp_path))
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-3])
    launch(stand_in.runtime(tmp_path))
    assert stand_in.lib.stand_in_compiles() == 2
    launch(stand_in.runtime(tmp_path))
    assert stand_in.lib.stand_in_compiles() == 2


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_86"),
        ((9, 0), "sm_90"),
        ((12, 1), "sm_120"),
        ((10, 0), "compute_90"),
        ((15, 0), "compute_120"),
    ],
)
def test_target(stand_in, capability: tuple[int, int], target: str) -> None:
    assert nvrtc.Nvrtc(stand_in.path).target(capability) == target


def test_newer_card_than_nvrtc_gets_ptx(stand_in, tmp_path: Path) -> None:
    stand_in.lib.stand_in_card(15, 0)
    launch(stand_in.runtime(tmp_path))
    assert len(stand_in.launches()) == 1
    (entry,) = tmp_path.iterdir()
    assert b".version 8.8 compute_120" in entry.read_bytes()


def test_an_old_card_has_a_reason(stand_in, tmp_path: Path) -> None:
    stand_in.lib.stand_in_card(7, 5)
    with pytest.raises(KernelError, match="sm_75 is too old"):
        launch(stand_in.runtime(tmp_path))
    assert stand_in.lib.stand_in_compiles() == 0


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nvrtcCompileProgram", r"attention.cu does not compile for sm_89: attention.cu\(7\): error: told to fail"),
        ("cuLibraryLoadData", "cuLibraryLoadData failed"),
        ("cuLaunchKernel", "cuLaunchKernel failed"),
        ("cuInit", "cuInit failed"),
    ],
)
def test_failures_carry_their_reason(stand_in, tmp_path: Path, function: str, reason: str) -> None:
    stand_in.break_(function)
    with pytest.raises(KernelError, match=reason):
        launch(stand_in.runtime(tmp_path))


def test_missing_libraries_have_a_reason(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no NVIDIA driver"):
        Driver(tmp_path / "libcuda.so.1")
    with pytest.raises(KernelError, match="does not load"):
        nvrtc.Nvrtc(tmp_path / "libnvrtc.so.13")


def test_shared_memory_is_asked_for_once_per_size(stand_in, tmp_path: Path) -> None:
    runtime = stand_in.runtime(tmp_path)
    for heads in (4, 120):  # 120 heads of 128: 60 KB, more than a block gets without asking
        launch(runtime, "kv_stats_d128", heads)
    assert [line.split()[8] for line in stand_in.launches()] == [
        str(abi.KERNELS["kv_stats_d128"].shared(heads)) for heads in (4, 120)
    ]


def test_memory_only_when_the_folder_is_not_usable(stand_in, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    runtime = stand_in.runtime(tmp_path / "file" / "cache")
    launch(runtime)
    launch(runtime)
    assert stand_in.lib.stand_in_compiles() == 1 and len(stand_in.launches()) == 2


def test_other_devices_are_refused(stand_in, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="tensors are on meta, the kernels run on cpu"):
        stand_in.runtime(tmp_path).index(torch.device("meta"))


# --- which card ----------------------------------------------------------------------------------------------------


def test_ordinals_are_not_devices(stand_in) -> None:
    """torch's number becomes a handle, by uuid where the driver counts its cards the other way."""
    driver = Driver(stand_in.path)
    first, second = driver.device_of(0), driver.device_of(1)
    assert {first, second}.isdisjoint({0, 1}) and driver.name(second) == "Stand-in 1"
    of_second, _ = driver.uuids(second)
    stand_in.lib.stand_in_swap()
    assert driver.device_of(1) == first and driver.device_of(1, of_second) == second
    with pytest.raises(KernelError, match=r"torch's card 1 .* is not among the driver's 2"):
        driver.device_of(1, "0" * 32)
    with pytest.raises(KernelError, match="invalid device ordinal"):
        driver.device_of(2)


def test_a_slice_of_a_card_has_a_name_of_its_own(stand_in) -> None:
    driver = Driver(stand_in.path)
    handle = driver.device_of(1)
    assert driver.visible_name(handle) == "GPU-11111111-1111-1111-1111-111111111111"
    stand_in.lib.stand_in_slice(1)
    assert driver.visible_name(handle) == "MIG-91919191-9191-9191-9191-919191919191"
    assert all(driver.device_of(1, uuid) == handle for uuid in driver.uuids(handle))  # torch may tell either


def test_the_context_of_another_card_is_not_kept(stand_in) -> None:
    driver = Driver(stand_in.path)
    first, second = driver.device_of(0), driver.device_of(1)
    for device in (first, second, second, first):
        driver.ensure_context(device)
        assert stand_in.lib.stand_in_context() == device


def test_the_device_is_switched_back_after_an_error(stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own switch needs a card: here it only notes who is current."""
    current = [0]

    class Switch:
        def __init__(self, device: torch.device) -> None:
            self.wanted, self.before = device.index or 0, 0

        def __enter__(self) -> None:
            self.before, current[0] = current[0], self.wanted

        def __exit__(self, *exception: object) -> None:
            current[0] = self.before

    class Stream:
        device_index, cuda_stream = 1, 7

    monkeypatch.setattr(torch.cuda, "device", Switch)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    runtime = stand_in.runtime(tmp_path)
    runtime.device_type = "cuda"
    monkeypatch.setattr(runtime, "uuid", lambda index: None)
    with runtime._on(torch.device("cuda", 1)) as stream:
        assert stream == 7 and current == [1] and stand_in.lib.stand_in_context() == runtime.handle(1)
    stand_in.break_("cuCtxGetCurrent")
    with pytest.raises(KernelError, match="cuCtxGetCurrent failed"), runtime._on(torch.device("cuda", 1)):
        pass
    assert current == [0]


def test_no_card_is_a_reason_not_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(KernelError, match="CUDA"):
        loader.runtime()


# --- finding NVRTC -------------------------------------------------------------------------------------------------


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_finds_nvrtc_on_linux(tmp_path: Path) -> None:
    wheel = tree(
        tmp_path / "cu13",
        "lib/libnvrtc.so.13",
        "lib/libnvrtc.alt.so.13",
        "lib/libnvrtc-builtins.so.13.0",
        "lib/libnvrtc-builtins.alt.so.13.0",
        "lib/libcudart.so.13",
    )
    old = tree(tmp_path / "torch", "lib/libnvrtc-672ee683.so.11.2", "lib/libnvrtc-builtins.so.11.8")
    found = nvrtc.find_libraries([old, wheel], windows=False, version="13.0")
    assert found == [
        (wheel / "lib/libnvrtc-builtins.so.13.0", wheel / "lib/libnvrtc.so.13"),
        (old / "lib/libnvrtc-builtins.so.11.8", old / "lib/libnvrtc-672ee683.so.11.2"),
    ]


def test_finds_nvrtc_on_windows(tmp_path: Path) -> None:
    torch_lib = tree(
        tmp_path / "torch" / "lib", "nvrtc64_130_0.dll", "nvrtc-builtins64_130.dll", "nvrtc64_130_0.alt.dll"
    )
    toolkit = tree(tmp_path / "CUDA", "bin/x64/nvrtc64_120_0.dll", "bin/x64/nvrtc-builtins64_128.dll")
    found = nvrtc.find_libraries([toolkit, torch_lib], windows=True, version="13.0")
    assert found == [
        (torch_lib / "nvrtc-builtins64_130.dll", torch_lib / "nvrtc64_130_0.dll"),
        (toolkit / "bin/x64/nvrtc-builtins64_128.dll", toolkit / "bin/x64/nvrtc64_120_0.dll"),
    ]


def test_the_installed_nvrtc_loads() -> None:
    try:
        found = nvrtc.find_nvrtc()
    except KernelError as error:
        pytest.skip(str(error))
    assert found.version >= (12, 0) and 90 in found.architectures
    source, header = '#include "b.cuh"\nextern "C" __global__ void k(A a) {}', "struct A { int x; };"
    cubin = found.compile("a.cu", source, {"b.cuh": header}, abi.COMPILE_OPTIONS, "sm_89")
    assert cubin.startswith(b"\x7fELF") and b"k" in cubin
    assert b".target sm_90" in found.compile("a.cu", 'extern "C" __global__ void k() {}', {}, (), "compute_90")
    with pytest.raises(KernelError, match=r"does not compile for sm_89: a\.cu"):
        found.compile("a.cu", "nonsense", {}, (), "sm_89")


def test_cache_entries_of_the_wrong_kind_are_not_loaded(stand_in, tmp_path: Path) -> None:
    launch(stand_in.runtime(tmp_path))
    (entry,) = tmp_path.iterdir()
    KernelCache(tmp_path).put(entry.name, b"not a cubin")
    launch(stand_in.runtime(tmp_path))
    assert stand_in.lib.stand_in_compiles() == 2
