"""Compute HR pixels from a tile's features: classify every pixel, then run the sampler of its branch.

Features come in bands of LR rows. Each band determines the HR rows nearest to it. The rows are computed in chunks, so
that the data between the layers of an MLP stays in the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.fused.samplers import PreparedMlp
from pcsr_cli.engine.grid import Axis, bilinear, make_axis
from pcsr_cli.engine.routing import Decision, Forced, difficulty
from pcsr_cli.engine.tiles import Rect, Span, Tile, TilePlan
from pcsr_cli.model.flops import Executed

CHUNK_PIXELS = 65_536
"""HR pixels computed at once on a CPU. Devices other than a CPU compute a whole band at once."""


@dataclass(frozen=True)
class FeatureBand:
    """Features (1, C, n, w) of the LR rows ``rows`` of the image, over the columns that a tile samples."""

    rows: Span
    features: Tensor

    @property
    def pixels(self) -> int:
        """Number of LR pixels."""
        return self.rows.length * self.features.shape[3]


@dataclass(frozen=True)
class Sampled:
    """HR rows of an area. ``rows`` are the positions of the HR rows in the image.

    ``rgb`` is float32 in [0, 1], not clamped. With ``labels`` (n, W) uint8, ``rgb`` is (n, W, 3), each pixel from its
    branch. Without labels, ``rgb`` is (M, n, W, 3), each pixel from every branch, lightest first. ``difficulty`` (n, W)
    float32 is p_heavy for two branches. ``branch_pixels`` counts the pixels that each branch computed.
    """

    rows: Span
    rgb: Tensor
    labels: Tensor | None
    difficulty: Tensor
    branch_pixels: tuple[int, ...]


@dataclass(frozen=True)
class Branches:
    """The results of all branches, on the CPU. The results of any routing can be composed from those of all branches.

    ``rgb`` (M, H, W, 3) float32 in [0, 1], lightest branch first, is neither clamped nor refined. ``difficulty`` is (H,
    W) float32. ``executed`` counts all branches at all pixels.
    """

    plan: TilePlan
    rgb: Tensor
    difficulty: Tensor
    executed: Executed


class AreaSampler:
    """Runs the samplers over an area of HR pixels of one tile: its core or its region.

    ``lr`` (1, 3, h, w) is the tile's input, RGB in [0, 1], on the device.
    """

    def __init__(self, prepared: PreparedModel, plan: TilePlan, tile: Tile, area: Rect, lr: Tensor) -> None:
        self.prepared = prepared
        self.plan = plan
        self.tile = tile
        self.area = area
        self.lr = lr
        self.columns = make_axis(plan.lr_size[1], plan.hr_size[1], area.columns.start, area.columns.stop, lr.device)
        self.lr_columns = (self.columns.nearest - tile.sampled.columns.start).int()

    def difficulties(self, band: FeatureBand) -> Iterator[Tensor]:
        """Yield the difficulty (n, W) float32 of the area's HR rows nearest to a band."""
        for chunk in self._chunks(band):
            probabilities = self.prepared.probabilities(chunk.evaluate(self.prepared.classifier))
            yield difficulty(probabilities).view(chunk.rows.length, -1)

    def predict(self, band: FeatureBand, decision: Decision, forced: Forced | None = None) -> Iterator[Sampled]:
        """Route and sample the area's HR rows nearest to a band. ``forced`` pixels get their forced branch."""
        for chunk in self._chunks(band):
            probabilities = self.prepared.probabilities(chunk.evaluate(self.prepared.classifier))
            labels = decision.labels(probabilities)
            height = chunk.rows.length
            if forced is not None:
                area = Rect(chunk.rows, self.area.columns)
                forced.override(labels.view(height, -1), area, self.prepared.branches - 1)
            residual = torch.empty(labels.shape[0], 3, dtype=torch.float32, device=labels.device)
            counts = []
            for branch, sampler in enumerate(self.prepared.samplers):
                pixels = (labels == branch).nonzero().squeeze(1)
                counts.append(pixels.shape[0])
                residual.index_copy_(0, pixels, chunk.sample(sampler, pixels))
            rgb = residual.view(height, -1, 3).add_(self._base(chunk.rows))
            values = difficulty(probabilities).view(height, -1)
            yield Sampled(chunk.rows, rgb, labels.view(height, -1), values, tuple(counts))

    def all_branches(self, band: FeatureBand) -> Iterator[Sampled]:
        """Compute every branch, and the difficulty, at all of the area's HR pixels nearest to a band."""
        for chunk in self._chunks(band):
            height = chunk.rows.length
            values = difficulty(self.prepared.probabilities(chunk.evaluate(self.prepared.classifier)))
            base = self._base(chunk.rows)
            everywhere = [chunk.sample(sampler).view(height, -1, 3) for sampler in self.prepared.samplers]
            rgb = [residual.add_(base) for residual in everywhere]
            counts = (values.numel(),) * self.prepared.branches
            yield Sampled(chunk.rows, torch.stack(rgb), None, values.view(height, -1), counts)

    def _base(self, rows: Span) -> Tensor:
        """The bilinear enlargement of some HR rows, (n, W, 3) in [0, 1]."""
        tile = self.tile.input
        lr_rows = self.plan.lr_rows(rows).grown(1, self.plan.lr_size[0])
        lr = self.lr[:, :, lr_rows.within(tile.rows)]
        return bilinear(lr, self._row_axis(rows), self.columns, (lr_rows.start, tile.columns.start))[0].permute(1, 2, 0)

    def _row_axis(self, rows: Span) -> Axis:
        return make_axis(self.plan.lr_size[0], self.plan.hr_size[0], rows.start, rows.stop, self.lr.device)

    def _chunks(self, band: FeatureBand) -> Iterator["_Chunk"]:
        rows = self.plan.hr_rows(band.rows).intersection(self.area.rows)
        if not rows.length:
            return
        tables = _BandTables(band.features, self._row_axis(rows), self.columns)
        base = (tables.axis.nearest - band.rows.start).int() * band.features.shape[3]
        width = self.area.columns.length
        height = max(1, CHUNK_PIXELS // width) if self.lr.device.type == "cpu" else rows.length
        terms = tables.lr_pixels + torch.arange(rows.length, dtype=torch.int32, device=self.lr.device)
        columns = tables.lr_pixels + rows.length + torch.arange(width, dtype=torch.int32, device=self.lr.device)
        for start in range(0, rows.length, height):
            part = slice(start, min(start + height, rows.length))
            shape = (part.stop - start, width)
            lr_index = base[part, None] + self.lr_columns
            bags = torch.stack((lr_index, terms[part, None].expand(shape), columns.expand(shape)), dim=-1)
            yield _Chunk(Span(rows.start + start, rows.start + part.stop), bags.view(-1, 3), tables)


class _BandTables:
    """First-layer tables of one band, each computed on first use."""

    def __init__(self, features: Tensor, axis: Axis, columns: Axis) -> None:
        self.features = features
        self.axis = axis
        self.columns = columns
        self.lr_pixels = features.shape[2] * features.shape[3]
        self.made: dict[PreparedMlp, Tensor] = {}

    @cached_property
    def rows_of_features(self) -> Tensor:
        """The features as (LR pixels, C)."""
        return self.features[0].permute(1, 2, 0).reshape(self.lr_pixels, -1)

    def of(self, mlp: PreparedMlp) -> Tensor:
        """The first-layer table of an MLP."""
        if mlp not in self.made:
            self.made[mlp] = mlp.table(self.rows_of_features, self.axis, self.columns)
        return self.made[mlp]


@dataclass(frozen=True)
class _Chunk:
    """Some HR rows of a band. ``bags`` (N, 3) int32 holds the three table rows of each pixel."""

    rows: Span
    bags: Tensor
    tables: _BandTables

    def evaluate(self, mlp: PreparedMlp) -> Tensor:
        """Outputs of an MLP with narrow layers at all pixels."""
        return mlp(self.tables.of(mlp), self.bags)

    def sample(self, mlp: PreparedMlp, pixels: Tensor | None = None) -> Tensor:
        """Outputs of an MLP at all pixels, or at chosen ones (int64 indices into the chunk)."""
        bags = self.bags if pixels is None else self.bags.index_select(0, pixels)
        return mlp.in_pieces(self.tables.of(mlp), bags)
