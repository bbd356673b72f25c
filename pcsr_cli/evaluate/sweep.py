"""The curve of quality over compute of one model, along the cut on p_heavy.

The light and the heavy sampler run once at every pixel. Each point of the curve is composed from the results of the
samplers, refinement included. A point has the routing of an upscale with that cut and the same 8-bit values except for
rounding ties."""

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

from pcsr_cli.engine.routing import ABOVE_ALL, BELOW_ALL, DifficultySurvey, decide_adaptively, tradeoff_cut
from pcsr_cli.engine.tiles import Span
from pcsr_cli.evaluate.arguments import CutGrid, figure_class
from pcsr_cli.evaluate.composition import Composer, check_branches
from pcsr_cli.evaluate.dataset import Pair
from pcsr_cli.evaluate.metrics import SsimTruth, decibels, luma, luma_of, mean_psnr, too_small
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.images.files import atomic_write
from pcsr_cli.model.flops import GIGA, executed_flops, model_costs, paper_flops

KNEE_RULE = "the point furthest above the straight line between the cheapest and the most expensive point"

INK, ACCENT, QUIET = "#1b1b1f", "#c2410c", "#9aa0a6"


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    ``cut`` is the cut on p_heavy, None for the mean of different cuts. ``k`` gives the same routing as this cut
    (``rules.Tradeoff``), or is None if no k does. ``paper`` and ``executed`` (in one pass) are GFLOPs. ``psnr`` in
    dB is against HR or, without HR, against all heavy. The PSNR of an equal image is infinite. ``ssim`` is of luma,
    None for images smaller than its window. ``equal`` counts the results that equal the reference, which the mean
    PSNR does not include."""

    cut: float | None
    k: float | None
    heavy_share: float
    paper: float
    executed: float
    psnr: float
    ssim: float | None
    equal: int = 0


@dataclass(frozen=True)
class OriginalPoint:
    """The original network: GFLOPs (paper's count and executed) and, if its weights are given, PSNR in dB."""

    paper: float
    executed: float
    psnr: float | None


@dataclass(frozen=True)
class Curve:
    """The curve of one image, or the mean of several."""

    image: str
    points: tuple[Point, ...]
    light: Point
    heavy: Point
    adm: Point
    original: OriginalPoint | None

    @property
    def knee(self) -> Point | None:
        """The point that KNEE_RULE recommends. None if no point is above the line."""
        known = sorted(_finite(self.points), key=lambda point: point.paper)
        if len(known) < 3 or known[-1].paper <= known[0].paper:
            return None
        first, last = known[0], known[-1]
        slope = (last.psnr - first.psnr) / (last.paper - first.paper)
        best = max(known, key=lambda point: point.psnr - slope * (point.paper - first.paper))
        return best if best.psnr > first.psnr + slope * (best.paper - first.paper) else None


def check(conditions: Conditions) -> None:
    """Raise UsageError, before any work, if the model does not support the sweep."""
    conditions.check()
    check_branches(conditions.model.network.spec.branches)


def sweep(
    conditions: Conditions, pair: Pair, grid: CutGrid, progress: Callable[[float], None] = lambda share: None
) -> Curve:
    """Return the curve of one image. ``progress`` is called with the completed share.

    Raises UsageError for a model without two branches, InputError for an image that its border covers."""
    composer = conditions.explore(pair.lr, lambda share: progress(share / 2))
    return trace(conditions, pair, composer, grid, lambda share: progress((1 + share) / 2))


def trace(
    conditions: Conditions, pair: Pair, composer: Composer, grid: CutGrid, progress: Callable[[float], None]
) -> Curve:
    """Measure the curve of an image from its ``composer``, the result of ``Conditions.explore``."""
    truth = composer.compose(composer.mask(BELOW_ALL)) if pair.hr is None else pair.hr
    tracer = _Tracer(conditions, composer, truth)
    points = []
    for number, value in enumerate(grid.values):
        points.append(tracer.point(value if grid.kind == "threshold" else tradeoff_cut(tracer.shares, value)))
        progress((number + 1) / len(grid.values))
    difficulty = composer.branches.difficulty
    survey = DifficultySurvey(difficulty.numel())
    survey.add(difficulty)
    adm = decide_adaptively(survey.values(), 2).values[0]
    light, heavy = (replace(tracer.point(cut), cut=None) for cut in (ABOVE_ALL, BELOW_ALL))
    original = _measure_original(conditions, pair, truth)
    return Curve(pair.name, tuple(points), light, heavy, tracer.point(adm), original)


class Meter:
    """PSNR and SSIM of a composer's results against ``truth`` (H, W, 3) uint8, without ``shave`` border pixels.

    The values equal ``metrics.psnr`` and ``metrics.ssim``, but the result is measured in bands that fit the cache.
    ``of_luma`` selects PSNR of luma. SSIM is always of luma. Raises InputError if the border covers the image.
    """

    def __init__(self, composer: Composer, truth: NDArray[np.uint8], shave: int, of_luma: bool) -> None:
        height, width = truth.shape[:2]
        if min(height, width) <= 2 * shave:
            raise too_small(truth.shape, shave)
        self.composer = composer
        self.rows = Span(shave, height - shave)
        self.columns = slice(shave, width - shave)
        self.of_luma = of_luma
        inside = truth[shave : height - shave, self.columns]
        plane = luma(inside)
        self.expected = torch.from_numpy(plane[None] if of_luma else inside.transpose(2, 0, 1).astype(np.float32))
        self.luma = torch.empty(plane.shape)
        self.ssim = SsimTruth(plane)

    @torch.inference_mode()
    def measure(self, mask: Tensor) -> tuple[float, float]:
        """Return PSNR in dB and SSIM of the result for a mask (H, W) bool of heavy pixels."""
        squares = 0.0
        for rows, values in self.composer.bands(mask, self.rows):
            inside = values[:, :, self.columns]
            band = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
            band_luma = luma_of(inside, out=self.luma[band])
            difference = torch.sub(band_luma[None] if self.of_luma else inside, self.expected[:, band]).view(-1)
            squares += torch.dot(difference, difference).item()
        return decibels(squares / self.expected.numel()), self.ssim(self.luma.numpy())


class _Tracer:
    """Measures one image at given cuts."""

    def __init__(self, conditions: Conditions, composer: Composer, truth: NDArray[np.uint8]) -> None:
        self.composer = composer
        self.costs = model_costs(conditions.model.network)
        light, heavy = self.costs.routed(conditions.scale)
        self.shares = (light / (light + heavy), heavy / (light + heavy))
        self.meter = Meter(composer, truth, conditions.shave, conditions.luma)
        self.measured: dict[int, Point] = {}

    def point(self, cut: float) -> Point:
        """Return the point at a cut. The masks of an image are nested, so equal counts mean equal masks."""
        mask = self.composer.mask(cut)
        heavy = int(torch.count_nonzero(mask))
        if heavy not in self.measured:
            counts = (mask.numel() - heavy, heavy)
            psnr, ssim = self.meter.measure(mask)
            self.measured[heavy] = Point(
                cut=cut,
                k=None,
                heavy_share=heavy / mask.numel(),
                paper=paper_flops(self.costs, self.composer.branches.plan.lr_pixels, counts) / GIGA,
                executed=executed_flops(self.costs, self.composer.executed(mask)) / GIGA,
                psnr=psnr,
                ssim=None if math.isnan(ssim) else ssim,
                equal=int(math.isinf(psnr)),
            )
        return replace(self.measured[heavy], cut=cut, k=self._k_of(cut))

    def _k_of(self, cut: float) -> float | None:
        """Return the k for which ``tradeoff_cut`` gives this cut, or None if no k or every k gives this cut."""
        light, heavy = self.shares
        if not 0 < cut < 1 or light == heavy:
            return None
        return math.log(1 / cut - 1) / math.log(light / heavy)


def _measure_original(conditions: Conditions, pair: Pair, truth: NDArray[np.uint8]) -> OriginalPoint | None:
    """Measure the original network on an image. Returns None if the model has no original network at this scale."""
    height, width = pair.lr_size
    cost, original = conditions.original_cost(height * width), conditions.original
    if cost is None:
        return None
    quality = None if original is None else conditions.psnr(original.upscale(pair.lr), truth)
    return OriginalPoint(cost.paper / GIGA, cost.executed / GIGA, quality)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of curves with the same grid, point by point."""
    points = [_mean_point(points) for points in zip(*(curve.points for curve in curves), strict=True)]
    light, heavy, adm = (_mean_point([getattr(curve, name) for curve in curves]) for name in ("light", "heavy", "adm"))
    originals = [curve.original for curve in curves if curve.original is not None]
    original = None
    if len(originals) == len(curves):
        quality = [point.psnr for point in originals if point.psnr is not None]
        original = OriginalPoint(
            fmean(point.paper for point in originals),
            fmean(point.executed for point in originals),
            mean_psnr(quality)[0] if len(quality) == len(originals) else None,
        )
    return Curve(f"mean of {len(curves)}", tuple(points), light, heavy, adm, original)


def _mean_point(points: Sequence[Point]) -> Point:
    first, ssims = points[0], [point.ssim for point in points if point.ssim is not None]
    if any(point.cut != first.cut for point in points):
        first = replace(first, cut=None, k=None)
    columns = ("heavy_share", "paper", "executed")
    means = {name: fmean(getattr(point, name) for point in points) for name in columns}
    psnr, equal = mean_psnr(point.psnr for point in points)
    return replace(first, ssim=fmean(ssims) if ssims else None, psnr=psnr, equal=equal, **means)


def plot_curves(output: Path, curves: Sequence[Curve], mean: Curve, quality: str, title: str, replace: bool) -> None:
    """Draw PSNR over GFLOPs: the mean with its marks, and the curve of each image behind it. Raises PlotError."""
    figure = figure_class()(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for curve in curves if len(curves) > 1 else ():
        _draw_line(axes, curve, color=QUIET, linewidth=0.8, alpha=0.6)
    _draw_mean(axes, mean)
    axes.set_xlabel("GFLOPs (paper's count)")
    axes.set_ylabel(f"{quality}, dB")
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)  # names may contain dollar signs
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", facecolor="white", edgecolor="none", framealpha=0.9)
    with atomic_write(output, replace) as temporary:
        figure.savefig(temporary, format=output.suffix.lower()[1:], dpi=160)


def _draw_mean(axes: Any, mean: Curve) -> None:
    _draw_line(axes, mean, color=INK, marker=".", linewidth=1.4, label="PCSR")
    marks = ((mean.light, "v", INK, "all light"), (mean.heavy, "^", INK, "all heavy"), (mean.adm, "D", ACCENT, "ADM"))
    for point, marker, colour, name in marks:
        if math.isfinite(point.psnr):
            label = f"{name}: {point.psnr:.2f} dB, {point.paper:.1f}"
            axes.scatter([point.paper], [point.psnr], marker=marker, s=36, color=colour, label=label, zorder=5)
    if mean.knee is not None:
        knee, ring = mean.knee, {"facecolors": "none", "edgecolors": ACCENT}
        cut = "" if knee.cut is None else f" at {knee.cut:.3g}"
        axes.scatter([knee.paper], [knee.psnr], s=110, linewidths=1.6, zorder=4, **ring)
        axes.scatter([], [], s=60, label=f"knee{cut}: {knee.psnr:.2f} dB", **ring)
    if mean.original is not None:
        label = f"original: {mean.original.paper:.1f}"
        if mean.original.psnr is None:
            axes.axvline(mean.original.paper, color=QUIET, linestyle="--", linewidth=1, label=label)
        else:
            axes.scatter([mean.original.paper], [mean.original.psnr], marker="s", color=QUIET, label=label, zorder=3)


def _draw_line(axes: Any, curve: Curve, **style: object) -> None:
    shown = _finite(curve.points)
    axes.plot([point.paper for point in shown], [point.psnr for point in shown], **style)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.psnr)]
