"""Upscale an LR tensor and yield the HR rows from top to bottom.

The engine makes one pass over the image's tiles, or two if routing depends on the whole image. Within a tile, data
flows in bands of rows from the backbone to the result. The memory of the engine therefore depends on the band, the tile
and the strip of the result, not on the image.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from pcsr_cli.engine.device import Downloads, empty_cache, full_float32, to_levels
from pcsr_cli.engine.features import TileFeatures
from pcsr_cli.engine.fused import PreparedModel, prepare
from pcsr_cli.engine.memory import auto_tile, feature_budget
from pcsr_cli.engine.refine import RING, refine_bands
from pcsr_cli.engine.routing import (
    EXACT_PIXELS,
    Cuts,
    Decision,
    DifficultySurvey,
    Forced,
    Size,
    cut_for_share,
    decide,
    decide_adaptively,
    heavy_share,
)
from pcsr_cli.engine.rules import NEVER, Budget, Routing, Threshold
from pcsr_cli.engine.sampling import AreaSampler, Branches, FeatureBand, Sampled
from pcsr_cli.engine.tiles import Rect, Span, Tile, TilePlan, plan_tiles
from pcsr_cli.errors import ModelError, is_out_of_memory
from pcsr_cli.model.flops import Executed, model_costs
from pcsr_cli.model.network import Pcsr

BLOCK_BYTES = 2**24
"""Maximum bytes of RGB in one ``HrRows``, so that data made from it is small compared with a strip of the result."""

MAX_RESULT = 1000
"""Maximum distance from black in a result, in units of white. Only broken weights give values beyond this maximum."""

Progress = Callable[[float], None]
"""A function that is called with the share of the work done, from 0 to 1."""


@dataclass(frozen=True)
class Settings:
    """The settings of an upscale.

    ``refine`` is the paper's #h, the least number of heavy neighbours for refinement, from 0 to 9 (off).
    ``usual_refine`` gives the default for a scale. ``tile`` is the side of a tile in LR pixels, None for automatic.
    ``memory`` is the maximum number of bytes of features kept between two passes, None for a share of the free memory.
    Neither ``tile`` nor ``memory`` changes the result. ``forced`` pixels get a given branch. ADM clusters forced pixels
    with all others. A budget subtracts the cost of forced pixels first. With ``exact``, positions do not contain the
    float32 rounding of the published results, so equal surroundings give equal pixels.
    """

    routing: Routing = field(default_factory=Threshold)
    refine: int = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    forced: Forced | None = None
    exact: bool = False


@dataclass(frozen=True)
class HrRows:
    """Consecutive rows of a result, as wide as the image, on the CPU.

    ``rgb`` (n, W, 3) is uint8, uint16, or float32 in [0, 1] and not clamped. ``labels`` (n, W) uint8 holds the
    branches. ``p_heavy`` (n, W) float32 holds the probability of being heavy, or the difficulty with more than two
    branches. ``p_heavy`` is None unless requested.
    """

    rgb: Tensor
    labels: Tensor
    p_heavy: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of one upscale.

    ``branch_pixels`` counts the result's pixels by branch, and ``executed`` the work that ran. ``forced`` holds the
    numbers of pixels that were forced to be light and to be heavy.
    """

    plan: TilePlan
    decision: Decision
    branch_pixels: tuple[int, ...]
    executed: Executed
    forced: tuple[int, int] = (0, 0)

    @property
    def heavy_share(self) -> float:
        """Share of the result's pixels in the heaviest branch."""
        return self.branch_pixels[-1] / self.plan.hr_pixels


