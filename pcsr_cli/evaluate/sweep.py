"""Quality over compute for one model: the curve along the cut on p_heavy, from both samplers run once a pixel.

Every point is composed exactly, refinement included: its mask is that of an upscale at that cut, its levels are, but
for rounding ties.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.levels import as_lr
from pcsr_cli.engine.routing import ABOVE_ALL, BELOW_ALL, DifficultySurvey, decide_adaptively, tradeoff_cut
from pcsr_cli.engine.tiles import Span
from pcsr_cli.engine.upscale import Settings, predict_branches
from pcsr_cli.errors import OutputError, PlotError, UsageError, in_full
from pcsr_cli.evaluate.composition import Composer
from pcsr_cli.evaluate.dataset import Pair
from pcsr_cli.evaluate.methods import Method
from pcsr_cli.evaluate.metrics import SsimTruth, decibels, luma, luma_of, psnr, too_small
from pcsr_cli.evaluate.originals import LoadedOriginal
from pcsr_cli.evaluate.runner import Contest, check_scales
from pcsr_cli.images.files import atomic_write
from pcsr_cli.model.flops import GIGA, executed_flops, model_costs, paper_flops
from pcsr_cli.model.registry import LoadedModel


class Meter:
    """PSNR and SSIM of a composer's results against ``truth`` (H, W, 3) uint8, ``shave`` border pixels left out.

    The numbers are those of ``metrics.psnr`` and ``metrics.ssim`` of the composed result, which is never put together:
    each band is measured while it is in cache. ``of_luma`` is about PSNR; SSIM is of luma always. Raises InputError
    where nothing is left inside the border.
    """

    def __init__(self, composer: Composer, truth: NDArray[np.uint8], shave: int, of_luma: bool) -> None:
        height, width = truth.shape[:2]
        if min(height, width) <= 2 * shave:
            raise too_small(truth.shape, shave)
        self.composer = composer
        self.rows = Span(shave, height - shave)
        self.columns = slice(shave, width - shave)
        self.of_luma = of_luma
        self.truth = truth[shave : height - shave, self.columns]
        plane = luma(self.truth)
        self.seen = torch.from_numpy(plane[None] if of_luma else self.truth.transpose(2, 0, 1).astype(np.float32))
        self.brightness = torch.empty(plane.shape)
        self.ssim = SsimTruth(plane)

    @torch.inference_mode()
    def measure(self, mask: Tensor) -> tuple[float, float]:
        """PSNR in dB and SSIM of the result for a mask (H, W) bool of heavy pixels."""
        squares = 0.0
        for rows, levels in self.composer.bands(mask, self.rows):
            inside = levels[:, :, self.columns]
            own = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
            brightness = luma_of(inside, out=self.brightness[own])
            difference = torch.sub(brightness[None] if self.of_luma else inside, self.seen[:, own]).view(-1)
            squares += torch.dot(difference, difference).item()
        return decibels(squares / self.seen.numel()), self.ssim(self.brightness.numpy())

    def psnr_of(self, result: NDArray[np.uint8]) -> float:
        """PSNR in dB of any other result of the same size."""
        inside = result[self.rows.start : self.rows.stop, self.columns]
        return psnr(luma(inside), luma(self.truth)) if self.of_luma else psnr(inside, self.truth)


MOST_POINTS = 1000
KNEE_RULE = "the point highest above the straight line from the cheapest point to the dearest"


@dataclass(frozen=True)
class Grid:
    """The points of a curve: values of the threshold, or of k."""

    kind: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One point: the cut on p_heavy (None for the mean of several), the k that means it (None where none does).

    GFLOPs are by the paper and as executed in one pass; ``psnr`` is in dB against HR, or without one against all heavy
    (infinite where equal to it), ``ssim`` of luma, None where no window fits.
    """

    cut: float | None
    k: float | None
    heavy_share: float
    paper: float
    executed: float
    psnr: float
    ssim: float | None


