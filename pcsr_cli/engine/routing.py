"""Assign pixels to branches by a fixed cut, by the cost trade-off k, or adaptively (paper, section 3.3).

With two branches every rule (``rules.py``) becomes one cut: a pixel is heavy iff p_heavy > cut. In general a rule
becomes one ``Decision`` for the whole image, which labels pixels with branch numbers (0 = lightest).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from functools import cached_property

import numpy as np
import torch
from fast_pytorch_kmeans import KMeans
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.device import upload
from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.engine.rules import Adaptive, Allowance, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.engine.tiles import Rect, Span
from pcsr_cli.errors import UsageError
from pcsr_cli.model.flops import GIGA, ModelCosts, paper_flops

BELOW_ALL, ABOVE_ALL = -1.0, 2.0
"""A cut below and a cut above every difficulty, even if the classifier saturates at 0 or 1."""


@dataclass(frozen=True)
class Cuts:
    """Branch = number of cuts that the difficulty exceeds. ``values`` are ascending cuts, one fewer than there are
    branches."""

    values: tuple[float, ...]

    @property
    def only(self) -> int | None:
        """The branch of every pixel if the cuts do not depend on the image, else None."""
        ends = {BELOW_ALL: len(self.values), ABOVE_ALL: 0}
        return ends.get(self.values[0]) if len(set(self.values)) == 1 else None

    def labels(self, probabilities: Tensor) -> Tensor:
        """Map (M, ...) class probabilities, or (1, ...) p_heavy, to (...) uint8 branch numbers."""
        return self.labels_of_difficulty(difficulty(probabilities))

    def labels_of_difficulty(self, values: Tensor) -> Tensor:
        """Map difficulties of any shape to uint8 branch numbers."""
        first, *others = self.values
        labels = (values > first).view(torch.uint8)
        for cut in others:
            labels += values > cut
        return labels


@dataclass(frozen=True)
class CostRule:
    """Branch = argmax_j p_j / cost_j^k over M branches. ``costs`` sum to 1."""

    costs: tuple[float, ...]
    k: float

    def labels(self, probabilities: Tensor) -> Tensor:
        """Map (M, ...) class probabilities to (...) uint8 branch numbers."""
        weights = torch.tensor([cost**-self.k for cost in self.costs], dtype=torch.float64)
        weights /= weights.max()
        weights = upload(weights.to(probabilities.dtype), probabilities.device)
        return (probabilities * weights.view(-1, *(1,) * (probabilities.ndim - 1))).argmax(dim=0).to(torch.uint8)


Decision = Cuts | CostRule


def difficulty(probabilities: Tensor) -> Tensor:
    """Each pixel's difficulty in [0, 1]: p_heavy, or with M branches the probability of the heavier floor((M + 1) / 2)
    branches.

    ``probabilities`` are (M, ...) for M branches, or p_heavy (1, ...) for two branches."""
    branches = probabilities.shape[0]
    heavier = probabilities[branches - (branches + 1) // 2 :]
    return heavier[0] if heavier.shape[0] == 1 else heavier.sum(dim=0)


def tradeoff_cut(costs: tuple[float, float], k: float) -> float:
    """The cut on p_heavy that is equivalent to k for two branches: c_heavy^k / (c_heavy^k + c_light^k)."""
    light, heavy = costs
    return float(1 / (1 + (light / heavy) ** k))


def decide(routing: Routing, costs: Sequence[float]) -> Decision | None:
    """The decision of a routing, or None for ADM and budgets, whose decision depends on the image.

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
            raise _needs_two_branches("A budget", len(shares))
        case SingleBranch(heavy):
            return Cuts((BELOW_ALL if heavy else ABOVE_ALL,) * (len(shares) - 1))
        case Tradeoff(k) if len(shares) == 2:
            return Cuts((tradeoff_cut((shares[0], shares[1]), k),))
        case Tradeoff(k):
            return CostRule(shares, k)
        case Threshold(cut) if len(shares) == 2:
            return Cuts((cut,))
        case Threshold():
            raise _needs_two_branches("A threshold", len(shares))


def _needs_two_branches(routing: str, branches: int) -> UsageError:
    return UsageError(f"{routing} needs a model of two branches, but this one has {branches}.", "Use k or ADM instead.")


ITERATIONS = 20
ADM_SAMPLE = 2**17
"""Maximum number of values that ADM clusters. For a larger image, ADM clusters as many evenly spaced quantiles."""

EXACT_PIXELS = 2**22
"""Maximum number of difficulties that are stored exactly (16 MiB). The difficulties of a larger image are counted in
bins."""

BINS = 2**18
"""Number of bins over [0, 1] for the difficulties of larger images. The counts of more bins would not fit the cache."""

COUNTED_AT_ONCE = 2**19

ROUNDING = 1e-6
"""The rounding error of a share, in pixels."""

ROWS_AT_ONCE = 256
"""The number of rows of a mask that are counted at once."""


