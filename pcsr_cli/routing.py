"""Which branch each pixel gets: by a fixed cut, by the cost trade-off k, or by ADM (paper, section 3.3).

With two branches every rule comes down to one cut: a pixel is heavy iff p_heavy > cut. In general a rule
becomes a ``Decision``, made once for the whole image, that labels pixels with branch numbers (0 = lightest).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fast_pytorch_kmeans import KMeans
from torch import Tensor

from pcsr_cli.errors import UsageError

ADM_ITERATIONS = 20
ADM_SAMPLE = 4_000_000
"""ADM clusters at most this many pixels; of larger images, as many evenly spaced quantiles."""


@dataclass(frozen=True)
class Threshold:
    """Heavy iff p_heavy > ``cut``; for two branches only."""

    cut: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.cut <= 1:
            raise UsageError(f"A threshold of {self.cut:g} is not a probability.", "Choose one from 0 to 1.")


@dataclass(frozen=True)
class Tradeoff:
    """Pixel to argmax_j p_j / cost_j^k, a tie to the lighter; larger k is cheaper, useful from -1 to 2."""

    k: float = 0.0

    def __post_init__(self) -> None:
        if not -100 <= self.k <= 100:
            raise UsageError(f"k = {self.k:g} is out of range.", "Choose one from -100 to 100; -1 to 2 is useful.")


@dataclass(frozen=True)
class Adaptive:
    """ADM: p_heavy over the whole image, clustered by k-means."""


Routing = Threshold | Tradeoff | Adaptive


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
        return (probabilities * weights.to(probabilities)).argmax(dim=1).to(torch.uint8)


Decision = Cuts | CostRule


def difficulty(probabilities: Tensor) -> Tensor:
    """How hard each pixel is, in [0, 1]: p_heavy, or with M branches the sum over the heavier floor((M + 1) / 2)."""
    branches = probabilities.shape[1]
    return probabilities[:, branches - (branches + 1) // 2 :].sum(dim=1)


def tradeoff_cut(costs: tuple[float, float], k: float) -> float:
    """The cut on p_heavy that k means for two branches: c_heavy^k / (c_heavy^k + c_light^k)."""
    light, heavy = costs
    return float(1 / (1 + (light / heavy) ** k))


def decide(routing: Routing, costs: Sequence[float]) -> Decision | None:
    """The decision where it is known before looking at the image; None for ADM.

    ``costs`` are the FLOPs of backbone + branch for each of the M branches, lightest first, in any unit.
    """
    total = sum(costs)
    shares = tuple(cost / total for cost in costs)
    match routing:
        case Adaptive():
            return None
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


def decide_adaptively(values: Tensor, branches: int) -> Cuts:
    """ADM over the difficulties of a whole image (any shape, float32).

    For two branches the published start: centroids {mean, 0} after one step from [[0.5]]. Each cut is the largest
    difficulty of the cluster below it, so that labelling by cuts repeats the clustering. An image whose difficulties
    are all the same has nothing to cluster, and all of it is light."""
    flat = _sampled(values.reshape(-1))
    low, high = flat.min(), flat.max()
    if bool(low == high):
        return Cuts((float(high),) * (branches - 1))
    rescaled = ((flat - low) / (high - low)).unsqueeze(1)
    start = [[0.5]] if branches == 2 else [[(index + 0.5) / branches] for index in range(branches)]
    kmeans = KMeans(n_clusters=branches, max_iter=ADM_ITERATIONS, mode="euclidean")
    labels = kmeans.fit_predict(rescaled, centroids=torch.tensor(start, device=flat.device))
    tops = [flat[labels == cluster].amax() for cluster in range(branches) if bool((labels == cluster).any())]
    cuts = sorted(float(top) for top in tops)[:-1]
    # A cluster that ended up empty leaves its cut at the next one: no pixel gets that branch.
    return Cuts(tuple(cuts + [float(high)] * (branches - 1 - len(cuts))))


def _sampled(flat: Tensor) -> Tensor:
    """Every value, or ADM_SAMPLE of them evenly spaced in order of size, the smallest and the largest included.

    Picking by size rather than by place leaves next to no noise, which matters: k-means stops at a tolerance, and a
    slightly different mean can cost or save it a step that moves the cut by a hundredth."""
    if flat.numel() <= ADM_SAMPLE:
        return flat
    ordered = torch.from_numpy(np.sort(flat.cpu().numpy()))
    index = torch.linspace(0, flat.numel() - 1, ADM_SAMPLE, dtype=torch.float64).round().long()
    return ordered[index].to(flat.device)
