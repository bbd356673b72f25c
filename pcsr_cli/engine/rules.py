"""What a user asks of the engine: the rule of the routing, a budget, the refinement and the device.

This module does not import torch, so that a mistake in a request is found without it."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from pcsr_cli.errors import DeviceError, UsageError, in_full


@dataclass(frozen=True)
class Threshold:
    """A pixel is heavy iff p_heavy > ``cut``. The rule is for two branches only."""

    cut: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.cut <= 1:
            raise UsageError(f"The threshold {in_full(self.cut)} is not a probability.", "Use a number from 0 to 1.")


@dataclass(frozen=True)
class Tradeoff:
    """Branch = argmax_j p_j / cost_j^k. A tie goes to the lighter branch. A larger k makes more pixels light. Useful
    values of k are -1 to 2."""

    k: float = 0.0

    def __post_init__(self) -> None:
        if not -100 <= self.k <= 100:
            raise UsageError(f"k = {in_full(self.k)} is out of range.", "Use -100 to 100; useful values are -1 to 2.")


@dataclass(frozen=True)
class Adaptive:
    """The rule ADM of the paper, which finds the cut by k-means over the p_heavy of all pixels of the image."""


@dataclass(frozen=True)
class Budget:
    """The cut that spends a number of GFLOPs (paper's count). The rule is for two branches only.

    ``asked`` is the share that the user gave, or empty for a budget in GFLOPs.
    """

    gflops: float
    asked: str = ""


@dataclass(frozen=True)
class SingleBranch:
    """Assign every pixel to the heaviest or the lightest branch, regardless of the classifier."""

    heavy: bool


ALL_LIGHT, ALL_HEAVY = SingleBranch(heavy=False), SingleBranch(heavy=True)

Routing = Threshold | Tradeoff | Adaptive | Budget | SingleBranch


def default_routing(branches: int) -> Routing:
    """A threshold of 0.5 for two branches. The default for more branches is the most probable branch."""
    return Threshold(0.5) if branches == 2 else Tradeoff(0.0)


_ALLOWANCE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|G)", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Allowance:
    """A budget as the user gave it: percent of the original network's GFLOPs, or GFLOPs."""

    amount: float
    unit: Literal["%", "G"]

    def __str__(self) -> str:
        return f"{in_full(self.amount)}{self.unit}"


def parse_allowance(text: str) -> Allowance:
    """Parse ``60%`` or ``50G``. Raises UsageError."""
    found = _ALLOWANCE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < math.inf:
        raise UsageError(f"Invalid budget {text[:20]!r}.", "Use a share (60%) or GFLOPs (50G).")
    return Allowance(float(found[1]), "%" if found[2] == "%" else "G")


NEVER = 9
"""The #h that disables refinement. #h is the least number of heavy neighbours for refinement, and a pixel has only
eight neighbours."""

PUBLISHED = 1
"""The #h of the published results, which are at x4 only."""

MIN_REFINED_SCALE = 3.0
"""The smallest scale that is refined by default. On Set14, refinement costs 0.29 dB at x2 and 0.02 dB at x3. At x2,
seams cost less than refinement.
"""


def usual_refine(scale: float) -> int:
    """The default #h for a scale: PUBLISHED at x3 and above, NEVER below x3."""
    return PUBLISHED if scale >= MIN_REFINED_SCALE else NEVER


_DEVICE = re.compile(r"auto|(cpu|mps)(:0)?|cuda(:\d{1,3})?")


def check_device_name(name: str) -> None:
    """Raise DeviceError unless ``name`` is a device that pcsr supports, which this machine may lack."""
    if not _DEVICE.fullmatch(name):
        raise DeviceError(f"Unknown device {name!r}.", "Use auto, cpu, cuda, cuda:1, ... or mps.")
