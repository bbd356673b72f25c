"""Passes over a picture's tiles: to survey how hard it is, to paint the result, or to explore all branches.

Within a tile everything flows in bands of rows, from the backbone to the ``Canvas``, so that memory is set by the band
and the tile, not by the picture.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pcsr_cli.engine.device import Downloads, full_float32
from pcsr_cli.engine.features import TileFeatures
from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.fused.prepare import PreparedModel
from pcsr_cli.engine.levels import to_levels
from pcsr_cli.engine.memory import auto_tile, feature_budget
from pcsr_cli.engine.pace import Pace
from pcsr_cli.engine.refine import NEVER, RING, RowRefiner
from pcsr_cli.engine.routing import (
    Budget,
    Cuts,
    Decision,
    DifficultySurvey,
    Routing,
    Size,
    Threshold,
    cut_for_share,
    decide,
    decide_adaptively,
    heavy_share,
)
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.sampling import AreaSampler, Branches, FeatureBand, Prediction
from pcsr_cli.engine.tiles import Rect, Span, Tile, TilePlan, plan_tiles
from pcsr_cli.errors import is_out_of_memory
from pcsr_cli.model.flops import Executed, model_costs
from pcsr_cli.model.network import Pcsr


class Canvas(Protocol):
    """Takes the result strip by strip from the top, and within a strip areas in any order.

    ``strip_pixel_bytes`` is what a pixel of a strip costs in memory; 0 where a strip costs nothing beside the whole.
    """

    strip_pixel_bytes: int

    def begin(self, rows: Span) -> None:
        """The strip that comes next."""
        ...

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the strip; it may come again, and then counts instead.

        ``rgb`` (n, W, 3) is float32 in [0, 1] but not clamped, ``labels`` (n, W) uint8 are branches."""
        ...

    def finish(self) -> None:
        """The strip is complete."""
        ...


class _WholeCanvas:
    """The whole result in memory."""

    strip_pixel_bytes = 0

    def __init__(self) -> None:
        self._downloads = Downloads()

    def begin(self, rows: Span) -> None:
        """Nothing to prepare."""

    def finish(self) -> None:
        """Wait for what is under way."""
        self._downloads.settle()


