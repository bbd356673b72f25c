"""The engine: an LR image in, an HR image out, tile by tile, routed once for the whole image.

A tiled result is the whole-image result: tiles see the halo their features depend on, are cut at the image's own
borders, and share one routing decision. Within a tile everything flows in bands of rows, from the backbone to the
``Canvas``, so that memory is set by the band and the tile, not by the image.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from pcsr_cli.adm import DifficultySurvey, decide_adaptively
from pcsr_cli.budget import Size, cut_for_share, heavy_share
from pcsr_cli.canvas import Canvas
from pcsr_cli.devices import full_float32
from pcsr_cli.fast.prepare import PreparedModel
from pcsr_cli.fast.rows import Ledger
from pcsr_cli.flops import Executed, model_costs
from pcsr_cli.memory import auto_tile, feature_budget
from pcsr_cli.model import Pcsr
from pcsr_cli.pace import Pace
from pcsr_cli.refine import NEVER, RING
from pcsr_cli.routing import Budget, Cuts, Decision, Routing, Threshold, decide
from pcsr_cli.sampling import AreaSampler, Branches, FeatureBand
from pcsr_cli.strips import Strip
from pcsr_cli.tiles import Rect, Span, Tile, TilePlan, plan_tiles, quarters

Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""


@dataclass(frozen=True)
class Settings:
    """How to upscale.

    ``refine`` is the paper's #h (0..9, 9 is off); ``tile`` is in LR pixels, None to let the engine choose;
    ``memory`` is how many bytes of features ADM may keep between its passes, None for a share of what is free.
    Neither of the latter two changes the result."""

    routing: Routing = field(default_factory=Threshold)
    refine: int = 1
    tile: int | None = None
    memory: int | None = None


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
    tile = (settings.tile, settings.tile) if settings.tile else auto_tile(model, scale, lr_size)
    return plan_tiles(lr_size, scale, tile, model.encoder.receptive_radius, ring)


@torch.inference_mode()
def upscale(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, canvas: Canvas, progress: Progress | None = None
) -> Outcome:
    """Upscale a whole image onto ``canvas``.

    ``lr`` is (1, 3, h, w) RGB, float32 in [0, 1] or uint8, on any device; ``scale`` is real and at least 1. The work is
    done on the model's device in the model's precision, with sums into the result in float32. A tile for which a device
    has too little memory is cut in four; one that half precision cannot hold is done again in float32. Raises
    UsageError where the model has no such routing.
    """
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    decision = decide(settings.routing, model_costs(model).routed(scale))
    run = _Run(model, lr, plan, 1 if decision else 2, feature_budget(model.device, settings.memory), progress)
    with full_float32(model.device):
        return run.paint(decision or run.decide(settings), settings.refine, canvas)


class _NotFiniteError(ArithmeticError):
    """Half precision overflowed somewhere in a tile."""


@torch.inference_mode()
def predict_branches(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, progress: Progress | None = None
) -> Branches:
    """One pass that gives every pixel to every branch: all that ``upscale`` could make, for any routing.

    Arguments are those of ``upscale``; of ``settings``, the routing has no effect. The whole result is held in memory
    once per branch.
    """
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32(model.device):
        return _Run(model, lr, plan, 1, 0, progress).explore()


@torch.inference_mode()
def survey_difficulties(model: Pcsr, lr: Tensor, scale: float, settings: Settings, survey: DifficultySurvey) -> None:
    """Add the difficulties of all of a picture's pixels to a survey, which may be one of many pictures."""
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32(model.device):
        _Run(model, lr, plan, 1, 0, None).survey(survey)