class DifficultySurvey:
    """Collects the difficulties of an image, area by area, in bounded memory.

    ``total`` is the number of pixels that will be added. If ``total`` is above EXACT_PIXELS, values are rounded to
    1/BINS.
    """

    def __init__(self, total: int) -> None:
        self.buffer = np.empty(min(total, EXACT_PIXELS), dtype=np.float32)
        self.filled = 0
        self.histogram: NDArray[np.int64] | None = None

    def add(self, values: Tensor) -> None:
        """Add the difficulties of some pixels, float32 of any shape."""
        flat = values.reshape(-1).cpu().numpy()
        while flat.size:
            if self.filled == self.buffer.size:
                self._spill()
            part = flat[: self.buffer.size - self.filled]
            self.buffer[self.filled : self.filled + part.size] = part
            self.filled += part.size
            flat = flat[part.size :]

    def values(self) -> Tensor:
        """All difficulties, float32 (N,), or ADM_SAMPLE evenly spaced quantiles for more than EXACT_PIXELS."""
        if self.histogram is None:
            return torch.from_numpy(self.buffer[: self.filled])
        self._spill()
        return _quantiles(self.histogram, 0, 1)

    def _spill(self) -> None:
        """Count the values of the buffer in bins, and empty the buffer."""
        counts = _histogram(torch.from_numpy(self.buffer[: self.filled]), 0, 1)
        self.histogram = counts if self.histogram is None else self.histogram + counts
        self.filled = 0


def _histogram(values: Tensor, low: float, high: float) -> NDArray[np.int64]:
    """The number of values, float32 (N,) on the CPU, in each of BINS bins over low..high, counted part by part."""
    counts = np.zeros(BINS, dtype=np.int64)
    for part in torch.split(values, COUNTED_AT_ONCE):
        # The lower limit is for NaN, which broken weights give. The engine reports them after the last tile.
        bins = (part - low).mul_(BINS / (high - low)).int().clamp_(0, BINS - 1)
        counts += np.bincount(bins.numpy(), minlength=BINS)
    return counts


def _quantiles(counts: NDArray[np.int64], low: float, high: float) -> Tensor:
    """ADM_SAMPLE evenly spaced quantiles (float32) of the values that ``_histogram`` counted."""
    ends = np.cumsum(counts)
    bins = np.searchsorted(ends, np.linspace(0, ends[-1] - 1, ADM_SAMPLE).round().astype(ends.dtype), side="right")
    # Use the upper ends of the bins, so that a cut at a value is not below the difficulties in its bin.
    return torch.from_numpy((low + (bins + 1) * ((high - low) / BINS)).astype(np.float32))


def decide_adaptively(values: Tensor, branches: int) -> Cuts:
    """Apply ADM to the difficulties of a whole image (any shape, float32).

    Two branches start from the published centroids: {mean, 0} after one step from [[0.5]]. Each cut is the largest
    difficulty of the cluster below it, so that the cuts reproduce the clusters. If all difficulties are equal, all
    pixels are light.
    """
    flat = _representatives(values.reshape(-1))
    low, high = flat.min(), flat.max()
    if bool(low == high):
        return Cuts((float(high),) * (branches - 1))
    rescaled = ((flat - low) / (high - low)).unsqueeze(1)
    start = [[0.5]] if branches == 2 else [[(index + 0.5) / branches] for index in range(branches)]
    kmeans = KMeans(n_clusters=branches, max_iter=ITERATIONS, mode="euclidean")
    labels = kmeans.fit_predict(rescaled, centroids=torch.tensor(start, device=flat.device))
    tops = [flat[labels == cluster].amax() for cluster in range(branches) if bool((labels == cluster).any())]
    cuts = sorted(float(top) for top in tops)[:-1]
    # For each empty cluster, add a cut that no difficulty exceeds.
    return Cuts(tuple(cuts + [float(high)] * (branches - 1 - len(cuts))))


def _representatives(flat: Tensor) -> Tensor:
    """All values, or ADM_SAMPLE evenly spaced quantiles, rounded to 1 / BINS of the range of the values.

    Quantiles have almost no sampling noise. Noise matters, because k-means stops at a tolerance: a slightly different
    mean can add or save a step that moves the cut by a hundredth.
    """
    if flat.numel() <= ADM_SAMPLE:
        return flat
    low, high = float(flat.min()), float(flat.max())
    if low == high:
        return flat[:1]
    return _quantiles(_histogram(flat.cpu(), low, high), low, high).to(flat.device)


@dataclass(frozen=True)
class Size:
    """Pixel counts of an image before and after upscaling, or their sums over several images."""

    lr_pixels: int
    hr_pixels: int


def gflops_range(costs: ModelCosts, size: Size) -> tuple[float, float]:
    """GFLOPs (paper's count) with all pixels light, and with all pixels heavy."""
    light = paper_flops(costs, size.lr_pixels, (size.hr_pixels, 0))
    heavy = paper_flops(costs, size.lr_pixels, (0, size.hr_pixels))
    return light / GIGA, heavy / GIGA