class FloatCanvas(_WholeCanvas):
    """The whole result as float32 RGB (3, H, W), not clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.rgb = torch.empty(3, height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self._downloads.bring(rgb.permute(2, 0, 1), self.rgb[:, *area.slices])
        self._downloads.bring(labels, self.labels[area.slices])


class ByteCanvas(_WholeCanvas):
    """The whole result as uint8 RGB (H, W, 3), rounded and clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.rgb = torch.empty(height, width, 3, dtype=torch.uint8, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self._downloads.bring(to_levels(rgb, torch.uint8), self.rgb[area.slices])
        self._downloads.bring(labels, self.labels[area.slices])


class RowCanvas:
    """Gathers one strip of the result at a time and hands it on as full-width rows, top to bottom.

    ``take`` gets each strip's rows (n, W, 3) on the CPU, of ``dtype``: uint8 or uint16 levels, or float32 numbers,
    not clamped. They are its own. ``branches`` (H, W) uint8, if given, is filled with all pixels' branches."""

    def __init__(
        self, width: int, dtype: torch.dtype, take: Callable[[Tensor], None], branches: Tensor | None = None
    ) -> None:
        self.width = width
        self.dtype = dtype
        self.take = take
        self.branches = branches
        self.strip_pixel_bytes = 3 * dtype.itemsize
        self._rows = Span(0, 0)
        self._strip = self._room()
        self._downloads = Downloads()

    def begin(self, rows: Span) -> None:
        """Make room for a strip."""
        self._rows = rows
        self._strip = self._room()

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the strip."""
        values = rgb if self.dtype.is_floating_point else to_levels(rgb, self.dtype)
        inside = area.within(Rect(self._rows, Span(0, self.width)))
        self._downloads.bring(values, self._strip[inside])
        if self.branches is not None:
            self._downloads.bring(labels, self.branches[area.slices])

    def finish(self) -> None:
        """Hand the strip on."""
        self._downloads.settle()
        strip, self._rows = self._strip, Span(0, 0)
        self._strip = self._room()
        self.take(strip)

    def _room(self) -> Tensor:
        return torch.empty(self._rows.length, self.width, 3, dtype=self.dtype, device="cpu")


class Strip:
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


Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""


class NotFiniteError(ArithmeticError):
    """Half precision overflowed somewhere in a tile."""


class Passes:
    """One picture on its way through the engine: what passes share, and the tally of what was executed.

    ``passes`` are to come; ``budget`` is how many bytes of features may be kept between them. ``forced`` pixels get the
    branch a person chose.
    """

    def __init__(
        self,
        model: Pcsr,
        lr: Tensor,
        plan: TilePlan,
        passes: int,
        budget: int,
        progress: Progress | None,
        forced: Forced | None = None,
    ) -> None:
        self.prepared = PreparedModel(model)
        self.plan = plan
        self.forced = forced
        self.tiles = plan.tiles
        self.progress = progress
        sampled = sum(tile.sampled.area for tile in plan.tiles)
        self.work = passes * sampled
        self.work_done = 0
        number = model.dtype.itemsize * model.spec.backbone.width
        self.keeps_features = passes > 1 and number * sampled <= budget
        self.features = TileFeatures(lr, model.dtype if self.keeps_features else None)
        self.pace: Pace | None = None
        self._overflowing: set[Tile] = set()
        self._executed = Executed()

    @property
    def executed(self) -> Executed:
        """What ran so far."""
        return self._executed + self.features.executed

    def decide(self, routing: Routing, refine: int) -> Decision:
        """The first pass of ADM and of budgets: the difficulty of the whole picture, and the cut it leads to."""
        survey = DifficultySurvey(self.plan.hr_pixels)
        if isinstance(routing, Budget) and routing.seconds is not None:
            self.pace = Pace(self.prepared.device, refine)
        if not isinstance(routing, Budget):
            self.survey(survey)
            return decide_adaptively(survey.values(), self.prepared.branches)
        self.survey(survey, self.forced)
        share = self._affordable(routing)
        if self.forced is None:
            return Cuts((cut_for_share(survey.values(), share),))
        free = survey.values()
        return Cuts((cut_for_share(free, self.forced.share_of_free(share)) if free.numel() else 1.0,))

    def _affordable(self, budget: Budget) -> float:
        """The share of heavy pixels that a budget pays for."""
        if budget.gflops is not None:
            size = Size(self.plan.lr_pixels, self.plan.hr_pixels)
            return heavy_share(model_costs(self.prepared.model), size, budget.gflops)
        assert self.pace is not None and budget.seconds is not None
        return self.pace.heavy_share(budget.seconds, self.plan.hr_pixels, self.keeps_features)

    def survey(self, survey: DifficultySurvey, without: Forced | None = None) -> None:
        """Collect the difficulty of every pixel, or of all but those whose branch is chosen anyhow."""

        def collect(prepared: PreparedModel, tile: Tile) -> None:
            # A tile may have to be done again: nothing of it counts before all of it is done.
            values = self._difficulties(prepared, tile)
            survey.add(values if without is None else values.cpu()[without.free(tile.core)])

        self.tiles = self._each(self.tiles, collect)
        self.features.keep = None

    def paint(
        self, decision: Decision, refine: int, canvas: Canvas, routed: RoutingMap | None = None
    ) -> tuple[int, ...]:
        """Predict, refine and hand over every tile; returns how many of the result's pixels each branch got.

        ``routed`` is told of every pixel's routing.
        """
        counts = torch.zeros(self.prepared.branches, dtype=torch.int64, device=self.prepared.device)

        def paint_tile(prepared: PreparedModel, tile: Tile) -> None:
            lr = self.features.seen(prepared, tile)
            sampler = AreaSampler(prepared, self.plan, tile, tile.region, lr)
            strip = Strip(tile, refine, canvas, torch.zeros_like(counts))
            for band in self._bands(prepared, tile, lr):
                self._executed += Executed(classifier_shared=band.pixels, branches_shared=band.pixels)
                for prediction in sampler.predict(band, decision, self.forced):
                    self._check(prepared, prediction.rgb)
                    sampled = prediction.branch_pixels
                    self._executed += Executed(classifier=sum(sampled), branches=sampled)
                    if routed is not None:
                        routed.record(tile, prediction)
                    strip.push(prediction)
            strip.finish()
            counts.add_(strip.counts)

        for rows in self.plan.strips:
            canvas.begin(rows)
            self._each((tile for tile in self.tiles if rows.start <= tile.core.rows.start < rows.stop), paint_tile)
            canvas.finish()
        heavier = [int(count) for count in counts.tolist()[1:]]
        return self.plan.hr_pixels - sum(heavier), *heavier

    def explore(self) -> Branches:
        """Give every pixel to every branch."""
        rgb = torch.empty(self.prepared.branches, *self.plan.hr_size, 3, dtype=torch.float32, device="cpu")
        values = torch.empty(self.plan.hr_size, dtype=torch.float32, device="cpu")

        def explore_tile(prepared: PreparedModel, tile: Tile) -> None:
            lr = self.features.seen(prepared, tile)
            sampler = AreaSampler(prepared, self.plan, tile, tile.region, lr)
            for band in self._bands(prepared, tile, lr):
                self._executed += Executed(classifier_shared=band.pixels, branches_shared=band.pixels)
                for part in sampler.all_branches(band):
                    self._check(prepared, part.rgb)
                    count = part.difficulty.numel()
                    self._executed += Executed(classifier=count, branches=(count,) * prepared.branches)
                    core = Rect(part.rows.intersection(tile.core.rows), tile.core.columns)
                    inside = core.within(Rect(part.rows, tile.region.columns))
                    rgb[:, *core.slices] = part.rgb[:, *inside].cpu()
                    values[core.slices] = part.difficulty[inside].cpu()

        tiles = self._each(self.tiles, explore_tile)
        return Branches(replace(self.plan, tiles=tiles), rgb, values, self.executed)

    def _each(self, tiles: Iterable[Tile], work: Callable[[PreparedModel, Tile], None]) -> tuple[Tile, ...]:
        """Do some work on tiles, whatever it takes: smaller tiles, or float32. Returns the tiles it took."""
        waiting, done = deque(tiles), []
        while waiting:
            tile = waiting.popleft()
            try:
                work(self._in_float32 if tile in self._overflowing else self.prepared, tile)
            except NotFiniteError:
                self._overflowing.add(tile)
                waiting.appendleft(tile)
            except (RuntimeError, MemoryError) as error:
                parts = self.plan.quarters(tile) if is_out_of_memory(error) else ()
                if len(parts) <= 1:
                    raise
                self.features.forget(tile)
                waiting.extendleft(reversed(parts))
            else:
                done.append(tile)
        return tuple(done)

    @cached_property
    def _in_float32(self) -> PreparedModel:
        return PreparedModel(copy.deepcopy(self.prepared.model).float())

    @staticmethod
    def _check(prepared: PreparedModel, values: Tensor) -> None:
        if prepared.model.dtype == torch.float16 and not bool(values.isfinite().all()):
            raise NotFiniteError

    def _difficulties(self, prepared: PreparedModel, tile: Tile) -> Tensor:
        """The difficulties of a tile's own pixels, (n, W) float32 on the model's device."""
        core = tile.core
        found = torch.empty(core.rows.length, core.columns.length, dtype=torch.float32, device=prepared.device)
        top = 0
        lr = self.features.seen(prepared, tile)
        sampler = AreaSampler(prepared, self.plan, tile, core, lr)
        for band in self._bands(prepared, tile, lr):
            # A band may lie within the refinement ring altogether: then nothing is classified in it.
            shared = band.pixels
            for values in sampler.difficulties(band):
                self._check(prepared, values)
                self._executed += Executed(classifier=values.numel(), classifier_shared=shared)
                shared = 0
                found[top : top + values.shape[0]] = values
                top += values.shape[0]
            if self.pace is not None:
                self.pace.watch(sampler, band)
        return found

    def _bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        for band in self.features.bands(prepared, tile, lr):
            yield band
            self.work_done += band.pixels
            if self.progress is not None:
                self.progress(min(1.0, self.work_done / self.work))


@dataclass(frozen=True)
class Settings:
    """How to upscale.

    ``refine`` is the paper's #h (0..9, 9 is off), and ``usual_refine`` knows what suits a scale; ``tile`` is in LR
    pixels, None to let the engine choose; ``memory`` is how many bytes of features ADM may keep between its passes,
    None for a share of what is free.
    Neither of the latter two changes the result. ``forced`` pixels get the branch a person chose: ADM looks at them as
    at any other, a budget pays for them first."""

    routing: Routing = field(default_factory=Threshold)
    refine: int = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    forced: Forced | None = None


@dataclass(frozen=True)
class Outcome:
    """What was done: ``branch_pixels`` counts the result's pixels by branch, ``executed`` what really ran.

    ``forced`` counts the pixels forced light, and those forced heavy."""

    plan: TilePlan
    decision: Decision
    branch_pixels: tuple[int, ...]
    executed: Executed
    forced: tuple[int, int] = (0, 0)

    @property
    def heavy_share(self) -> float:
        """Share of the result's pixels that got the heaviest branch."""
        return self.branch_pixels[-1] / self.plan.hr_pixels


def plan_for(
    model: Pcsr, lr_size: tuple[int, int], scale: float, settings: Settings, strip_pixel_bytes: int = 0
) -> TilePlan:
    """The tile plan that ``upscale`` uses for an LR picture of (height, width).

    ``strip_pixel_bytes`` is the canvas's: what an HR pixel costs in memory until its strip of the result is whole.
    """
    ring = RING if settings.refine < NEVER else 0
    side = settings.tile
    tile = (side, side) if side else auto_tile(model, scale, lr_size, strip_pixel_bytes)
    return plan_tiles(lr_size, scale, tile, model.encoder.receptive_radius, ring)


@torch.inference_mode()
def upscale(
    model: Pcsr,
    lr: Tensor,
    scale: float,
    settings: Settings,
    canvas: Canvas,
    progress: Progress | None = None,
    routed: RoutingMap | None = None,
) -> Outcome:
    """Upscale a whole picture onto ``canvas``; ``routed`` takes down how each of its pixels was routed.

    ``lr`` is (1, 3, h, w) RGB, float32 in [0, 1], uint8 or uint16, on any device; ``scale`` is real and at least 1.
    The work is done on the model's device in the model's precision, with sums into the result in float32. A tile for
    which a device has too little memory is cut in four; one that half precision cannot hold is done again in float32.
    Raises UsageError where the model has no such routing.
    """
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings, canvas.strip_pixel_bytes)
    decision = decide(settings.routing, model_costs(model).routed(scale))
    forced, budget = settings.forced, feature_budget(model.device, settings.memory)
    assert forced is None or forced.hr_size == plan.hr_size
    passes = Passes(model, lr, plan, 1 if decision else 2, budget, progress, forced)
    with full_float32():
        decision = decision or passes.decide(settings.routing, settings.refine)
        branch_pixels = passes.paint(decision, settings.refine, canvas, routed)
    if routed is not None and isinstance(decision, Cuts):
        routed.cuts = decision.values
    return Outcome(plan, decision, branch_pixels, passes.executed, (0, 0) if forced is None else forced.counts)


@torch.inference_mode()
def predict_branches(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, progress: Progress | None = None
) -> Branches:
    """One pass that gives every pixel to every branch: all that ``upscale`` could make, for any routing.

    Arguments are those of ``upscale``; of ``settings``, the routing has no effect. The whole result is held in memory
    once per branch.
    """
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32():
        return Passes(model, lr, plan, 1, 0, progress).explore()


@torch.inference_mode()
def survey_difficulties(model: Pcsr, lr: Tensor, scale: float, settings: Settings, survey: DifficultySurvey) -> None:
    """Add the difficulties of all of a picture's pixels to a survey, which may be one of many pictures."""
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32():
        Passes(model, lr, plan, 1, 0, None).survey(survey)
