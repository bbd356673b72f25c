"""Which branch each pixel gets: by a fixed cut, by the cost trade-off k, or adaptively (paper, section 3.3).

With two branches every rule comes down to one cut: a pixel is heavy iff p_heavy > cut. In general a rule
becomes a ``Decision``, made once for the whole image, that labels pixels with branch numbers (0 = lightest).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.errors import UsageError, in_full
from pcsr_cli.transfers import upload


@dataclass(frozen=True)
class Threshold:
    """Heavy iff p_heavy > ``cut``; for two branches only."""

    cut: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.cut <= 1:
            raise UsageError(f"A threshold of {in_full(self.cut)} is not a probability.", "Choose one from 0 to 1.")


@dataclass(frozen=True)
class Tradeoff:
    """Pixel to argmax_j p_j / cost_j^k, a tie to the lighter; larger k is cheaper, useful from -1 to 2."""

    k: float = 0.0

    def __post_init__(self) -> None:
        if not -100 <= self.k <= 100:
            raise UsageError(
                f"k = {in_full(self.k)} is out of range.", "Choose one from -100 to 100; -1 to 2 is useful."
            )


@dataclass(frozen=True)
class Adaptive:
    """ADM: p_heavy over the whole image, clustered by k-means."""


@dataclass(frozen=True)
class Budget:
    """The cut that spends just so much: ``gflops`` by the paper's convention, or ``seconds`` of computing.

    One of the two is given; for two branches only. ``asked`` tells where the number comes from.
    """

    gflops: float | None = None
    seconds: float | None = None
    asked: str = ""

    def __post_init__(self) -> None:
        assert (self.gflops is None) != (self.seconds is None)


@dataclass(frozen=True)
class Everywhere:
    """Every pixel to one branch, whatever the classifier says: to the heaviest, or to the lightest."""

    heavy: bool


ALL_LIGHT, ALL_HEAVY = Everywhere(heavy=False), Everywhere(heavy=True)

BELOW_ALL, ABOVE_ALL = -1.0, 2.0
"""The cuts that every difficulty exceeds and that none does, even where a classifier saturates at 0 or 1."""

Routing = Threshold | Tradeoff | Adaptive | Budget | Everywhere


def default_routing(branches: int) -> Routing:
    """p_heavy > 0.5, or with more than two branches its counterpart, the most probable branch."""
    return Threshold(0.5) if branches == 2 else Tradeoff(0.0)


@dataclass(frozen=True)
class Cuts:
    """Branch = number of cuts the difficulty exceeds; ``values`` ascend, one fewer than branches."""

    values: tuple[float, ...]

    def labels(self, probabilities: Tensor) -> Tensor:
        """(N, M) class probabilities to (N,) uint8 branch numbers."""
        return self.labels_of_difficulty(difficulty(probabilities))

    def labels_of_difficulty(self, values: Tensor) -> Tensor:
        """Any shape of difficulties to uint8 branch numbers."""
        labels = torch.zeros_like(values, dtype=torch.uint8)
        for cut in self.values:
            labels += values > cut
        return labels


@dataclass(frozen=True)
class CostRule:
    """argmax_j p_j / cost_j^k over M branches, ``costs`` summing to 1."""

    costs: tuple[float, ...]
    k: float

    def labels(self, probabilities: Tensor) -> Tensor:
        """(N, M) class probabilities to (N,) uint8 branch numbers."""
        weights = torch.tensor([cost**-self.k for cost in self.costs], dtype=torch.float64)
        weights /= weights.max()
        weights = upload(weights.to(probabilities.dtype), probabilities.device)
        return (probabilities * weights).argmax(dim=1).to(torch.uint8)


Decision = Cuts | CostRule


def difficulty(probabilities: Tensor) -> Tensor:
    """How hard each pixel is, in [0, 1]: p_heavy, or with M branches the sum over the heavier floor((M + 1) / 2)."""
    branches = probabilities.shape[1]
    heavier = probabilities[:, branches - (branches + 1) // 2 :]
    return heavier[:, 0] if heavier.shape[1] == 1 else heavier.sum(dim=1)


def tradeoff_cut(costs: tuple[float, float], k: float) -> float:
    """The cut on p_heavy that k means for two branches: c_heavy^k / (c_heavy^k + c_light^k)."""
    light, heavy = costs
    return float(1 / (1 + (light / heavy) ** k))


def decide(routing: Routing, costs: Sequence[float]) -> Decision | None:
    """The decision where it is known before looking at the image; None for ADM and for a budget.

    ``costs`` are the FLOPs of backbone + branch for each of the M branches, lightest first, in any unit.
    """
    total = sum(costs)
    shares = tuple(cost / total for cost in costs)
    match routing:
        case Adaptive():
            return None
        case Budget() if len(shares) == 2:
            return None
        case Budget():
            raise UsageError(
                f"A budget cuts between two branches, but this model has {len(shares)}.", "Use --k or --adm."
            )
        case Everywhere(heavy):
            return Cuts((BELOW_ALL if heavy else ABOVE_ALL,) * (len(shares) - 1))
        case Tradeoff(k) if len(shares) == 2:
            return Cuts((tradeoff_cut((shares[0], shares[1]), k),))
        case Tradeoff(k):
            return CostRule(shares, k)
        case Threshold(cut) if len(shares) == 2:
            return Cuts((cut,))
        case Threshold():
            raise UsageError(
                f"A threshold cuts between two branches, but this model has {len(shares)}.", "Use --k or --adm."
            )