def to_budget(allowance: Allowance, costs: ModelCosts, size: Size, original: float | None) -> Budget:
    """The budget for images of a size. ``original`` is the original network's GFLOPs (paper's count), or None.

    Without an original, percentages refer to all heavy. A budget above all heavy is spent in part. Raises UsageError if
    the model does not have two branches, or for a budget below all light.
    """
    if len(costs.branches) != 2:
        raise _needs_two_branches("A budget", len(costs.branches))
    least, most = gflops_range(costs, size)
    if allowance.unit == "G":
        wanted, asked = allowance.amount, ""
    else:
        whole = most if original is None else original
        wanted = whole * allowance.amount / 100
        asked = f"{allowance} of {'all heavy' if original is None else 'the original'}"
    if wanted < least:
        up = Context(prec=4, rounding=ROUND_CEILING)  # the limit is a valid budget
        share = "" if original is None else f" ({up.create_decimal(100 * least / original):f}%)"
        budget = f"{allowance} ({wanted:.4g} GFLOPs)" if asked else allowance
        step = f"Use at least {up.create_decimal(least):f}G{share}, which is all light."
        raise UsageError(f"A budget of {budget} cannot be met.", step)
    return Budget(gflops=wanted, asked=asked)


def heavy_share(costs: ModelCosts, size: Size, gflops: float) -> float:
    """The share of heavy pixels that spends ``gflops`` (paper's count)."""
    least, most = gflops_range(costs, size)
    return 1.0 if most <= least else min(1.0, max(0.0, (gflops - least) / (most - least)))


def cut_for_share(values: Tensor | Sequence[float], share: float) -> float:
    """The lowest cut on p_heavy that at most ``share`` of the values exceed.

    ``values`` (N,) are the p_heavy of all pixels, or evenly spaced quantiles. All values exceed a cut below 0.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float32))
    wanted = math.floor(share * ordered.size + ROUNDING)
    if wanted == 0:
        return float(ordered[-1])
    # ``edge`` is the smallest value to make heavy. Of equal values, a cut just below takes all, a cut at it none.
    edge = ordered[ordered.size - wanted]
    with_it = ordered.size - int(np.searchsorted(ordered, edge, side="left"))
    return float(np.nextafter(edge, np.float32(-1)) if with_it <= wanted else edge)


@dataclass(frozen=True, eq=False)
class Forced:
    """HR pixels of an image that are forced to be light or heavy.

    Each mask is (h, w) bool on the CPU, of any size, or None. Each HR pixel uses the nearest mask pixel. A pixel that
    is set in both masks becomes heavy. ``clashes`` counts the pixels that are set in both masks.
    """

    hr_size: tuple[int, int]
    light: Tensor | None = None
    heavy: Tensor | None = None

    def override(self, labels: Tensor, area: Rect, heaviest: int) -> None:
        """Set the forced pixels of ``labels``, the branches (n, W) uint8 of an area, in place and on any device."""
        for mask, branch in zip(self._masks(area), (0, heaviest), strict=True):
            labels.masked_fill_(mask.to(labels.device), branch)

    def free(self, area: Rect) -> Tensor:
        """The pixels of an area that are not forced, as an (n, W) bool mask."""
        light, heavy = self._masks(area)
        return ~(light | heavy)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """The number of HR pixels that are forced to be light, and the number forced to be heavy."""
        return self._totals[0], self._totals[1]

    @property
    def clashes(self) -> int:
        """The number of HR pixels that are set in both masks."""
        return self._totals[2]

    def share_of_free(self, share: float) -> float:
        """The share of free pixels that must be heavy to make ``share`` of all pixels heavy, if the masks allow it."""
        light, heavy = self.counts
        pixels = self.hr_size[0] * self.hr_size[1]
        free = pixels - light - heavy
        return min(1.0, max(0.0, (share * pixels - heavy) / free)) if free else 0.0

    @cached_property
    def _totals(self) -> tuple[int, int, int]:
        """The numbers of HR pixels set in the light mask, in the heavy mask, and in both."""
        totals = [0, 0, 0]
        for top in range(0, self.hr_size[0], ROWS_AT_ONCE):
            rows = Span(top, min(top + ROWS_AT_ONCE, self.hr_size[0]))
            light, heavy = self._masks(Rect(rows, Span(0, self.hr_size[1])))
            for index, mask in enumerate((light, heavy, light & heavy)):
                totals[index] += int(mask.sum())
        return totals[0], totals[1], totals[2]

    def _masks(self, area: Rect) -> tuple[Tensor, Tensor]:
        """The light and the heavy mask over an area, each (n, W) bool."""
        light, heavy = (self._over(mask, area) for mask in (self.light, self.heavy))
        return light, heavy

    def _over(self, mask: Tensor | None, area: Rect) -> Tensor:
        if mask is None:
            return torch.zeros(area.rows.length, area.columns.length, dtype=torch.bool, device="cpu")
        if tuple(mask.shape) == self.hr_size:
            return mask[area.slices]
        rows, columns = (
            nearest_index(length, hr_length, torch.arange(span.start, span.stop, dtype=torch.int64, device="cpu"))
            for length, hr_length, span in zip(mask.shape, self.hr_size, (area.rows, area.columns), strict=True)
        )
        return mask[rows[:, None], columns]
