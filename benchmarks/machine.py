"""Describes the machine, and measures its rates for the operations that networks consist of."""

import os
import platform
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import pcsr_cli

MATMUL, CONV = "matmul", "dense 3x3"
RATED = (MATMUL, CONV)
_SIDE, _CHANNELS, _BAND = 2048, 64, (32, 256)

RATED_FLOPS = {MATMUL: 2 * _SIDE**3, CONV: 2 * 9 * _CHANNELS**2 * _BAND[0] * _BAND[1]}
"""FLOPs of one call."""


class Rated:
    """The rated operations: a large float32 matrix product, and a convolution on a band that fits the cache.

    They run alternately with the candidates, so that all figures are from the same minutes.
    """

    def __init__(self) -> None:
        self.matrix = torch.randn(_SIDE, _SIDE)
        weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.band = torch.randn(1, _CHANNELS, *_BAND).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def multiply(self) -> Tensor:
        """Compute the matrix product."""
        return self.matrix @ self.matrix

    @torch.inference_mode()
    def convolve(self) -> Tensor:
        """Compute the convolution."""
        return F.conv2d(self.band, self.weight, padding=1)


def machine() -> dict[str, object]:
    """Return the machine and the versions of a run."""
    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "load before": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