class Upscaling(Iterator[HrRows]):
    """An iterator over the rows of one result, which are computed on demand.

    ``plan`` is available from the start, ``outcome`` after the last row.
    """

    def __init__(
        self, passes: "_Passes", settings: Settings, decision: Decision | None, dtype: torch.dtype, p_heavy: bool
    ) -> None:
        self.plan = passes.plan
        self._passes = passes
        self._settings = settings
        self._decided = decision
        self._dtype = dtype
        self._p_heavy = p_heavy
        self._branch_pixels = [0] * passes.prepared.branches
        self._rows = self._blocks()
        self._complete = False

    @cached_property
    def decision(self) -> Decision:
        """The rule that labels pixels. For ADM and budgets, the first access runs the first pass."""
        if self._decided is not None:
            return self._decided
        with _computing(self._passes.device):
            return self._passes.decide(self._settings.routing)

    @property
    def outcome(self) -> Outcome:
        """The outcome, available after the last row."""
        assert self._complete, "the outcome is available after the last row"
        forced = self._settings.forced
        counts = (0, 0) if forced is None else forced.counts
        return Outcome(self.plan, self.decision, tuple(self._branch_pixels), self._passes.executed, counts)

    def __next__(self) -> HrRows:
        return next(self._rows)

    def strips(self) -> Iterator[HrRows]:
        """Yield the result in larger parts than iteration does: one row of tiles at a time."""
        decision = self.decision
        for rows in self.plan.strips:
            # Allocate outside of inference mode, so that the caller may change these tensors in place.
            strip = StripBuffer(rows, self.plan.hr_size[1], self._dtype, self._p_heavy)
            with _computing(self._passes.device):
                self._passes.paint(decision, self._settings.refine, strip)
                heavier = [(strip.labels == branch).count_nonzero() for branch in range(1, len(self._branch_pixels))]
                counts: list[int] = torch.stack(heavier).tolist()
                counts.insert(0, strip.labels.numel() - sum(counts))
                self._branch_pixels = [sum(pair) for pair in zip(self._branch_pixels, counts, strict=True)]
            finished = HrRows(strip.rgb, strip.labels, strip.p_heavy)
            del strip
            yield finished
            del finished
        self._complete = True

    def _blocks(self) -> Iterator[HrRows]:
        """Yield small strips unchanged. Yield large strips as copied blocks, because a block that is a view would keep
        its strip in memory.
        """
        for strip in self.strips():
            step = max(1, BLOCK_BYTES // (3 * strip.rgb.itemsize * strip.rgb.shape[1]))
            if step >= strip.rgb.shape[0]:
                yield strip
                del strip
                continue
            for top in range(0, strip.rgb.shape[0], step):
                part = slice(top, top + step)
                p_heavy = None if strip.p_heavy is None else strip.p_heavy[part].clone()
                yield HrRows(strip.rgb[part].clone(), strip.labels[part].clone(), p_heavy)
            del strip


def hr_pixel_bytes(dtype: torch.dtype, p_heavy: bool = False) -> int:
    """Bytes of one HR pixel of a strip: RGB, branch and, with ``p_heavy``, its probability."""
    return 3 * dtype.itemsize + 1 + (4 if p_heavy else 0)


def plan_for(model: Pcsr, lr_size: tuple[int, int], scale: float, settings: Settings, pixel_bytes: int = 0) -> TilePlan:
    """The tile plan for an LR image of (height, width). One HR pixel of a strip takes ``pixel_bytes`` in memory.

    With ``pixel_bytes`` 0 there are no strips: tiles may be as high as the image.
    """
    ring = RING if settings.refine < NEVER else 0
    side = settings.tile
    tile = (side, side) if side else auto_tile(model, scale, lr_size, pixel_bytes)
    return plan_tiles(lr_size, scale, tile, model.encoder.receptive_radius, ring, settings.exact)


def keeps_difficulties(plan: TilePlan, device: torch.device) -> bool:
    """Whether the second pass of ADM or a budget uses the difficulties from the first pass, without running the
    classifier again."""
    return device.type == "cpu" and plan.hr_pixels <= EXACT_PIXELS


def upscale(
    model: Pcsr,
    lr: Tensor,
    scale: float,
    settings: Settings,
    *,
    dtype: torch.dtype = torch.float32,
    p_heavy: bool = False,
    progress: Progress | None = None,
) -> Upscaling:
    """Upscale an image. The rows of the result are computed while they are iterated.

    ``lr`` is (1, 3, h, w) RGB, float32 in [0, 1], uint8 or uint16, on any device. ``scale`` is real and at least 1.
    Rows have ``dtype`` float32, uint8 or uint16, and probabilities if ``p_heavy``. The model's device computes the
    backbone in the model's precision, and all other parts in float32. A tile that runs out of memory is cut in four. A
    tile that overflows half precision is computed again in float32.

    Raises UsageError if the model does not support the routing. Iteration raises ModelError if the result is not
    finite, and torch's error if a tile of one LR pixel runs out of memory.
    """
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    decision = decide(settings.routing, model_costs(model).routed(scale))
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings, hr_pixel_bytes(dtype, p_heavy))
    forced = settings.forced
    assert forced is None or forced.hr_size == plan.hr_size
    budget = 0 if decision else feature_budget(model.device, settings.memory)
    with torch.inference_mode():
        passes = _Passes(model, lr, plan, 1 if decision else 2, budget, progress, forced)
    return Upscaling(passes, settings, decision, dtype, p_heavy)


