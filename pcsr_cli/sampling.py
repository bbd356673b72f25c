"""From a tile's features to its HR pixels: classify every pixel, then give each to its branch's sampler.

HR rows are worked through in bands, so that the intermediate layers of the MLPs stay in cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.grid import Axis, bilinear, make_axis
from pcsr_cli.model import Pcsr
from pcsr_cli.nets.sampler import PixelSampler, gather_first
from pcsr_cli.routing import Cuts, Decision, difficulty
from pcsr_cli.tiles import Rect, Span

BAND_PIXELS = 16_384
"""HR pixels worked on at once."""


@dataclass(frozen=True)
class TileInput:
    """What sampling a region needs.

    ``features`` (1, C, h, w) of the ``sampled`` LR pixels, ``base`` (3, H, W) float32 in the network's units, and
    where the region's HR rows and columns lie on the LR grid."""

    features: Tensor
    base: Tensor
    sampled: Rect
    rows: Axis
    columns: Axis


@dataclass(frozen=True)
class Prediction:
    """A region's HR pixels: ``rgb`` (3, H, W) float32 in the network's units, ``labels`` (H, W) uint8 branches."""

    rgb: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Band:
    """Some HR rows of a region, flattened: the LR pixel, row and column of each of its N pixels."""

    rows: Span
    lr_index: Tensor
    row_index: Tensor
    column_index: Tensor


def region_axes(
    lr_size: tuple[int, int], hr_size: tuple[int, int], region: Rect, device: torch.device
) -> tuple[Axis, Axis]:
    """The axes of a region's HR rows and columns."""
    rows = make_axis(lr_size[0], hr_size[0], region.rows.start, region.rows.stop, device)
    columns = make_axis(lr_size[1], hr_size[1], region.columns.start, region.columns.stop, device)
    return rows, columns


def tile_input(seen: Tensor, features: Tensor, seen_at: Rect, sampled: Rect, axes: tuple[Axis, Axis]) -> TileInput:
    """Put together what sampling needs; ``seen`` (1, 3, h, w) is the tile's normalised LR crop, at ``seen_at``."""
    rows, columns = axes
    base = bilinear(seen, rows, columns, origin=(seen_at.rows.start, seen_at.columns.start))[0]
    return TileInput(features, base, sampled, rows, columns)


def predict_difficulty(model: Pcsr, tile: TileInput) -> Tensor:
    """Difficulty of every pixel of a region, (H, W) float32: p_heavy where there are two branches."""
    split = _SplitMlp(model.classifier, tile)
    bands = [difficulty(split.probabilities(band)) for band in _bands(tile)]
    return torch.cat(bands).view(tile.base.shape[1:])


def predict(model: Pcsr, tile: TileInput, decision: Decision, known_difficulty: Tensor | None = None) -> Prediction:
    """Route every pixel of a region to its branch and sample it.

    ``known_difficulty`` (H, W), where an earlier pass has found it, spares the classifier.
    """
    classifier = _SplitMlp(model.classifier, tile) if known_difficulty is None else None
    samplers = [_SplitMlp(sampler, tile) for sampler in model.samplers]
    rgb = torch.empty(tile.base.shape[1:].numel(), 3, dtype=torch.float32, device=tile.base.device)
    labels = torch.empty(tile.base.shape[1:], dtype=torch.uint8, device=tile.base.device)
    width = tile.base.shape[2]
    for band in _bands(tile):
        if classifier is not None:
            band_labels = decision.labels(classifier.probabilities(band))
        else:
            assert known_difficulty is not None
            band_labels = _labels_known(decision, known_difficulty[band.rows.start : band.rows.stop].reshape(-1))
        labels[band.rows.start : band.rows.stop] = band_labels.view(-1, width)
        band_rgb = rgb[band.rows.start * width : band.rows.stop * width]
        for branch, sampler in enumerate(samplers):
            pixels = (band_labels == branch).nonzero().squeeze(1)
            band_rgb.index_copy_(0, pixels, sampler.at(band, pixels).float())
    return Prediction(rgb.view(*labels.shape, 3).permute(2, 0, 1) + tile.base, labels)


def _labels_known(decision: Decision, values: Tensor) -> Tensor:
    assert isinstance(decision, Cuts), "only ADM looks at the image first, and it decides by cuts"
    return decision.labels_of_difficulty(values)


class _SplitMlp:
    """A sampler over one region, with its first layer's LR products and coordinate terms computed once."""

    def __init__(self, sampler: PixelSampler, tile: TileInput) -> None:
        self.sampler = sampler
        self.shared = sampler.shared_product(tile.features).flatten(0, 1)
        self.rows, self.columns = sampler.coordinate_terms(
            tile.rows.rel, tile.columns.rel, (tile.rows.cell, tile.columns.cell)
        )

    def at(self, band: _Band, pixels: Tensor | None = None) -> Tensor:
        """Outputs (N, outputs) at all pixels of a band, or at the chosen ones (int64 indices into it)."""
        indices: Sequence[Tensor] = (band.lr_index, band.row_index, band.column_index)
        if pixels is not None:
            indices = [index.index_select(0, pixels) for index in indices]
        lr_index, row_index, column_index = indices
        rows, columns = self.rows.index_select(0, row_index), self.columns.index_select(0, column_index)
        return self.sampler.finish(gather_first(self.shared, lr_index, rows, columns))

    def probabilities(self, band: _Band) -> Tensor:
        """Class probabilities (N, M) float32 at all pixels of a band."""
        return self.at(band).float().softmax(dim=1)


def _bands(tile: TileInput) -> Iterator[_Band]:
    height, width = tile.base.shape[1:]
    sampled_width = tile.sampled.columns.length
    lr_rows = tile.rows.nearest - tile.sampled.rows.start
    lr_columns = tile.columns.nearest - tile.sampled.columns.start
    device = tile.base.device
    columns = torch.arange(width, device=device)
    step = max(1, BAND_PIXELS // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        lr_index = (lr_rows[start:stop, None] * sampled_width + lr_columns).flatten()
        row_index = torch.arange(start, stop, device=device).repeat_interleave(width)
        yield _Band(Span(start, stop), lr_index, row_index, columns.repeat(stop - start))
