"""The engine: an LR image in, an HR image out, tile by tile, routed once for the whole image.

A tiled result is the whole-image result: tiles see the halo their features depend on, are cut at the image's own
borders, and share one routing decision. Within a tile everything flows in bands of rows, from the backbone to the
``Canvas``, so that memory is set by the band and the tile, not by the image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcsr_cli.adm import DifficultySurvey, decide_adaptively
from pcsr_cli.canvas import Canvas
from pcsr_cli.devices import full_float32
from pcsr_cli.fast.prepare import PreparedModel
from pcsr_cli.fast.rows import Ledger
from pcsr_cli.flops import Executed, model_costs
from pcsr_cli.model import Pcsr
from pcsr_cli.refine import NEVER, RING, RowRefiner
from pcsr_cli.routing import Decision, Routing, Threshold, decide
from pcsr_cli.sampling import AreaSampler, FeatureBand, Prediction
from pcsr_cli.tiles import Rect, Span, Tile, TilePlan, plan_tiles

CPU_TILE_WIDTH = 768
"""LR columns of a tile on a CPU, where rows flow through and a tile is as high as the image: the halo adds a
twentieth to the backbone's work, and bands of some ten rows fit the cache."""

DEVICE_TILE = 512
"""LR pixels a side of a tile on other devices, which take a tile at once."""

FEATURE_BUDGET = 512 * 2**20
"""Bytes of features that ADM keeps from its first pass; beyond that it computes them again."""

Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""


@dataclass(frozen=True)
class Settings:
    """How to upscale.

    ``refine`` is the paper's #h (0..9, 9 is off); ``tile`` is in LR pixels, None to let the engine choose.
    """

    routing: Routing = field(default_factory=Threshold)
    refine: int = 1
    tile: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What was done: ``branch_pixels`` counts the result's pixels by branch, ``executed`` what really ran."""

    plan: TilePlan
    decision: Decision
    branch_pixels: tuple[int, ...]
    executed: Executed

    @property
    def heavy_share(self) -> float:
        """Share of the result's pixels that got the heaviest branch."""
        return self.branch_pixels[-1] / self.plan.hr_pixels


def plan_for(model: Pcsr, lr_size: tuple[int, int], scale: float, settings: Settings) -> TilePlan:
    """The tile plan that ``upscale`` uses for an LR image of (height, width)."""
    ring = RING if settings.refine < NEVER else 0
    height, width = (settings.tile, settings.tile) if settings.tile else _auto_tile(model.device, lr_size)
    return plan_tiles(lr_size, scale, (height, width), model.encoder.receptive_radius, ring)


def _auto_tile(device: torch.device, lr_size: tuple[int, int]) -> tuple[int, int]:
    return (lr_size[0], CPU_TILE_WIDTH) if device.type == "cpu" else (DEVICE_TILE, DEVICE_TILE)


@torch.inference_mode()
def upscale(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, canvas: Canvas, progress: Progress | None = None
) -> Outcome:
    """Upscale a whole image onto ``canvas``.

    ``lr`` is (1, 3, h, w) float32 RGB in [0, 1], on any device; ``scale`` is real and at least 1. The work is done
    on the model's device in the model's precision, with sums into the result in float32. Raises UsageError where the
    model has no such routing.
    """
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    decision = decide(settings.routing, model_costs(model).routed(scale))
    run = _Run(PreparedModel(model), lr, plan, 1 if decision else 2, progress)
    with full_float32(model.device):
        return run.paint(decision or run.decide(), settings.refine, canvas)


