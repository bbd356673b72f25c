"""Fair timing: the candidates run alternately in one process, after a warm-up."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Name = TypeVar("Name")


@dataclass(frozen=True)
class Timed:
    """Seconds of one candidate: median, fastest and slowest run."""

    median: float
    fastest: float
    slowest: float


def timed(seconds: Sequence[float]) -> Timed:
    """Summarise the seconds of several runs."""
    return Timed(statistics.median(seconds), min(seconds), max(seconds))


def alternate(candidates: Mapping[Name, Callable[[], object]], runs: int) -> dict[Name, Timed]:
    """Run every candidate once to warm up, then all of them in turn, ``runs`` times."""
    for run in candidates.values():
        run()
    seconds: dict[Name, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: timed(taken) for name, taken in seconds.items()}
