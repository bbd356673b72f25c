"""Timing in fair pairs: what is compared runs alternately in one process, after a warm-up."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Timed:
    """Seconds of one contestant: median, fastest and slowest run."""

    median: float
    fastest: float
    slowest: float


def alternate(contestants: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Timed]:
    """Run every contestant once to warm up, then all of them in turn, ``runs`` times."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timed(statistics.median(taken), min(taken), max(taken)) for name, taken in seconds.items()}


def matmul_rate(side: int = 2048, runs: int = 7) -> float:
    """FLOP/s of a large float32 matrix product on this machine, the median of some runs."""
    matrix = torch.randn(side, side)
    timed = alternate({"matmul": lambda: matrix @ matrix}, runs)["matmul"]
    return 2 * side**3 / timed.median


def dense_conv_rate(channels: int = 64, runs: int = 15) -> float:
    """FLOP/s of a dense 3x3 convolution, channels last, on a band that fits the cache."""
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    x = torch.randn(1, channels, 32, 256).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        timed = alternate({"conv": lambda: F.conv2d(x, weight, padding=1)}, runs)["conv"]
    return 2 * 9 * channels**2 * 32 * 256 / timed.median
