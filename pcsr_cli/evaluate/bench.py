"""``pcsr bench``: compare methods of upscaling on many images by quality, compute and time.

``paper_table`` makes the table of the paper's appendix over one folder: original networks, methods that route patches,
and PCSR. Every method reads the same LR images and is compared with the same part of HR. HR is cut to a multiple of 12
before it is reduced. The paper's figures of the original networks imply this cut. Then HR and LR are cut to the patch
grid."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.routing import DifficultySurvey, Size, cut_for_share, heavy_share, to_budget
from pcsr_cli.engine.rules import ALL_HEAVY, Allowance, Routing, Threshold
from pcsr_cli.engine.upscale import survey_difficulties
from pcsr_cli.errors import PcsrError, UsageError
from pcsr_cli.evaluate.arguments import PEERS, CutGrid, Method
from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage, each_pair, load_pair
from pcsr_cli.evaluate.metrics import luma, mean_psnr, ssim
from pcsr_cli.evaluate.runner import Conditions, MethodResult, MethodRunner
from pcsr_cli.evaluate.sweep import Point, mean_curve, sweep
from pcsr_cli.model.flops import GIGA, model_costs

MULTIPLE = 12
"""HR is cut to a multiple of this number of pixels."""

MATCHES = CutGrid("k", (-25, -10, -6, -4, *(round(-3 + 0.1 * step, 1) for step in range(71))))
"""The points between which the k that matches a peer is interpolated."""

MARGIN = 0.005
"""A peer's PSNR counts as reached if the best PSNR of PCSR is at most this many dB below it."""

COLUMNS = {
    "heavy_share": ("heavy", "Heavy", ".1%"),
    "psnr": ("PSNR", "PSNR", ".3f"),
    "ssim": ("SSIM", "SSIM", ".4f"),
    "paper": ("GFLOPs", "GFLOPs (paper's count)", ",.2f"),
    "executed": ("exec.", "GFLOPs (executed)", ",.2f"),
    "own": ("own", "", ".3f"),
    "original_share": ("of orig.", "of the original", ".1%"),
    "seconds": ("s", "Seconds", ".2f"),
    "megapixels_per_second": ("MP/s", "", ".2f"),
}
"""The figures of a ``Row`` in tables: the heading on a terminal, the heading on a page, and the number format. Figures
without a heading for pages are not on a page."""


@dataclass(frozen=True)
class Row:
    """One image with one method, or the mean of all images. Values that a method does not have are None.

    ``size`` is (width, height) of the result. ``psnr`` is in dB, against HR or, without HR, against all heavy. SSIM is
    of luma. ``paper`` and ``executed`` are GFLOPs. ``original_share`` is ``paper`` divided by the GFLOPs of the
    original network. ``seconds`` is computing time. ``equal`` counts the results that equal the reference. The PSNR of
    an equal result is infinite, so the mean PSNR does not include such results. ``classes`` has the number of patches
    of each class, cheapest class first, and ``own`` the mean GFLOPs of a patch as the method's authors count them.
    ``memory`` is the peak during the method, in bytes above the memory before it."""

    image: str
    method: str
    size: tuple[int, int] | None
    heavy_share: float | None
    psnr: float | None
    ssim: float | None
    paper: float | None
    executed: float | None
    original_share: float | None
    seconds: float | None
    megapixels_per_second: float | None
    equal: int = 0
    classes: tuple[int, ...] | None = None
    own: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """All rows, the mean row of each method, and the images that could not be measured."""

    rows: tuple[Row, ...]
    mean: tuple[Row, ...]
    skipped: tuple[SkippedImage, ...]


def bench(
    conditions: Conditions,
    files: Sequence[PairFiles],
    methods: Sequence[Method],
    *,
    paper: bool = False,
    allowance: Allowance | None = None,
    observe: Callable[[Row, NDArray[np.uint8]], None] = lambda row, rgb: None,
    skip: Callable[[SkippedImage], None] = lambda image: None,
) -> BenchResult:
    """Measure every method on every image. ``observe`` is called with each row and its pixels (H, W, 3).

    ``paper`` crops images as the paper's tables do. ``allowance`` is the budget of the method "budget", which has one
    cut for all images. ``skip`` is called with each image that fails. Raises UsageError if the model does not support a
    method, and InputError if no image can be measured."""
    check(conditions, methods)
    assert (Method("budget") in methods) == (allowance is not None)
    budget = None if allowance is None else _common_cut(conditions, files, paper, allowance)
    rows: list[Row] = []

    def measure(pair: Pair) -> None:
        if not rows:
            _warm_up(conditions, methods, pair, budget)
        for row, rgb in _measure(conditions, pair, methods, budget):
            rows.append(row)
            observe(row, rgb)

    _, skipped = each_pair(files, conditions.scale, measure, skip, paper)
    mean = tuple(mean_row([row for row in rows if row.method == method.label]) for method in methods)
    return BenchResult(tuple(rows), mean, skipped)