@dataclass(frozen=True)
class Reference:
    """The original network: GFLOPs (paper, executed), and where its weights are given PSNR in dB."""

    paper: float
    executed: float
    psnr: float | None


@dataclass(frozen=True)
class Curve:
    """A picture's curve, or the mean of several."""

    picture: str
    points: tuple[Point, ...]
    light: Point
    heavy: Point
    adm: Point
    original: Reference | None

    @property
    def knee(self) -> Point | None:
        """The point worth choosing, by KNEE_RULE; None where the curve has no bend upward."""
        known = sorted((point for point in self.points if math.isfinite(point.psnr)), key=lambda point: point.paper)
        if len(known) < 3 or known[-1].paper <= known[0].paper:
            return None
        first, last = known[0], known[-1]
        slope = (last.psnr - first.psnr) / (last.paper - first.paper)
        best = max(known, key=lambda point: point.psnr - slope * (point.paper - first.paper))
        return best if best.psnr > first.psnr + slope * (best.paper - first.paper) else None


@dataclass(frozen=True)
class Options:
    """How to draw the curve; as in ``bench``."""

    grid: Grid
    scale: float
    refine: int
    tile: int | None = None
    luma: bool = False
    original: LoadedOriginal | None = None


def parse_grid(kind: str, text: str) -> Grid:
    """``START:STOP:STEP``, both ends included, or a comma list; ascending. Raises UsageError."""
    parts = text.split(":")
    try:
        if len(parts) == 3:
            values = _steps(*(float(part) for part in parts))
        else:
            values = [float(part) for part in text.split(",") if part.strip()]
    except (ValueError, OverflowError):
        values = [math.nan]
    if not all(math.isfinite(value) for value in values) or len(parts) not in {1, 3}:
        raise UsageError(f"--{kind} {text[:40]!r} is no grid of numbers.", "Give START:STOP:STEP or a comma list.")
    if not 0 < len(values) <= MOST_POINTS:
        raise UsageError(f"--{kind} {text[:40]!r} has {len(values)} points.", f"Give 1 to {MOST_POINTS}.")
    low, high = (0, 1) if kind == "threshold" else (-100, 100)
    outside = [value for value in values if not low <= value <= high]
    if outside:
        raise UsageError(f"--{kind} {in_full(outside[0])} is out of range.", f"Choose from {low} to {high}.")
    return Grid(kind, tuple(sorted(set(values))))


def _steps(start: float, stop: float, step: float) -> list[float]:
    if not step or not all(math.isfinite(value) for value in (start, stop, step)):
        return [math.nan]
    count = math.floor((stop - start) / step + 1e-6) + 1
    # Rounded so that 0.1 + 0.2 is 0.3, and not past the end.
    return [round(start + index * step, 9) for index in range(min(max(count, 0), MOST_POINTS + 1))]


def check(model: LoadedModel, options: Options) -> None:
    """Raise UsageError, before any work, for what the model does not allow."""
    check_scales(model, options.scale, options.original)
    if model.network.spec.branches != 2:
        raise UsageError(
            f"Cuts are compared between two branches, but this model has {model.network.spec.branches}.",
            "Choose another model.",
        )


def sweep(model: LoadedModel, pair: Pair, options: Options, progress: Callable[[float], None] | None = None) -> Curve:
    """The curve of one picture. ``progress`` is told the share done. Raises UsageError for other than two branches."""
    report = progress or (lambda share: None)
    composer = explore(model, pair, options, lambda share: report(share / 2))
    return trace(model, pair, composer, options, lambda share: report((1 + share) / 2))


def explore(model: LoadedModel, pair: Pair, options: Options, progress: Callable[[float], None]) -> Composer:
    """Both branches at every pixel of a picture, to compose from. Raises UsageError for other than two."""
    settings = Settings(refine=options.refine, tile=options.tile)
    branches = predict_branches(model.network, as_lr(pair.lr), options.scale, settings, progress)
    return Composer(branches, options.refine)


