"""Compute HR pixels from a tile's features: classify every pixel, then run the samplers.

Features come in bands of LR rows. Each band determines the HR rows nearest to it. On a CPU the rows are computed in
chunks and pieces, so that the data between two steps stays in the cache. The lightest branch runs at all pixels,
because gathering its own pixels would take longer. Each other branch runs at its own pixels.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.fused.samplers import PreparedMlp
from pcsr_cli.engine.grid import interpolate, make_axis
from pcsr_cli.engine.routing import Cuts, Decision, Forced, difficulty
from pcsr_cli.engine.tiles import Rect, Span, Tile, TilePlan
from pcsr_cli.model.flops import Executed

CHUNK_PIXELS = 131_072
"""HR pixels that are routed at once on a CPU. Devices other than a CPU compute a whole band at once."""

PIECE_PIXELS = 16_384
"""HR pixels for each thread at which an MLP is evaluated at once on a CPU."""


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

    ``rgb`` is float32 in [0, 1], not clamped. With ``labels`` (n, W) uint8, ``rgb`` is (3, n, W), each pixel from its
    branch. Without labels, ``rgb`` is (M, 3, n, W), each pixel from every branch, lightest first. ``difficulty`` (n, W)
    float32 is p_heavy for two branches.
    """

    rows: Span
    rgb: Tensor
    labels: Tensor | None
    difficulty: Tensor


@dataclass(frozen=True)
class Branches:
    """The results of all branches, on the CPU. The result of any routing can be composed from them.

    ``rgb`` (M, 3, H, W) float32 in [0, 1], lightest branch first, is neither clamped nor refined. ``difficulty`` is (H,
    W) float32. ``executed`` counts all branches at all pixels.
    """

    plan: TilePlan
    rgb: Tensor
    difficulty: Tensor
    executed: Executed


