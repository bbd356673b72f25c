"""Between host and device: to and from CUDA through pinned memory, without either waiting for the other."""

from collections import deque

import torch
from torch import Tensor

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