class _Run:
    """One image on its way through the engine: what passes share, and the tally of what was executed."""

    def __init__(
        self, prepared: PreparedModel, lr: Tensor, plan: TilePlan, passes: int, progress: Progress | None
    ) -> None:
        self.prepared = prepared
        self.lr = lr
        self.plan = plan
        self.passes_left = passes
        self.progress = progress
        self.work = passes * sum(tile.sampled.area for tile in plan.tiles)
        self.work_done = 0
        self.executed = Executed()
        self.kept: dict[Tile, list[FeatureBand]] = {}
        number = prepared.model.dtype.itemsize * prepared.model.spec.backbone.width
        self.keeps_features = passes > 1 and number * self.work // passes <= FEATURE_BUDGET

    def decide(self) -> Decision:
        """ADM's first pass: the difficulty of the whole image, and the cut it leads to."""
        survey = DifficultySurvey(self.plan.hr_pixels)
        for tile in self.plan.tiles:
            lr = self._seen(tile)
            sampler = AreaSampler(self.prepared, self.plan, tile, tile.core, lr)
            for band in self._bands(tile, lr):
                # A band may lie within the refinement ring altogether: then nothing is classified in it.
                shared = band.pixels
                for values in sampler.difficulties(band):
                    self.executed += Executed(classifier=values.numel(), classifier_shared=shared)
                    survey.add(values)
                    shared = 0
        self.passes_left -= 1
        return decide_adaptively(survey.values(), self.prepared.branches)

    def paint(self, decision: Decision, refine: int, canvas: Canvas) -> Outcome:
        """Predict, refine and hand over every tile."""
        counts = torch.zeros(self.prepared.branches, dtype=torch.int64, device=self.prepared.model.device)
        for tile in self.plan.tiles:
            lr = self._seen(tile)
            sampler = AreaSampler(self.prepared, self.plan, tile, tile.region, lr)
            strip = _Strip(tile, refine, canvas, counts)
            for band in self._bands(tile, lr):
                self.executed += Executed(classifier_shared=band.pixels, branches_shared=band.pixels)
                for prediction in sampler.predict(band, decision):
                    sampled = prediction.branch_pixels
                    self.executed += Executed(classifier=sum(sampled), branches=sampled)
                    strip.push(prediction)
            strip.finish()
        heavier = [int(count) for count in counts.tolist()[1:]]
        branch_pixels = (self.plan.hr_pixels - sum(heavier), *heavier)
        return Outcome(self.plan, decision, branch_pixels, self.executed)

    def _seen(self, tile: Tile) -> Tensor:
        return self.lr[:, :, *tile.seen.slices].to(self.prepared.model.device)

    def _bands(self, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        """The features a tile samples, band by band: kept from the first pass, or computed (again)."""
        bands = iter(self.kept.pop(tile)) if tile in self.kept else self._compute_bands(tile, lr)
        keep = self.keeps_features and self.passes_left > 1
        for band in bands:
            if keep:
                self.kept.setdefault(tile, []).append(band)
            yield band
            self.work_done += band.pixels
            if self.progress is not None:
                self.progress(self.work_done / self.work)

    def _compute_bands(self, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        columns = tile.sampled.columns.within(tile.seen.columns)
        top = tile.seen.rows.start
        ledger = Ledger()
        for features in self.prepared.feature_bands(self.prepared.model.normalise(lr), ledger):
            rows = Span(top, top + features.shape[2])
            top = rows.stop
            wanted = rows.intersection(tile.sampled.rows)
            if wanted.length:
                yield FeatureBand(wanted, features[:, :, wanted.within(rows), columns])
        self.executed += Executed(backbone=tile.seen.area, repeated=ledger.repeated)


class _Strip:
    """One tile's way out: predictions come in rows, are refined, cut to the core, and go to the canvas."""

    def __init__(self, tile: Tile, refine: int, canvas: Canvas, counts: Tensor) -> None:
        self.tile = tile
        self.refiner = RowRefiner(refine)
        self.canvas = canvas
        self.counts = counts
        self.next_row = tile.region.rows.start

    def push(self, prediction: Prediction) -> None:
        """Take the next rows of the region."""
        self._write(*self.refiner.push(prediction.rgb, prediction.labels))

    def finish(self) -> None:
        """Hand over what the refiner held back."""
        if last := self.refiner.finish():
            self._write(*last)

    def _write(self, rgb: Tensor, labels: Tensor) -> None:
        rows = Span(self.next_row, self.next_row + labels.shape[0])
        self.next_row = rows.stop
        core = Rect(rows.intersection(self.tile.core.rows), self.tile.core.columns)
        if core.area:
            inside = core.within(Rect(rows, self.tile.region.columns))
            rgb, labels = rgb[inside], labels[inside]
            for branch in range(1, self.counts.numel()):
                self.counts[branch] += (labels == branch).sum()
            self.canvas.write(core, rgb, labels)
