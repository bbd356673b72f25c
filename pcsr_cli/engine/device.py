"""Where the work is done and in which precision."""

import contextlib
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import psutil
import torch
from torch import Tensor

from pcsr_cli.errors import DeviceError

Precision = Literal["auto", "fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes cuda, else mps, else cpu. Raises DeviceError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device.", "Choose auto, cpu, cuda, cuda:1, ... or mps.") from error
    present = {
        "cpu": not device.index,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available() and not device.index,
    }
    if not present.get(device.type, False):
        raise DeviceError(f"The device {name} is not available here.", "Use --device cpu, or auto.")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype to compute in. ``auto`` is float32 on every device: what the published figures were made with."""
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise DeviceError(f"{precision!r} is no precision.", f"Choose one of {known}.")
    if precision == "bf16" and device.type == "mps":
        raise DeviceError("bf16 is not supported on mps.", "Use fp16 or fp32.")
    return _DTYPES.get(precision, torch.float32)


def describe_device(device: torch.device) -> str:
    """The device for people: its name, and on a CPU the number of threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


def peak_memory(device: torch.device) -> int | None:
    """The peak memory in bytes: of the device on CUDA, else the resident memory of this process. None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":  # not getrusage's: there a process inherits the peak of the one that started it
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = re.search(r"VmHWM:\s*(\d+)", status)  # some sandboxes leave it out
        return None if found is None else int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """While inside, float32 is float32 on CUDA devices, too: convolutions would else round to TF32's 10 bits."""
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


UNDER_WAY = 4
"""Copies to the host that may be under way at once: colours and branches of two tiles, one arriving while the next is
computed."""


def upload(values: Tensor, device: torch.device) -> Tensor:
    """The same on a device; the host does not wait until it has arrived there."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    pinned = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
    pinned.copy_(values)
    return pinned.to(device, non_blocking=True)


class Downloads:
    """Copies to places in host memory: on the host at once, from CUDA while the device goes on, done by ``settle``."""

    def __init__(self) -> None:
        self.under_way: deque[tuple[torch.cuda.Event, Tensor, Tensor]] = deque()

    def bring(self, values: Tensor, place: Tensor) -> None:
        """Copy ``values`` to ``place``, a host tensor of the same shape and type that is not to be read yet."""
        if values.device.type != "cuda":
            place.copy_(values)
            return
        landing = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
        landing.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(values.device))
        self.under_way.append((arrived, landing, place))
        while len(self.under_way) > UNDER_WAY:
            self._land()

    def settle(self) -> None:
        """Wait until everything is in its place."""
        while self.under_way:
            self._land()

    def _land(self) -> None:
        arrived, landing, place = self.under_way.popleft()
        arrived.synchronize()
        place.copy_(landing)
