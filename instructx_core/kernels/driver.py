"""The CUDA driver library through ctypes: load a compiled module, get a kernel, launch it.

Place in the data flow: last step of `loader.py`. `cuLibraryLoadData` loads once for all contexts and cards (driver 525
or newer). Nothing here synchronises or allocates at a launch, so launches can be captured in a CUDA graph.
The tests put another library in its place that has the same functions and runs the kernels on the CPU.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from .abi import Dim3
from .errors import KernelError, Refusal

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_MAJOR, _MINOR, _SHARED_OPTIN = 75, 76, 97  # CU_DEVICE_ATTRIBUTE_*
_STATIC_LIMIT = 48 * 1024  # more shared memory than this has to be asked for
_OUT_OF_MEMORY = 2
_CAPTURING = range(900, 910)  # CUDA_ERROR_STREAM_CAPTURE_*: the call is not for a graph, the kernel is well

_POINTER, _INT, _UINT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
_SIGNATURES = {
    "cuInit": (_UINT,),
    "cuDriverGetVersion": (_POINTER,),
    "cuDeviceGet": (_POINTER, _INT),
    "cuDeviceGetAttribute": (_POINTER, _INT, _INT),
    "cuDeviceGetName": (_POINTER, _INT, _INT),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGetUuid": (_POINTER, _INT),
    "cuDeviceGetUuid_v2": (_POINTER, _INT),
    "cuCtxGetCurrent": (_POINTER,),
    "cuCtxGetDevice": (_POINTER,),
    "cuCtxSetCurrent": (_POINTER,),
    "cuDevicePrimaryCtxRetain": (_POINTER, _INT),
    "cuLibraryLoadData": (_POINTER, _POINTER, _POINTER, _POINTER, _UINT, _POINTER, _POINTER, _UINT),
    "cuLibraryGetKernel": (_POINTER, _POINTER, _TEXT),
    "cuKernelGetFunction": (_POINTER, _POINTER),
    "cuKernelSetAttribute": (_INT, _INT, _POINTER, _INT),
    "cuLaunchKernel": (_POINTER, *(_UINT,) * 7, _POINTER, _POINTER, _POINTER),
    "cuGetErrorString": (_INT, _POINTER),
}


def default_driver() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class Driver:
    """A loaded driver library. Every method raises KernelError with the driver's own words when a call fails.

    `device` is the driver's handle of a card, from `device_of`; it is not the number that torch gives the card.
    """

    def __init__(self, library: Path | str | None = None) -> None:
        self.path = str(library or default_driver())
        try:
            self._lib = ctypes.WinDLL(self.path) if sys.platform == "win32" else ctypes.CDLL(self.path)
        except OSError as error:
            raise KernelError(f"no NVIDIA driver ({error})") from None
        for name, arguments in _SIGNATURES.items():
            try:
                getattr(self._lib, name).argtypes = arguments
            except AttributeError:
                raise KernelError(f"the NVIDIA driver lacks {name}; update it to 525 or newer") from None
        self._call("cuInit", 0)
        version = _INT()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        self.version = (version.value // 1000, version.value % 1000 // 10)
        self._contexts: dict[int, int] = {}

    def device_of(self, ordinal: int, uuid: str | None = None) -> int:
        """Handle of the card that torch numbers `ordinal`; by its uuid (32 hex digits) where torch tells one.

        Both count what CUDA_VISIBLE_DEVICES leaves. Raises KernelError where the driver has no such card.
        """
        handle = self._handle(ordinal)
        if uuid is None or uuid in self.uuids(handle):
            return handle
        count = _INT()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        for other in range(count.value):
            handle = self._handle(other)
            if uuid in self.uuids(handle):
                return handle
        raise KernelError(f"torch's card {ordinal} ({uuid}) is not among the driver's {count.value}")

    def uuids(self, device: int) -> tuple[str, str]:
        """32 hex digits each: of the whole card, and of the part of it that is used (another one on a MIG slice)."""
        found = []
        for function in ("cuDeviceGetUuid", "cuDeviceGetUuid_v2"):
            raw = (ctypes.c_ubyte * 16)()
            self._call(function, raw, device)
            found.append(bytes(raw).hex())
        return found[0], found[1]

    def visible_name(self, device: int) -> str:
        """What CUDA_VISIBLE_DEVICES calls this card, in any order of the others: GPU-... or MIG-..."""
        whole, part = self.uuids(device)
        digits = "-".join((part[:8], part[8:12], part[12:16], part[16:20], part[20:]))
        return f"{'GPU' if whole == part else 'MIG'}-{digits}"

    def _handle(self, ordinal: int) -> int:
        handle = _INT()
        self._call("cuDeviceGet", ctypes.byref(handle), ordinal)
        return handle.value

    def capability(self, device: int) -> tuple[int, int]:
        return self._attribute(_MAJOR, device), self._attribute(_MINOR, device)

    def shared_limit(self, device: int) -> int:
        """Most shared memory of one block in bytes."""
        return self._attribute(_SHARED_OPTIN, device)

    def name(self, device: int) -> str:
        buffer = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", buffer, len(buffer), device)
        return buffer.value.decode(errors="replace")

    def load(self, code: bytes) -> int:
        """Cubin or PTX -> library handle; PTX is compiled by the driver here."""
        library = _POINTER()
        # The driver reads PTX as text that ends in a zero.
        self._call("cuLibraryLoadData", ctypes.byref(library), code + b"\0", None, None, 0, None, None, 0)
        assert library.value is not None
        return library.value

    def kernel(self, library: int, name: str, device: int, shared: int) -> int:
        """Handle of an entry point, made ready on one card: up to `shared` bytes allowed, code resident."""
        kernel, function = _POINTER(), _POINTER()
        self._call("cuLibraryGetKernel", ctypes.byref(kernel), library, name.encode())
        if shared > _STATIC_LIMIT:
            if shared > self.shared_limit(device):
                raise KernelError(f"{name} needs {shared} bytes of shared memory, the card has less")
            self._call("cuKernelSetAttribute", _MAX_DYNAMIC_SHARED, shared, kernel, device)
        # Loads the module into this context now: lazily it would happen at the first launch, perhaps inside a capture.
        self._call("cuKernelGetFunction", ctypes.byref(function), kernel)
        assert kernel.value is not None
        return kernel.value

    def ensure_context(self, device: int) -> None:
        """Make the card's primary context (torch's) current in this thread; autograd's threads start without one."""
        current, of = _POINTER(), _INT()
        self._call("cuCtxGetCurrent", ctypes.byref(current))
        if current.value:
            self._call("cuCtxGetDevice", ctypes.byref(of))
            if of.value == device:
                return
        if device not in self._contexts:
            context = _POINTER()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self._contexts[device] = context.value or 0
        self._call("cuCtxSetCurrent", self._contexts[device])

    def launch(
        self, kernel: int, grid: Dim3, block: Dim3, shared: int, stream: int, arguments: ctypes.Structure
    ) -> None:
        """Enqueue on a stream handle. The struct is the kernel's only parameter; the driver copies it before return."""
        parameters = (_POINTER * 1)(ctypes.addressof(arguments))
        self._call("cuLaunchKernel", kernel, *grid, *block, shared, stream, parameters, None)

    def _attribute(self, number: int, device: int) -> int:
        value = _INT()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def _call(self, function: str, *arguments: object) -> None:
        result = getattr(self._lib, function)(*arguments)
        if result != 0:
            text = _TEXT()
            self._lib.cuGetErrorString(result, ctypes.byref(text))
            reason = f"{function} failed: {(text.value or b'unknown').decode(errors='replace')} ({result})"
            raise (Refusal if result == _OUT_OF_MEMORY or result in _CAPTURING else KernelError)(reason)
