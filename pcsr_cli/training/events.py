"""What a run tells while it goes on: plain records, handed to whoever watches.

The library never prints: the command line draws these, the log writes them down, tests collect them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Skipped:
    """A picture that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Decoded:
    """One picture more is cut into patches: ``done`` of ``total``."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """Where a stage is: the mean loss since the last report, iterations and crops a second, seconds gone and left.

    ``heavy_share`` is the mean probability of the heaviest branch, known in the second stage.
    """

    stage: int
    step: int
    last_step: int
    loss: float
    learning_rate: float
    rate: float
    crops: float
    seconds: float
    seconds_left: float
    heavy_share: float | None = None


@dataclass(frozen=True)
class Quality:
    """What weights reach at one scale, means over the folder's pictures.

    ``psnr`` (dB), ``heavy_share`` and ``flops`` (executed, of one picture) are those of the program's own routing in
    the second stage, of all pixels heavy in the first; ``psnr_heavy`` is of all pixels heavy, ``psnr_bicubic`` of
    bicubic enlargement.
    """

    scale: int
    psnr: float
    psnr_heavy: float
    psnr_bicubic: float
    heavy_share: float
    flops: float


@dataclass(frozen=True)
class Validated(Quality):
    """The quality of the averaged weights before iteration ``step``, after so many seconds."""

    stage: int
    step: int
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The run's state, or the finished model, is on disk."""

    path: Path
    stage: int
    step: int


Event = Skipped | Decoded | Progress | Validated | Saved
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The observer that does not care."""
