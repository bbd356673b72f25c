"""PCSR by the formula of the paper, pixel by pixel, for the whole image at once.

There are no tiles and no shared work: each HR pixel samples its features, builds its q of C + 4 numbers and passes
it through whole MLPs. Only the networks and the costs of the branches come from the program under test.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from fast_pytorch_kmeans import KMeans
from torch import Tensor

from pcsr_cli.engine.rules import Adaptive, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.model.flops import model_costs
from pcsr_cli.model.network import Pcsr

CHUNK = 300_000
"""HR pixels evaluated at once."""


@dataclass(frozen=True)
class Expected:
    """``rgb`` (3, H, W) in [0, 1] units, ``labels`` (H, W) branches, ``probabilities`` (H, W, M)."""

    rgb: Tensor
    labels: Tensor
    probabilities: Tensor


@torch.no_grad()
def upscale(model: Pcsr, lr: Tensor, scale: float, routing: Routing, refine: int = 1) -> Expected:
    """Enlarge ``lr`` (1, 3, h, w), RGB in [0, 1], by sections 1 and 2 of the specification."""
    assert not isinstance(routing, Budget | SingleBranch), "use a threshold instead"
    mean = torch.tensor(model.spec.mean, device=lr.device).view(1, 3, 1, 1)
    std = torch.tensor(model.spec.std, device=lr.device).view(1, 3, 1, 1)
    x = (lr - mean) / std
    queries = _Queries(x, model.encoder(x), scale)
    height, width = queries.size

    costs = model_costs(model).routed(scale)
    rgb = torch.empty(height * width, 3, device=lr.device)
    if isinstance(routing, Adaptive):
        probabilities = torch.cat([model.classifier(query.q).softmax(dim=1) for query in queries])
        labels = cluster(probabilities)
    else:
        probabilities = torch.empty(height * width, model.spec.branches, device=lr.device)
        labels = torch.empty(height * width, dtype=torch.int64, device=lr.device)
    for query in queries:
        if not isinstance(routing, Adaptive):
            probabilities[query.pixels] = model.classifier(query.q).softmax(dim=1)
            labels[query.pixels] = route(probabilities[query.pixels], routing, costs)
        rgb[query.pixels] = query.base + _residual(model, query.q, labels[query.pixels])

    image, labels = rgb.T.view(1, 3, height, width), labels.view(height, width)
    refined = smooth_seams(image, labels > 0, refine)
    return Expected((refined * std + mean)[0], labels, probabilities.view(height, width, -1))


def route(probabilities: Tensor, routing: Threshold | Tradeoff, costs: tuple[float, ...]) -> Tensor:
    """(N, M) probabilities to (N,) branches; a tie goes to the lighter branch."""
    if isinstance(routing, Threshold):
        return (probabilities[:, 1] > routing.cut).long()
    share = torch.tensor(costs, dtype=torch.float64, device=probabilities.device) / sum(costs)
    return (probabilities.double() / share**routing.k).argmax(dim=1)


def cluster(probabilities: Tensor) -> Tensor:
    """ADM: difficulty over the whole image, rescaled, clustered by k-means; clusters ordered by their centres."""
    branches = probabilities.shape[1]
    difficulty = probabilities[:, branches - (branches + 1) // 2 :].sum(dim=1)
    low, high = difficulty.min(), difficulty.max()
    if low == high:
        return torch.zeros_like(difficulty, dtype=torch.int64)
    rescaled = ((difficulty - low) / (high - low))[:, None]
    start = [[0.5]] if branches == 2 else [[(index + 0.5) / branches] for index in range(branches)]
    kmeans = KMeans(n_clusters=branches, max_iter=20, mode="euclidean")
    cluster_of = kmeans.fit_predict(rescaled, centroids=torch.tensor(start, device=difficulty.device))
    lowest = [
        (float(difficulty[cluster_of == index].min()), index)
        for index in range(branches)
        if (cluster_of == index).any()
    ]
    labels = torch.zeros_like(cluster_of)
    for rank, (_, index) in enumerate(sorted(lowest)):
        labels[cluster_of == index] = rank
    return labels


def smooth_seams(image: Tensor, heavy: Tensor, minimum: int) -> Tensor:
    """Refinement of (1, 3, H, W): light pixels with ``minimum`` heavy neighbours become the mean of their 3x3."""
    height, width = heavy.shape
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    padded_heavy = F.pad(heavy[None, None].float(), (1, 1, 1, 1), mode="replicate")[0, 0]
    window = [(row, column) for row in range(3) for column in range(3)]
    mean = sum((padded[:, :, r : r + height, c : c + width] for r, c in window), torch.zeros_like(image)) / 9
    around = [padded_heavy[r : r + height, c : c + width] for r, c in window if (r, c) != (1, 1)]
    neighbours = torch.stack(around).sum(dim=0)
    replaced = ~heavy & (neighbours >= minimum)
    replaced[[0, -1], :] = False
    replaced[:, [0, -1]] = False
    return torch.where(replaced & (minimum < 9), mean, image)


@dataclass(frozen=True)
class _Query:
    """A chunk of N HR pixels: a slice, their ``q`` (N, C + 4), and their bilinear ``base`` (N, 3)."""

    pixels: slice
    q: Tensor
    base: Tensor


class _Queries:
    """All HR pixels of an image, row by row, in chunks."""

    def __init__(self, x: Tensor, features: Tensor, scale: float) -> None:
        self.x, self.features = x, features
        lr_height, lr_width = x.shape[2:]
        self.size = max(1, round(lr_height * scale)), max(1, round(lr_width * scale))
        self.rows, self.columns = _Side(lr_height, self.size[0], x), _Side(lr_width, self.size[1], x)

    def __iter__(self) -> Iterator[_Query]:
        height, width = self.size
        for start in range(0, height * width, CHUNK):
            pixels = torch.arange(start, min(start + CHUNK, height * width), device=self.x.device)
            row, column = pixels // width, pixels % width
            yield _Query(slice(start, start + len(pixels)), self._q(row, column), self._base(row, column))

    def _q(self, row: Tensor, column: Tensor) -> Tensor:
        at = torch.stack((self.columns.nearest[column], self.rows.nearest[row]), dim=-1)
        feature = F.grid_sample(self.features, at[None, None], mode="nearest", align_corners=False)[0, :, 0].T
        place = torch.stack((self.rows.rel[row], self.columns.rel[column]), dim=-1)
        cell = place.new_tensor((self.rows.cell, self.columns.cell)).expand_as(place)
        return torch.cat((feature, place, cell), dim=-1)

    def _base(self, row: Tensor, column: Tensor) -> Tensor:
        at = torch.stack((self.columns.centre[column], self.rows.centre[row]), dim=-1)[None, None]
        return F.grid_sample(self.x, at, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0].T


class _Side:
    """HR rows (or columns): their centres on [-1, 1], those of their nearest LR rows, and the difference in LR rows.

    At some real scales an HR centre lies exactly between two LR centres, and rounding would decide which is nearest.
    The nearest LR pixel is therefore computed in exact arithmetic; ``round`` takes the even one of a tie.
    """

    def __init__(self, lr_length: int, hr_length: int, like: Tensor) -> None:
        nearest = [
            min(max(round(Fraction((2 * p + 1) * lr_length, 2 * hr_length) - Fraction(1, 2)), 0), lr_length - 1)
            for p in range(hr_length)
        ]
        self.centre = _centres(hr_length, like)
        self.nearest = _centres(lr_length, like)[torch.tensor(nearest, device=like.device)]
        self.rel = (self.centre - self.nearest) * lr_length
        self.cell = 2 / hr_length * lr_length


def _centres(length: int, like: Tensor) -> Tensor:
    return (-1 + (2 * torch.arange(length, dtype=torch.float64) + 1) / length).to(like)


def _residual(model: Pcsr, q: Tensor, labels: Tensor) -> Tensor:
    residual = torch.empty(len(q), 3, device=q.device)
    for branch, sampler in enumerate(model.samplers):
        mine = labels == branch
        residual[mine] = sampler(q[mine])
    return residual