def check(conditions: Conditions, methods: Sequence[Method]) -> None:
    """Raise UsageError, before any work, if the model does not support the scale or a method."""
    conditions.check()
    if Method("original") in methods and conditions.original is None:
        message = "The method original needs the weights of the original network, which do not ship with pcsr."
        raise UsageError(message, "Give the path of the weights.", setting="original")
    missing = [method.label for method in methods if method.kind in PEERS and method.kind not in conditions.peers]
    if missing:
        message = f"These methods need their published weights, which do not ship with pcsr: {', '.join(missing)}."
        raise UsageError(message, "Give their path, as in arm=PATH.", setting="peer")
    two_only = [method.label for method in methods if method.kind in {"threshold", "patch", "budget"}]
    branches = conditions.model.network.spec.branches
    if branches != 2 and two_only:
        message = f"These methods need a model with two branches, not {branches}: {', '.join(two_only)}."
        raise UsageError(message, "Use k, adm, heavy and light instead.")


def _measure(
    conditions: Conditions, pair: Pair, methods: Sequence[Method], budget: Routing | None
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    runner = MethodRunner(conditions, pair.lr, budget)
    truth = runner.run(Method("heavy")).rgb if pair.hr is None else pair.hr
    truth_luma = luma(truth)
    cost = conditions.original_cost(runner.lr_pixels)
    original = None if cost is None else cost.paper / GIGA
    for method in methods:
        result = runner.run(method)
        similarity = ssim(luma(result.rgb), truth_luma, conditions.shave)
        yield _row(pair.name, method, result, conditions.psnr(result.rgb, truth), similarity, original), result.rgb


def _row(name: str, method: Method, result: MethodResult, psnr: float, ssim: float, original: float | None) -> Row:
    height, width = result.rgb.shape[:2]
    return Row(
        image=name,
        method=method.label,
        size=(width, height),
        heavy_share=result.heavy_share,
        psnr=psnr,
        ssim=None if math.isnan(ssim) else ssim,
        paper=result.paper,
        executed=result.executed,
        original_share=None if original is None or result.paper is None else result.paper / original,
        seconds=result.seconds,
        megapixels_per_second=height * width / 1e6 / result.seconds if result.seconds else None,
        equal=int(math.isinf(psnr)),
        classes=result.classes,
        own=result.own,
        memory=result.memory,
    )


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean of the rows of one method. ``original_share`` and ``megapixels_per_second`` are ratios of means,
    ``classes`` are sums."""
    columns = ("heavy_share", "ssim", "paper", "executed", "seconds", "own", "memory")
    means: dict[str, Any] = {name: _mean(rows, name) for name in columns}
    classes = [row.classes for row in rows if row.classes is not None]
    means["classes"] = tuple(map(sum, zip(*classes, strict=True))) if classes else None
    means["psnr"], means["equal"] = mean_psnr(row.psnr for row in rows if row.psnr is not None)
    mean = replace(rows[0], image="mean", size=None, original_share=None, **means)
    originals = [row.paper / row.original_share for row in rows if row.paper is not None and row.original_share]
    if mean.paper is not None and len(originals) == len(rows):
        mean = replace(mean, original_share=mean.paper / fmean(originals))
    megapixels = fmean(row.size[0] * row.size[1] / 1e6 for row in rows if row.size is not None)
    return replace(mean, megapixels_per_second=megapixels / mean.seconds if mean.seconds else None)


def _mean(rows: Sequence[Row], column: str) -> float | None:
    known = [value for row in rows if (value := getattr(row, column)) is not None]
    return fmean(known) if known else None


def _warm_up(conditions: Conditions, methods: Sequence[Method], pair: Pair, budget: Routing | None) -> None:
    """Run each method once on a small crop, because the first run includes the setup of kernels."""
    runner = MethodRunner(conditions, pair.lr[:64, :64], budget)
    for method in methods:
        runner.run(method)


def _common_cut(
    conditions: Conditions, files: Sequence[PairFiles], paper: bool, allowance: Allowance
) -> Routing | None:
    """Return the routing with one cut that spends the budget over all images, or None if no image can be loaded."""
    images: list[NDArray[np.uint8]] = []
    for each in files:
        with suppress(PcsrError):  # reported when the image is measured
            images.append(load_pair(each, conditions.scale, paper).lr)
    if not images:
        return None
    network, scale = conditions.model.network, conditions.scale
    lr_pixels = sum(lr.shape[0] * lr.shape[1] for lr in images)
    sizes = [hr_size((lr.shape[0], lr.shape[1]), scale) for lr in images]
    size = Size(lr_pixels, sum(height * width for height, width in sizes))
    costs, original = model_costs(network), conditions.original_cost(lr_pixels)
    budget = to_budget(allowance, costs, size, None if original is None else original.paper / GIGA)
    assert budget.gflops is not None
    survey = DifficultySurvey(size.hr_pixels)
    for lr in images:
        survey_difficulties(network, as_lr(lr), scale, conditions.settings, survey)
    cut = cut_for_share(survey.values(), heavy_share(costs, size, budget.gflops))
    return Threshold(min(1.0, cut)) if cut >= 0 else ALL_HEAVY


@dataclass(frozen=True)
class PaperTable:
    """The mean row of each method over a folder. ``notes`` state which figures of peers PCSR cannot match."""

    folder: str
    images: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class Match:
    """A setting of PCSR that matches a figure of a peer. ``figure`` names this figure, such as ``PSNR of ClassSR``."""

    method: Method
    figure: str


def paper_table(
    conditions: Conditions,
    folder: str,
    files: Sequence[PairFiles],
    methods: Sequence[Method],
    peers: Sequence[Method] = (),
    lr_float: bool = False,
    observe: Callable[[Row, NDArray[np.uint8]], None] = lambda row, rgb: None,
    skip: Callable[[SkippedImage], None] = lambda image: None,
) -> PaperTable:
    """Measure ``methods``. For each peer, also measure PCSR at two values of k: one that reaches the peer's PSNR, and
    one that has the peer's GFLOPs. Raises the errors of ``bench``."""
    files = [replace(each, multiple=MULTIPLE, lr_float=lr_float) for each in files]
    matches, notes = find_matches(conditions, files, peers) if peers else ([], [])
    chosen = tuple(dict.fromkeys((*methods, *(match.method for match in matches))))
    result = bench(conditions, files, chosen, paper=True, observe=observe, skip=skip)
    rows = []
    for method, row in zip(chosen, result.mean, strict=True):
        figures = [match.figure for match in matches if match.method == method]
        rows.append(replace(row, image=folder, method=", ".join((row.method, *figures))))
    return PaperTable(folder, len(files) - len(result.skipped), tuple(rows), tuple(notes), result.skipped)


def find_matches(
    conditions: Conditions, files: Sequence[PairFiles], peers: Sequence[Method]
) -> tuple[list[Match], list[str]]:
    """For each peer, find the cheapest k that reaches its mean PSNR, and the k that has its mean GFLOPs.

    The curve of mean PSNR over k is composed from one run of both branches on each image. Also returns one sentence for
    each figure that is out of reach. Raises the errors of ``bench``."""
    targets = bench(conditions, files, peers, paper=True).mean
    alone = replace(conditions, original=None, peers={})
    curves, _ = each_pair(
        files, conditions.scale, lambda pair: sweep(alone, pair, MATCHES), lambda image: None, paper=True
    )
    points = mean_curve(curves).points
    best = max(point.psnr for point in points)
    matches, notes = [], []
    for target in targets:
        assert target.psnr is not None and target.paper is not None
        if best < target.psnr - MARGIN:
            notes.append(
                f"The PSNR of {target.method}, {target.psnr:.3f} dB, is out of reach: PCSR has at most {best:.3f} dB."
            )
        else:
            aim = min(best, target.psnr)
            matches.append(Match(_at(points, lambda point: point.psnr, aim), f"PSNR of {target.method}"))
        if points[-1].paper <= target.paper <= points[0].paper:
            matches.append(Match(_at(points, lambda point: point.paper, target.paper), f"GFLOPs of {target.method}"))
        else:
            notes.append(
                f"The {target.paper:.2f} GFLOPs of {target.method} are out of reach: PCSR costs from "
                f"{points[-1].paper:.2f} to {points[0].paper:.2f}."
            )
    return matches, notes


def _at(points: Sequence[Point], figure: Callable[[Point], float], aim: float) -> Method:
    """Interpolate between points of ascending k, and return the largest k whose figure reaches ``aim``."""
    values = list(zip(MATCHES.values, map(figure, points), strict=True))
    k, reached = values[-1]
    for before, value in reversed(values[:-1]):
        if reached >= aim:
            break
        k = before if value < aim else before + (k - before) * (value - aim) / (value - reached)
        reached = value
    return Method("k", round(k, 4))