def upscale_whole(
    model: Pcsr,
    lr: Tensor,
    scale: float,
    settings: Settings,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Outcome]:
    """Upscale an image in memory: RGB (H, W, 3) of ``dtype``, branches (H, W) uint8, and the outcome.

    ``upscale`` describes the arguments and errors.
    """
    upscaling = upscale(model, lr, scale, settings, dtype=dtype, progress=progress)
    if len(upscaling.plan.strips) == 1:
        (whole,) = upscaling.strips()
        return whole.rgb, whole.labels, upscaling.outcome
    rgb = torch.empty(*upscaling.plan.hr_size, 3, dtype=dtype, device="cpu")
    labels = torch.empty(upscaling.plan.hr_size, dtype=torch.uint8, device="cpu")
    top = 0
    for rows in upscaling:
        part = slice(top, top := top + rows.rgb.shape[0])
        rgb[part], labels[part] = rows.rgb, rows.labels
    return rgb, labels, upscaling.outcome


def predict_branches(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, progress: Progress | None = None
) -> Branches:
    """Compute every branch at every pixel. All uint8 results of ``upscale`` can be composed from these branches.

    ``upscale`` describes the arguments. The routing in ``settings`` has no effect. The whole result is held in memory
    once per branch.
    """
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings, hr_pixel_bytes(torch.uint8))
    with _computing(model.device):
        return _Passes(model, lr, plan, 1, 0, progress).explore()


def survey_difficulties(model: Pcsr, lr: Tensor, scale: float, settings: Settings, survey: DifficultySurvey) -> None:
    """Add the difficulties of an image's pixels to a survey, which may cover several images."""
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with _computing(model.device):
        _Passes(model, lr, plan, 1, 0, None).survey(survey)