def trace(
    model: LoadedModel, pair: Pair, composer: Composer, options: Options, progress: Callable[[float], None]
) -> Curve:
    """The curve of a picture that was explored with the same options."""
    tracer = _Tracer(model, composer, pair, options)
    cuts = tracer.cuts()
    points = []
    for number, cut in enumerate(cuts):
        points.append(tracer.point(cut))
        progress((number + 1) / len(cuts))
    difficulty = composer.branches.difficulty
    survey = DifficultySurvey(difficulty.numel())
    survey.add(difficulty)
    adm = decide_adaptively(survey.values(), 2).values[0]
    light, heavy = (replace(tracer.point(cut), cut=None) for cut in (ABOVE_ALL, BELOW_ALL))
    return Curve(pair.name, tuple(points), light, heavy, tracer.point(adm), tracer.reference())


class _Tracer:
    """Measures points of one picture."""

    def __init__(self, model: LoadedModel, composer: Composer, pair: Pair, options: Options) -> None:
        self.model = model
        self.composer = composer
        self.pair = pair
        self.options = options
        self.costs = model_costs(model.network)
        light, heavy = self.costs.routed(options.scale)
        self.shares = (light / (light + heavy), heavy / (light + heavy))
        truth = composer.compose(composer.mask(BELOW_ALL)) if pair.hr is None else pair.hr
        self.meter = Meter(composer, truth, math.ceil(options.scale), options.luma)
        self.known: dict[int, Point] = {}

    def cuts(self) -> list[float]:
        """The cuts on p_heavy that the grid means."""
        grid = self.options.grid
        return [value if grid.kind == "threshold" else tradeoff_cut(self.shares, value) for value in grid.values]

    def point(self, cut: float) -> Point:
        """The point at a cut. Masks of one picture are nested, so that those of as many pixels are the same."""
        mask = self.composer.mask(cut)
        heavy = int(torch.count_nonzero(mask))
        if heavy not in self.known:
            self.known[heavy] = self._measure(cut, mask)
        return replace(self.known[heavy], cut=cut, k=self._k_of(cut))

    def _measure(self, cut: float, mask: Tensor) -> Point:
        heavy = int(torch.count_nonzero(mask))
        total = mask.numel()
        counts = (total - heavy, heavy)
        psnr, ssim = self.meter.measure(mask)
        return Point(
            cut=cut,
            k=self._k_of(cut),
            heavy_share=heavy / total,
            paper=paper_flops(self.costs, self.composer.branches.plan.lr_pixels, counts) / GIGA,
            executed=executed_flops(self.costs, self.composer.executed(mask)) / GIGA,
            psnr=psnr,
            ssim=None if math.isnan(ssim) else ssim,
        )

    def _k_of(self, cut: float) -> float | None:
        """The k for which ``tradeoff_cut`` gives this cut; None where none does, or any."""
        light, heavy = self.shares
        if not 0 < cut < 1 or light == heavy:
            return None
        return math.log(1 / cut - 1) / math.log(light / heavy)

    def reference(self) -> Reference | None:
        """The original network on this picture."""
        settings = Settings(refine=self.options.refine)
        contest = Contest(self.model, self.options.scale, settings, self.options.original)
        entrant = contest.enter(self.pair.lr)
        cost = entrant.original_cost
        if cost is None:
            return None
        known = self.options.original
        quality = None if known is None else self.meter.psnr_of(entrant.enlarge(Method("original")).rgb)
        return Reference(cost.paper / GIGA, cost.executed / GIGA, quality)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Point by point the mean of curves over the same grid."""
    points = tuple(_mean_point(points) for points in zip(*(curve.points for curve in curves), strict=True))
    light, heavy, adm = (
        _mean_point(each) for each in ([c.light for c in curves], [c.heavy for c in curves], [c.adm for c in curves])
    )
    originals = [curve.original for curve in curves if curve.original is not None]
    original = _mean_reference(originals) if len(originals) == len(curves) else None
    return Curve(f"mean of {len(curves)}", points, light, heavy, adm, original)


def _mean_point(points: Sequence[Point]) -> Point:
    same = len({point.cut for point in points}) == 1
    ssims = [point.ssim for point in points if point.ssim is not None]
    return Point(
        cut=points[0].cut if same else None,
        k=points[0].k if same else None,
        heavy_share=fmean(point.heavy_share for point in points),
        paper=fmean(point.paper for point in points),
        executed=fmean(point.executed for point in points),
        psnr=fmean(point.psnr for point in points),
        ssim=fmean(ssims) if ssims else None,
    )


def _mean_reference(references: Sequence[Reference]) -> Reference:
    known = [reference.psnr for reference in references if reference.psnr is not None]
    return Reference(
        fmean(reference.paper for reference in references),
        fmean(reference.executed for reference in references),
        fmean(known) if len(known) == len(references) else None,
    )


SUFFIXES = (".png", ".svg", ".pdf")
INK, ACCENT, QUIET = "#1b1b1f", "#c2410c", "#9aa0a6"


def check_figure(output: Path) -> None:
    """Raise PcsrError, before any work, for a figure of an unknown format, and where nothing could draw it."""
    if output.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise OutputError(f"A plot is not written as {output.name!r}.", f"Use one of {known}.")
    _figure_class()


def plot_curves(output: Path, curves: Sequence[Curve], mean: Curve, quality: str, title: str, replace: bool) -> None:
    """Draw PSNR over GFLOPs: the mean with its marks, each picture's curve behind it. Raises PlotError."""
    figure = _figure_class()(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    if len(curves) > 1:
        for curve in curves:
            shown = _finite(curve.points)
            axes.plot([p.paper for p in shown], [p.psnr for p in shown], color=QUIET, linewidth=0.8, alpha=0.6)
    _draw_mean(axes, mean)
    axes.set_xlabel("GFLOPs, by the paper's convention")
    axes.set_ylabel(f"{quality}, dB")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", facecolor="white", edgecolor="none", framealpha=0.9)
    kind = output.suffix.lower()[1:]
    with atomic_write(output, replace) as temporary:
        figure.savefig(temporary, format=kind, dpi=160)


def _draw_mean(axes: Any, mean: Curve) -> None:
    shown = _finite(mean.points)
    axes.plot([p.paper for p in shown], [p.psnr for p in shown], color=INK, marker=".", linewidth=1.4, label="PCSR")
    marks = ((mean.light, "v", INK, "all light"), (mean.heavy, "^", INK, "all heavy"), (mean.adm, "D", ACCENT, "ADM"))
    for point, marker, colour, label in marks:
        if math.isfinite(point.psnr):
            _mark(axes, point, marker, colour, f"{label}: {point.psnr:.2f} dB, {point.paper:.1f}")
    if mean.knee is not None:
        knee = mean.knee
        where = "" if knee.cut is None else f" at {knee.cut:.3g}"
        axes.scatter([knee.paper], [knee.psnr], s=110, facecolors="none", edgecolors=ACCENT, linewidths=1.6, zorder=4)
        axes.scatter([], [], s=60, facecolors="none", edgecolors=ACCENT, label=f"knee{where}: {knee.psnr:.2f} dB")
    if mean.original is not None:
        label = f"original: {mean.original.paper:.1f}"
        if mean.original.psnr is None:
            axes.axvline(mean.original.paper, color=QUIET, linestyle="--", linewidth=1, label=label)
        else:
            axes.scatter([mean.original.paper], [mean.original.psnr], marker="s", color=QUIET, label=label, zorder=3)


def _mark(axes: Any, point: Point, marker: str, colour: str, label: str) -> None:
    axes.scatter([point.paper], [point.psnr], marker=marker, s=36, color=colour, label=label, zorder=5)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.psnr)]


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.") from error
    return Figure