class _Run:
    """One image on its way through the engine: what passes share, and the tally of what was executed."""

    def __init__(
        self, model: Pcsr, lr: Tensor, plan: TilePlan, passes: int, budget: int, progress: Progress | None
    ) -> None:
        self.prepared = PreparedModel(model)
        self.lr = lr
        self.plan = plan
        self.tiles = plan.tiles
        self.passes_left = passes
        self.progress = progress
        self.work = passes * sum(tile.sampled.area for tile in plan.tiles)
        self.work_done = 0
        self.executed = Executed()
        self.kept: dict[Tile, list[FeatureBand]] = {}
        self.pace: Pace | None = None
        number = model.dtype.itemsize * model.spec.backbone.width
        self.keeps_features = passes > 1 and number * self.work // passes <= budget

    def decide(self, settings: Settings) -> Decision:
        """The first pass of ADM and of budgets: the difficulty of the whole image, and the cut it leads to."""
        routing, survey = settings.routing, DifficultySurvey(self.plan.hr_pixels)
        if isinstance(routing, Budget) and routing.seconds is not None:
            self.pace = Pace(self.prepared.device, settings.refine)
        self.survey(survey)
        if not isinstance(routing, Budget):
            return decide_adaptively(survey.values(), self.prepared.branches)
        return Cuts((cut_for_share(survey.values(), self._affordable(routing)),))

    def _affordable(self, budget: Budget) -> float:
        """The share of heavy pixels that a budget pays for."""
        if budget.gflops is not None:
            size = Size(self.plan.lr_pixels, self.plan.hr_pixels)
            return heavy_share(model_costs(self.prepared.model), size, budget.gflops)
        assert self.pace is not None and budget.seconds is not None
        return self.pace.heavy_share(budget.seconds, self.plan.hr_pixels, self.keeps_features)

    def survey(self, survey: DifficultySurvey) -> None:
        """Collect the difficulty of every pixel."""

        def collect(prepared: PreparedModel, tile: Tile) -> None:
            values = self._difficulties(prepared, tile)
            # Where a tile may have to be done again, nothing of it counts before all of it is done.
            for part in list(values) if prepared.model.dtype == torch.float16 else values:
                survey.add(part)

        self._each_tile(collect)
        self.passes_left -= 1

    def paint(self, decision: Decision, refine: int, canvas: Canvas) -> Outcome:
        """Predict, refine and hand over every tile."""
        counts = torch.zeros(self.prepared.branches, dtype=torch.int64, device=self.prepared.device)

        def paint_tile(prepared: PreparedModel, tile: Tile) -> None:
            lr = self._seen(tile)
            sampler = AreaSampler(prepared, self.plan, tile, tile.region, lr)
            strip = Strip(tile, refine, canvas, torch.zeros_like(counts))
            for band in self._bands(prepared, tile, lr):
                self.executed += Executed(classifier_shared=band.pixels, branches_shared=band.pixels)
                for prediction in sampler.predict(band, decision):
                    self._check(prepared, prediction.rgb)
                    sampled = prediction.branch_pixels
                    self.executed += Executed(classifier=sum(sampled), branches=sampled)
                    strip.push(prediction)
            strip.finish()
            counts.add_(strip.counts)

        self._each_tile(paint_tile)
        heavier = [int(count) for count in counts.tolist()[1:]]
        branch_pixels = (self.plan.hr_pixels - sum(heavier), *heavier)
        return Outcome(self.plan, decision, branch_pixels, self.executed)

    def _each_tile(self, work: Callable[[PreparedModel, Tile], None]) -> None:
        """Do some work on every tile, whatever it takes: smaller tiles, or float32."""
        waiting, done = deque(self.tiles), []
        while waiting:
            tile = waiting.popleft()
            try:
                work(self.prepared, tile)
            except torch.OutOfMemoryError:
                parts = quarters(self.plan, tile)
                if len(parts) == 1:
                    raise
                self.kept.pop(tile, None)
                waiting.extendleft(reversed(parts))
                continue
            except _NotFiniteError:
                self.kept.pop(tile, None)
                work(self._in_float32, tile)
            done.append(tile)
        self.tiles = tuple(done)

    @cached_property
    def _in_float32(self) -> PreparedModel:
        return PreparedModel(copy.deepcopy(self.prepared.model).float())

    @staticmethod
    def _check(prepared: PreparedModel, values: Tensor) -> None:
        if prepared.model.dtype == torch.float16 and not bool(values.isfinite().all()):
            raise _NotFiniteError

    def _difficulties(self, prepared: PreparedModel, tile: Tile) -> Iterator[Tensor]:
        lr = self._seen(tile)
        sampler = AreaSampler(prepared, self.plan, tile, tile.core, lr)
        for band in self._bands(prepared, tile, lr):
            # A band may lie within the refinement ring altogether: then nothing is classified in it.
            shared = band.pixels
            for values in sampler.difficulties(band):
                self._check(prepared, values)
                self.executed += Executed(classifier=values.numel(), classifier_shared=shared)
                shared = 0
                yield values
            if self.pace is not None:
                self.pace.watch(sampler, band)

    def explore(self) -> Branches:
        """Give every pixel to every branch."""
        rgb = torch.empty(self.prepared.branches, *self.plan.hr_size, 3, dtype=torch.float32, device="cpu")
        values = torch.empty(self.plan.hr_size, dtype=torch.float32, device="cpu")

        def explore_tile(prepared: PreparedModel, tile: Tile) -> None:
            lr = self._seen(tile)
            sampler = AreaSampler(prepared, self.plan, tile, tile.region, lr)
            for band in self._bands(prepared, tile, lr):
                self.executed += Executed(classifier_shared=band.pixels, branches_shared=band.pixels)
                for part in sampler.all_branches(band):
                    self._check(prepared, part.rgb)
                    count = part.difficulty.numel()
                    self.executed += Executed(classifier=count, branches=(count,) * prepared.branches)
                    core = Rect(part.rows.intersection(tile.core.rows), tile.core.columns)
                    inside = core.within(Rect(part.rows, tile.region.columns))
                    rgb[:, *core.slices] = part.rgb[:, *inside].cpu()
                    values[core.slices] = part.difficulty[inside].cpu()

        self._each_tile(explore_tile)
        return Branches(replace(self.plan, tiles=self.tiles), rgb, values, self.executed)

    def _seen(self, tile: Tile) -> Tensor:
        seen = self.lr[:, :, *tile.seen.slices].to(self.prepared.device)
        return seen if seen.is_floating_point() else seen.float().div_(255)

    def _bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        """The features a tile samples, band by band: kept from the first pass, or computed (again)."""
        bands = iter(self.kept.pop(tile)) if tile in self.kept else self._compute_bands(prepared, tile, lr)
        if self.keeps_features and self.passes_left > 1:
            bands = self._keeping(tile, bands)
        for band in bands:
            yield band
            self.work_done += band.pixels
            if self.progress is not None:
                self.progress(min(1.0, self.work_done / self.work))

    def _keeping(self, tile: Tile, bands: Iterator[FeatureBand]) -> Iterator[FeatureBand]:
        """The same bands, moved to one block of memory: kept one by one they would scatter what is freed between."""
        kept: list[FeatureBand] = []
        block: Tensor | None = None
        for band in bands:
            if block is None:
                shape = (1, band.features.shape[1], tile.sampled.rows.length, band.features.shape[3])
                like = band.features
                block = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
            part = block[:, :, band.rows.within(tile.sampled.rows)]
            part.copy_(band.features)
            kept.append(FeatureBand(band.rows, part))
            yield kept[-1]
        self.kept[tile] = kept

    def _compute_bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        columns = tile.sampled.columns.within(tile.seen.columns)
        top = tile.seen.rows.start
        ledger = Ledger()
        for features in prepared.feature_bands(prepared.model.normalise(lr), ledger):
            rows = Span(top, top + features.shape[2])
            top = rows.stop
            wanted = rows.intersection(tile.sampled.rows)
            if wanted.length:
                yield FeatureBand(wanted, features[:, :, wanted.within(rows), columns])
        self.executed += Executed(backbone=tile.seen.area, repeated=ledger.repeated)