class StripBuffer:
    """A strip of the result in host memory. Areas are written in any order, and again if a tile is computed again."""

    def __init__(self, rows: Span, width: int, dtype: torch.dtype, p_heavy: bool = False) -> None:
        self.rows = rows
        self.area = Rect(rows, Span(0, width))
        self.rgb = torch.empty(rows.length, width, 3, dtype=dtype, device="cpu")
        self.labels = torch.empty(rows.length, width, dtype=torch.uint8, device="cpu")
        self.p_heavy = torch.empty(rows.length, width, dtype=torch.float32, device="cpu") if p_heavy else None
        self._downloads = Downloads()

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Write RGB (3, n, W), float32 in [0, 1], and branches (n, W) to an area of HR pixels."""
        inside = area.within(self.area)
        for channel, plane in enumerate(to_levels(rgb, self.rgb.dtype)):
            self._downloads.bring(plane, self.rgb[inside][..., channel])
        self._downloads.bring(labels, self.labels[inside])

    def write_p_heavy(self, area: Rect, values: Tensor) -> None:
        """Write probabilities (n, W) to an area of HR pixels."""
        assert self.p_heavy is not None
        self._downloads.bring(values, self.p_heavy[area.within(self.area)])

    def finish(self) -> None:
        """Wait until all writes are complete."""
        self._downloads.settle()


class NotFiniteError(ArithmeticError):
    """Half precision overflowed somewhere in a tile."""


class _Passes:
    """Runs passes over the tiles of one image and counts the executed work.

    ``passes`` is the number of passes. ``budget`` is the maximum number of bytes of features to keep between passes.
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
        self.prepared = prepare(model)
        self.device = model.device
        self.plan = plan
        self.forced = forced
        self.tiles = plan.tiles
        self.progress = progress
        sampled = sum(tile.sampled.area for tile in plan.tiles)
        self.work = passes * sampled
        self.work_done = 0
        number = model.dtype.itemsize * model.spec.backbone.width
        keeps = passes > 1 and number * sampled <= budget
        self.features = TileFeatures(lr, model.dtype if keeps else None)
        self.difficulties = torch.empty(plan.hr_size) if passes > 1 and keeps_difficulties(plan, self.device) else None
        self._largest: tuple[int, int] | None = None
        self._overflowing: set[Tile] = set()
        self._finite: Tensor | None = None
        self._executed = Executed()

    @property
    def executed(self) -> Executed:
        """The work executed so far."""
        return self._executed + self.features.executed

    def decide(self, routing: Routing) -> Decision:
        """Run the first pass of ADM or a budget: collect the difficulty of the pixels and compute the cuts."""
        if not isinstance(routing, Budget):
            return decide_adaptively(self._surveyed(None), self.prepared.branches)
        free = self._surveyed(self.forced)
        size = Size(self.plan.lr_pixels, self.plan.hr_pixels)
        share = heavy_share(model_costs(self.prepared.model), size, routing.gflops)
        if self.forced is None:
            return Cuts((cut_for_share(free, share),))
        return Cuts((cut_for_share(free, self.forced.share_of_free(share)) if free.numel() else 1.0,))

    def _surveyed(self, forced: Forced | None) -> Tensor:
        """The difficulties of all pixels that are not ``forced``, or quantiles of them (N,)."""
        survey = DifficultySurvey(self.plan.hr_pixels)
        self.survey(survey, forced)
        if self.difficulties is None:
            return survey.values()
        height, width = self.plan.hr_size
        free = slice(None) if forced is None else forced.free(Rect(Span(0, height), Span(0, width)))
        return self.difficulties[free].flatten()

    def survey(self, survey: DifficultySurvey, forced: Forced | None = None) -> None:
        """Collect the difficulty of every pixel that is not ``forced``."""

        def collect(prepared: PreparedModel, tile: Tile) -> None:
            if self.difficulties is not None:
                self._difficulties(prepared, tile, self.difficulties[tile.core.slices])
                return
            # Add only complete tiles, because a tile may be computed again.
            size = (tile.core.rows.length, tile.core.columns.length)
            values = self._difficulties(prepared, tile, torch.empty(size, device=self.device))
            survey.add(values if forced is None else values.cpu()[forced.free(tile.core)])

        self.tiles = self._each(self.tiles, collect)
        self.features.keep = None

    def paint(self, decision: Decision, refine: int, strip: StripBuffer) -> None:
        """Predict and refine every tile of a strip of the result."""

        def predict(area: AreaSampler, band: FeatureBand) -> Iterator[Sampled]:
            return area.predict(band, decision, self.forced, self.difficulties)

        def bands(prepared: PreparedModel, tile: Tile) -> Iterator[tuple[Tensor, Tensor]]:
            for part in self._sampled(prepared, tile, predict):
                core, inside = _core_of(tile, part.rows)
                if strip.p_heavy is not None and core.area:
                    strip.write_p_heavy(core, part.difficulty[inside])
                assert part.labels is not None
                yield part.rgb, part.labels

        def paint_tile(prepared: PreparedModel, tile: Tile) -> None:
            top = tile.region.rows.start
            for rgb, labels in refine_bands(bands(prepared, tile), refine):
                rows = Span(top, top := top + labels.shape[0])
                core, inside = _core_of(tile, rows)
                if core.area:
                    strip.write(core, rgb[:, *inside], labels[inside])

        rows = strip.rows
        self._each((tile for tile in self.tiles if rows.start <= tile.core.rows.start < rows.stop), paint_tile)
        strip.finish()

    def explore(self) -> Branches:
        """Compute every branch at every pixel."""
        rgb = torch.empty(self.prepared.branches, 3, *self.plan.hr_size, dtype=torch.float32, device="cpu")
        values = torch.empty(self.plan.hr_size, dtype=torch.float32, device="cpu")

        def explore_tile(prepared: PreparedModel, tile: Tile) -> None:
            for part in self._sampled(prepared, tile, AreaSampler.all_branches):
                core, inside = _core_of(tile, part.rows)
                rgb[:, :, *core.slices] = part.rgb[:, :, *inside].cpu()
                values[core.slices] = part.difficulty[inside].cpu()

        tiles = self._each(self.tiles, explore_tile)
        return Branches(replace(self.plan, tiles=tiles), rgb, values, self.executed)

    def _sampled(
        self, prepared: PreparedModel, tile: Tile, sample: Callable[[AreaSampler, FeatureBand], Iterator[Sampled]]
    ) -> Iterator[Sampled]:
        """Yield the rows of a tile's region, and check and count them."""
        lr = self.features.input(prepared, tile)
        area = AreaSampler(prepared, self.plan, tile, tile.region, lr)
        with self._counted(area):
            for band in self._bands(prepared, tile, lr):
                for part in sample(area, band):
                    self._check(prepared, part.rgb, part.difficulty)
                    yield part

    def _difficulties(self, prepared: PreparedModel, tile: Tile, found: Tensor) -> Tensor:
        """Write the difficulties of the HR pixels that a tile owns to ``found`` (n, W) float32, and return it."""
        top = 0
        lr = self.features.input(prepared, tile)
        area = AreaSampler(prepared, self.plan, tile, tile.core, lr)
        with self._counted(area):
            for band in self._bands(prepared, tile, lr):
                for values in area.difficulties(band):
                    self._check(prepared, values)
                    found[top : top + values.shape[0]] = values
                    top += values.shape[0]
        return found

    @contextmanager
    def _counted(self, area: AreaSampler) -> Iterator[None]:
        """Add the work of a sampler when the block ends, even if the block fails."""
        try:
            yield
        finally:
            self._executed += area.executed

    def _each(self, tiles: Iterable[Tile], work: Callable[[PreparedModel, Tile], None]) -> tuple[Tile, ...]:
        """Run ``work`` on tiles: in smaller tiles if memory is short, in float32 if half precision overflows.

        Returns the tiles that ``work`` ran on. If memory is short for a tile, this tile and all later tiles are cut to
        half the height and width of this tile.
        """
        waiting, done = deque(tiles), []
        while waiting:
            tile = waiting.popleft()
            if self._largest is not None and len(parts := self.plan.cut(tile, self._largest)) > 1:
                self.features.forget(tile)
                waiting.extendleft(reversed(parts))
                continue
            try:
                work(self._in_float32 if tile in self._overflowing else self.prepared, tile)
            except NotFiniteError:
                self._overflowing.add(tile)
                waiting.appendleft(tile)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or tile.owned.area == 1:
                    raise
                self._largest = tile.half
                waiting.appendleft(tile)
            else:
                done.append(tile)
                continue
            empty_cache(self.device)  # not in the handler, whose traceback keeps the tile's tensors
        self._raise_if_not_finite()
        return tuple(done)

    @cached_property
    def _in_float32(self) -> PreparedModel:
        return PreparedModel(self.prepared.model, torch.float32)

    def _check(self, prepared: PreparedModel, *results: Tensor) -> None:
        """Raise NotFiniteError if half precision overflowed: if results are not finite or far outside of [0, 1].

        In float32, the result of the check is stored and not read, so that the host does not wait for the device at
        every band.
        """
        # aminmax passes NaN on, and comparisons with NaN are false.
        finite = (torch.stack([end for values in results for end in values.aminmax()]).abs() <= MAX_RESULT).all()
        if prepared.dtype != torch.float32:
            if not finite.item():
                raise NotFiniteError
        else:
            self._finite = finite if self._finite is None else self._finite & finite

    def _raise_if_not_finite(self) -> None:
        if self._finite is not None and not self._finite.item():
            raise ModelError(
                f"The model's result is not an image: values exceed {MAX_RESULT:,} times white or are not finite.",
                "Check the model's weights.",
            )
        self._finite = None

    def _bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        for band in self.features.bands(prepared, tile, lr):
            yield band
            self.work_done += band.pixels
            if self.progress is not None:
                self.progress(min(1.0, self.work_done / self.work))


def _core_of(tile: Tile, rows: Span) -> tuple[Rect, tuple[slice, slice]]:
    """The part of a tile's core that is in the given rows of its region, and the position of this part within the
    rows."""
    core = Rect(rows.intersection(tile.core.rows), tile.core.columns)
    return core, core.within(Rect(rows, tile.region.columns))


@contextmanager
def _computing(device: torch.device) -> Iterator[None]:
    """Disable gradients and TF32 inside the block. Generators leave the block before they yield."""
    with torch.inference_mode(), full_float32(device):
        yield
