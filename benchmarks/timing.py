"""Timing in fair pairs: what is compared runs alternately in one process, after a warm-up."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timed:
    """Seconds of one contestant: median, fastest and slowest run."""

    median: float
    fastest: float
    slowest: float


def timed(seconds: Sequence[float]) -> Timed:
    """What several runs took."""
    return Timed(statistics.median(seconds), min(seconds), max(seconds))


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
    return {name: timed(taken) for name, taken in seconds.items()}
