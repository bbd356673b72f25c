"""Devices, precisions, and the transfer of tensors between host and device."""

import contextlib
import ctypes
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import psutil
import torch
from torch import Tensor

from pcsr_cli.engine.limits import allowed_threads
from pcsr_cli.engine.rules import check_device_name
from pcsr_cli.errors import DeviceError
from pcsr_cli.images.image import Pixels

Precision = Literal["auto", "fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device with this name. ``auto`` means cuda if it is available, else cpu. Raises DeviceError for a
    device that is not available."""
    check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device.type]:
        raise DeviceError(f"The device {name} is not available on this machine.", "Use cpu or auto.")
    if device.type == "cpu":
        _limit_threads()
    return device


def _limit_threads() -> None:
    """Limit the number of threads to the processors that a container allows, unless OMP_NUM_THREADS is set. More
    threads than processors would only wait."""
    if not os.environ.get("OMP_NUM_THREADS"):
        allowed = allowed_threads()
        if allowed < torch.get_num_threads():
            torch.set_num_threads(allowed)


def device_notes(device: torch.device) -> tuple[str, ...]:
    """Warnings for the user about results from a device."""
    return ("pcsr is untested on mps: compare a result with one computed on the cpu",) if device.type == "mps" else ()


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype to compute in. ``auto`` is float32 on every device, as in the published figures."""
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise DeviceError(f"Unknown precision {precision!r}.", f"Use one of {known}.")
    if precision == "bf16" and device.type == "mps":
        raise DeviceError("bf16 is not supported on mps.", "Use fp16 or fp32.")
    return _DTYPES.get(precision, torch.float32)


def describe_device(device: torch.device) -> str:
    """A device's name, with the model of a GPU or the number of threads of a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' * (threads != 1)})"
    return str(device)


def peak_memory(device: torch.device) -> int | None:
    """Peak memory in bytes, of a CUDA device or else of this process (resident); None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":  # getrusage would include the peak of the process that started this one
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = re.search(r"VmHWM:\s*(\d+)", status)  # some sandboxes omit it
        return None if found is None else int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def start_peak_memory(device: torch.device) -> int | None:
    """Start a new measurement of ``peak_memory``. Returns the bytes in use, None if the system cannot start one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        # Freed memory goes back to the system first, because memory that is used again would not count.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):  # not Linux with glibc, or a sandbox
        return None
    rss: int = psutil.Process().memory_info().rss
    return rss


_FLOAT32_LOCK = threading.Lock()
_FLOAT32_USERS = 0
_FLOAT32_BEFORE: list[str] = []


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Disable TF32 on a CUDA device inside the block. TF32 rounds the operands of convolutions to 10 bits.

    The setting is global to the process: the first thread to enter changes the setting, and the last thread to leave
    restores it. A value that other code sets inside the block is kept. Devices other than CUDA are not affected.
    """
    if device.type != "cuda":
        yield
        return
    global _FLOAT32_USERS, _FLOAT32_BEFORE
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    with _FLOAT32_LOCK:
        if _FLOAT32_USERS == 0:
            _FLOAT32_BEFORE = [part.fp32_precision for part in parts]
            for part in parts:
                part.fp32_precision = "ieee"
        _FLOAT32_USERS += 1
    try:
        yield
    finally:
        with _FLOAT32_LOCK:
            _FLOAT32_USERS -= 1
            if _FLOAT32_USERS == 0:
                for part, before in zip(parts, _FLOAT32_BEFORE, strict=True):
                    if part.fp32_precision == "ieee":
                        part.fp32_precision = before


def empty_cache(device: torch.device) -> None:
    """Release PyTorch's cached memory on a CUDA device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


LEVELS = {8: torch.uint8, 16: torch.uint16}
"""Integer dtype by bits per channel."""

PEAKS = {torch.uint8: 255, torch.uint16: 65_535}
"""The integer value of 1.0, by dtype."""

UINT16_DEVICES = {"cpu", "cuda"}
"""Device types that support uint16. For device types that are not listed, uint16 is converted on the host."""


def as_lr(rgb: Pixels) -> Tensor:
    """Convert an image (h, w, 3) uint8 or uint16 to an engine input (1, 3, h, w). The values are copied only if PyTorch
    requires a copy."""
    usable = rgb.flags.writeable and all(stride >= 0 for stride in rgb.strides)
    return torch.from_numpy(rgb if usable else rgb.copy()).permute(2, 0, 1)[None]


def to_levels(rgb: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert values to ``dtype``: round and clamp to uint8 or uint16, or leave float32 unchanged.

    ``rgb`` is in [0, 1] or slightly outside. The result is on the same device, or on the CPU if the device does not
    support the dtype.
    """
    if dtype.is_floating_point:
        return rgb
    if dtype == torch.uint16 and rgb.device.type not in UINT16_DEVICES:
        rgb = rgb.cpu()
    peak = PEAKS[dtype]
    return rgb.mul(peak).round_().clamp_(0, peak).to(dtype)


def to_numbers(pixels: Tensor) -> Tensor:
    """Convert uint8 or uint16 to float32 in [0, 1]; leave floating-point values unchanged."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(PEAKS[pixels.dtype])


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to a device. A copy from host memory to CUDA is asynchronous."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    pinned = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
    pinned.copy_(values)
    return pinned.to(device, non_blocking=True)


def upload_numbers(pixels: Tensor, device: torch.device) -> Tensor:
    """Move pixels to a device as float32 in [0, 1]."""
    if pixels.dtype == torch.uint16 and device.type not in UINT16_DEVICES:
        pixels = to_numbers(pixels)
    return to_numbers(upload(pixels, device))


MAX_COPIES = 8
"""Maximum number of copies to the host in progress. The four copies of one tile, RGB and branches, run while the next
tile is computed.
"""


class Downloads:
    """Copies tensors into host memory: synchronously from the host, asynchronously from CUDA. ``settle`` waits for the
    copies.
    """

    def __init__(self) -> None:
        self.in_progress: deque[tuple[torch.cuda.Event, Tensor, Tensor]] = deque()

    def bring(self, values: Tensor, target: Tensor) -> None:
        """Copy ``values`` to ``target`` (host memory, same shape and dtype). Read ``target`` only after ``settle``."""
        if values.device.type != "cuda":
            target.copy_(values)
            return
        pinned = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
        pinned.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(values.device))
        self.in_progress.append((arrived, pinned, target))
        while len(self.in_progress) > MAX_COPIES:
            self._finish_one()

    def settle(self) -> None:
        """Wait until every copy is done."""
        while self.in_progress:
            self._finish_one()

    def _finish_one(self) -> None:
        arrived, pinned, target = self.in_progress.popleft()
        arrived.synchronize()
        target.copy_(pinned)