class AreaSampler:
    """Runs the samplers over an area of HR pixels of one tile: its core or its region.

    ``lr`` (1, 3, h, w) is the tile's input, RGB in [0, 1], on the device. ``shared`` and ``pixels`` count the LR pixels
    of an MLP's first layer and the HR pixels of its other layers.
    """

    def __init__(self, prepared: PreparedModel, plan: TilePlan, tile: Tile, area: Rect, lr: Tensor) -> None:
        self.prepared = prepared
        self.plan = plan
        self.tile = tile
        self.area = area
        self.lr = lr
        self.rows, self.columns = (
            make_axis(lr_length, hr_length, span.start, span.stop, lr.device, plan.exact)
            for lr_length, hr_length, span in zip(plan.lr_size, plan.hr_size, (area.rows, area.columns), strict=True)
        )
        self.lr_columns = self.columns.nearest - tile.sampled.columns.start
        self.shared: Counter[PreparedMlp] = Counter()
        self.pixels: Counter[PreparedMlp] = Counter()

    @property
    def executed(self) -> Executed:
        """The work executed so far."""
        classifier, samplers = self.prepared.classifier, self.prepared.samplers
        return Executed(
            classifier_shared=self.shared[classifier],
            classifier=self.pixels[classifier],
            branches_shared=tuple(self.shared[sampler] for sampler in samplers),
            branches=tuple(self.pixels[sampler] for sampler in samplers),
        )

    def difficulties(self, band: FeatureBand) -> Iterator[Tensor]:
        """Yield the difficulty (n, W) float32 of the area's HR rows nearest to a band."""
        here = BandSampler(self, band)
        for part in self.parts(band.rows, CHUNK_PIXELS):
            yield difficulty(here.probabilities(part))

    def predict(
        self, band: FeatureBand, decision: Decision, forced: Forced | None = None, known: Tensor | None = None
    ) -> Iterator[Sampled]:
        """Route and sample the area's HR rows nearest to a band. ``forced`` pixels get their forced branch.

        ``known`` (H, W) float32 is the difficulty of the image's pixels, if it is known. The decision is then a cut.
        """
        here, samplers = BandSampler(self, band), self.prepared.samplers
        for part in self.parts(band.rows, CHUNK_PIXELS):
            if known is None:
                probabilities = here.probabilities(part)
                labels, values = decision.labels(probabilities), difficulty(probabilities)
            else:
                assert isinstance(decision, Cuts)
                values = known[Rect(part.rows, self.area.columns).slices]
                labels = decision.labels_of_difficulty(values)
            if forced is not None:
                forced.override(labels, Rect(part.rows, self.area.columns), len(samplers) - 1)
            only = decision.only if forced is None and isinstance(decision, Cuts) else None
            rgb = here.everywhere(samplers[only or 0], part)
            for branch in range(1, len(samplers)) if only is None else ():
                rows, columns = (labels == branch).nonzero().t().contiguous()
                _put(rgb, rows, columns, here.at(samplers[branch], part, rows, columns))
            yield Sampled(part.rows, rgb.add_(here.base(part)), labels, values)

    def all_branches(self, band: FeatureBand) -> Iterator[Sampled]:
        """Compute every branch, and the difficulty, at all of the area's HR pixels nearest to a band."""
        here = BandSampler(self, band)
        for part in self.parts(band.rows, CHUNK_PIXELS):
            values = difficulty(here.probabilities(part))
            rgb = torch.stack([here.everywhere(sampler, part) for sampler in self.prepared.samplers])
            yield Sampled(part.rows, rgb.add_(here.base(part)), None, values)

    def parts(self, lr_rows: Span, pixels: int) -> Iterator["Part"]:
        """Cut LR rows into parts of about ``pixels`` HR pixels on a CPU. On other devices there is one part."""
        step = lr_rows.length
        if self.lr.device.type == "cpu":
            step = max(1, pixels * self.plan.lr_size[0] // (self.plan.hr_size[0] * self.area.columns.length))
        for top in range(lr_rows.start, lr_rows.stop, step):
            part = Span(top, min(top + step, lr_rows.stop))
            rows = self.plan.hr_rows(part).intersection(self.area.rows)
            if rows.length:
                yield Part(part, rows)


@dataclass(frozen=True)
class Part:
    """Some LR rows and the HR rows of an area that are nearest to them."""

    lr_rows: Span
    rows: Span


class BandSampler:
    """The HR rows of an area that are nearest to a band. First layers and the base's columns are computed once."""

    def __init__(self, area: AreaSampler, band: FeatureBand) -> None:
        self.area = area
        self.band = band
        plan = area.plan
        self.rows = plan.hr_rows(band.rows).intersection(area.area.rows)
        self.axis = area.rows.part(self.rows.within(area.area.rows))
        self._planes: dict[PreparedMlp, tuple[Tensor, Tensor, Tensor]] = {}
        self._tables: dict[PreparedMlp, Tensor] = {}

    def probabilities(self, part: Part) -> Tensor:
        """Class probabilities (M, n, W), or p_heavy (1, n, W) for two branches."""
        return self.area.prepared.probabilities(self.everywhere(self.area.prepared.classifier, part))

    def everywhere(self, mlp: PreparedMlp, part: Part) -> Tensor:
        """Outputs (outputs, n, W) of an MLP at all pixels, in memory as (n, outputs, W)."""
        if mlp not in self._planes:
            self._planes[mlp] = mlp.planes(self._features(mlp), self.axis, self.area.columns)
        found = [
            mlp.finish(self._first_layer(piece, *self._planes[mlp]))
            for piece in self.area.parts(part.lr_rows, PIECE_PIXELS * torch.get_num_threads())
        ]
        outputs = found[0] if len(found) == 1 else torch.cat(found)
        self.area.pixels[mlp] += outputs[:, 0].numel()
        return outputs.transpose(0, 1)

    def at(self, mlp: PreparedMlp, part: Part, rows: Tensor, columns: Tensor) -> Tensor:
        """Outputs (outputs, N) of an MLP at the pixels with these row and column numbers (int64) in a part."""
        if mlp not in self._tables:
            self._tables[mlp] = mlp.table(self._features(mlp), self.axis, self.area.columns)
        rows = rows + (part.rows.start - self.rows.start)
        lr_rows = self.axis.nearest.index_select(0, rows) - self.band.rows.start
        lr_columns = self.area.lr_columns.index_select(0, columns)
        lr_pixels = lr_rows * self.band.features.shape[3] + lr_columns
        first_row = self.band.pixels
        bags = torch.stack((lr_pixels, rows + first_row, columns + (first_row + self.rows.length)), dim=1)
        self.area.pixels[mlp] += bags.shape[0]
        return mlp.at(self._tables[mlp], bags.int())

    def base(self, part: Part) -> Tensor:
        """The bilinear enlargement of the LR image, (3, n, W) in [0, 1]."""
        wide, origin = self._base_columns
        return interpolate(wide, self.axis.part(part.rows.within(self.rows)), 0, origin).transpose(0, 1)

    @cached_property
    def _base_columns(self) -> tuple[Tensor, int]:
        """The LR rows that the base reads, enlarged to (h, 3, W), and the index of the first of these rows."""
        tile = self.area.tile.input
        rows = self.band.rows.grown(1, self.area.plan.lr_size[0])
        lr = self.area.lr[0, :, rows.within(tile.rows)].transpose(0, 1)
        return interpolate(lr, self.area.columns, 2, tile.columns.start), rows.start

    def _features(self, mlp: PreparedMlp) -> Tensor:
        """Return the features (C, h, w) for the first layer of an MLP, and count the pixels of that layer."""
        self.area.shared[mlp] += self.band.pixels
        return self.band.features[0]

    def _first_layer(self, part: Part, shared: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
        """The first layer (H, n, W) of an MLP at all pixels of a part. The tensors are the results of ``planes``."""
        rows = shared[part.lr_rows.within(self.band.rows)]
        # index_select is several times faster in two dimensions than in three.
        wide = rows.flatten(0, 1).index_select(1, self.area.lr_columns)
        count = part.lr_rows.length
        wide = wide.view(count, -1, wide.shape[1]).add_(of_columns)
        of_rows = of_rows[part.rows.within(self.rows)]
        plan, each = self.area.plan, part.rows.length // count
        all_rows = part.rows.length * plan.lr_size[0] == count * plan.hr_size[0]
        if count == 1 or (all_rows and part.rows.length == count * each):  # as many HR rows for each LR row
            return (wide[:, None] + of_rows.view(count, each, -1, 1)).flatten(0, 1)
        nearest = self.axis.nearest[part.rows.within(self.rows)] - part.lr_rows.start
        return wide.index_select(0, nearest).add_(of_rows)


def _put(rgb: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Set pixels of ``rgb`` (3, n, W), which lies in memory as (n, 3, W), to ``values`` (3, N)."""
    width = rgb.shape[2]
    channels = torch.arange(3, device=rgb.device)[:, None]
    where = rows * (3 * width) + columns + channels * width
    rgb.transpose(0, 1).view(-1).scatter_(0, where.view(-1), values.reshape(-1))
