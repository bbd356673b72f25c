"""ADM, adaptive decision making: the cut that k-means finds in the difficulties of a whole image (paper, section 3.3).

The clustering is fast_pytorch_kmeans's, started and stopped as the published code does it. What it costs is cut: it
sees at most ADM_SAMPLE representatives of the pixels, evenly spaced in order of size, so that between two of them
lie at most 1/ADM_SAMPLE of the pixels. A few times as many get another branch than by clustering them all."""

import numpy as np
import torch
from fast_pytorch_kmeans import KMeans
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.routing import Cuts

ITERATIONS = 20
ADM_SAMPLE = 2**17
"""ADM clusters at most this many pixels; of larger images, as many evenly spaced quantiles."""

EXACT_PIXELS = 2**22
"""Up to this many difficulties are kept as they are (16 MiB); more are counted in bins."""

BINS = 2**20
"""Bins over [0, 1] for the difficulties of larger images."""

SPILLED_AT_ONCE = 2**19


class DifficultySurvey:
    """Collects the difficulties of an image, area by area, in bounded memory.

    ``total`` is the number of pixels to come. Above EXACT_PIXELS of them each is known to 1/BINS.
    """

    def __init__(self, total: int) -> None:
        self.buffer = np.empty(min(total, EXACT_PIXELS), dtype=np.float32)
        self.filled = 0
        self.histogram: NDArray[np.int64] | None = None

    def add(self, values: Tensor) -> None:
        """Take the difficulties of some pixels, float32 of any shape."""
        flat = values.reshape(-1).cpu().numpy()
        while flat.size:
            if self.filled == self.buffer.size:
                self._spill()
            part = flat[: self.buffer.size - self.filled]
            self.buffer[self.filled : self.filled + part.size] = part
            self.filled += part.size
            flat = flat[part.size :]

    def values(self) -> Tensor:
        """All difficulties, float32 (N,), or as many representatives of them as ADM looks at."""
        if self.histogram is None:
            return torch.from_numpy(self.buffer[: self.filled])
        self._spill()
        ends = np.cumsum(self.histogram)
        wanted = np.linspace(0, ends[-1] - 1, ADM_SAMPLE).round()
        bins = np.searchsorted(ends, wanted, side="right")
        # The upper ends of the bins, so that a cut at a value is not below the pixels it stands for.
        return torch.from_numpy(((bins + 1) / BINS).astype(np.float32))

    def _spill(self) -> None:
        """Count what the buffer holds in bins, a part at a time, and empty it."""
        if self.histogram is None:
            self.histogram = np.zeros(BINS, dtype=np.int64)
        for start in range(0, self.filled, SPILLED_AT_ONCE):
            part = self.buffer[start : min(start + SPILLED_AT_ONCE, self.filled)]
            bins = (part * np.float32(BINS)).astype(np.int32)
            self.histogram += np.bincount(np.minimum(bins, BINS - 1, out=bins), minlength=BINS)
        self.filled = 0


def decide_adaptively(values: Tensor, branches: int) -> Cuts:
    """ADM over the difficulties of a whole image (any shape, float32).

    For two branches the published start: centroids {mean, 0} after one step from [[0.5]]. Each cut is the largest
    difficulty of the cluster below it, so that labelling by cuts repeats the clustering. An image whose difficulties
    are all the same has nothing to cluster, and all of it is light.
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
    # A cluster that ended up empty leaves its cut at the next one: no pixel gets that branch.
    return Cuts(tuple(cuts + [float(high)] * (branches - 1 - len(cuts))))


def _representatives(flat: Tensor) -> Tensor:
    """Every value, or ADM_SAMPLE of them evenly spaced in order of size, the smallest and the largest included.

    Picking by size rather than by place leaves next to no noise, which matters: k-means stops at a tolerance, and a
    slightly different mean can cost or save it a step that moves the cut by a hundredth.
    """
    if flat.numel() <= ADM_SAMPLE:
        return flat
    ordered = torch.from_numpy(np.sort(flat.cpu().numpy()))
    index = torch.linspace(0, flat.numel() - 1, ADM_SAMPLE, dtype=torch.float64).round().long()
    return ordered[index].to(flat.device)
