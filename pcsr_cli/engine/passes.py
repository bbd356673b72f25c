"""Passes over a picture's tiles: to survey how hard it is, to paint the result, or to explore all branches.

Within a tile everything flows in bands of rows, from the backbone to the ``Canvas``, so that memory is set by the band
and the tile, not by the picture.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from pcsr_cli.adm import DifficultySurvey, decide_adaptively
from pcsr_cli.budget import Size, cut_for_share, heavy_share
from pcsr_cli.engine.canvas import Canvas
from pcsr_cli.engine.features import TileFeatures
from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.pace import Pace
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.sampling import AreaSampler, Branches, FeatureBand
from pcsr_cli.engine.strips import Strip
from pcsr_cli.engine.tiles import Rect, Tile, TilePlan
from pcsr_cli.errors import is_out_of_memory
from pcsr_cli.fast.prepare import PreparedModel
from pcsr_cli.flops import Executed, model_costs
from pcsr_cli.model import Pcsr
from pcsr_cli.routing import Budget, Cuts, Decision, Routing

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
