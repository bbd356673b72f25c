"""Quality against compute over many pictures: ways to enlarge, measured side by side in one run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.levels import as_lr
from pcsr_cli.engine.routing import (
    ALL_HEAVY,
    Allowance,
    DifficultySurvey,
    Routing,
    Size,
    Threshold,
    cut_for_share,
    heavy_share,
    to_budget,
)
from pcsr_cli.engine.upscale import Settings, survey_difficulties
from pcsr_cli.errors import InputError, PcsrError, UsageError
from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage, load_pair
from pcsr_cli.evaluate.methods import Method
from pcsr_cli.evaluate.metrics import luma, psnr, ssim
from pcsr_cli.evaluate.originals import LoadedOriginal
from pcsr_cli.evaluate.runner import Contest, Enlarged, check_scales
from pcsr_cli.model.flops import GIGA, model_costs, original_flops
from pcsr_cli.model.registry import LoadedModel


@dataclass(frozen=True)
class Options:
    """What to measure. ``refine`` and ``tile`` are the engine's; ``luma`` is about PSNR, SSIM is always of luma.

    ``paper`` cuts pictures as the paper's tables do; ``allowance`` goes with the method "budget", one cut for all.
    """

    methods: tuple[Method, ...]
    scale: float
    refine: int
    tile: int | None = None
    luma: bool = False
    paper: bool = False
    original: LoadedOriginal | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True)
class Row:
    """One picture by one method, or the mean of all by one. What a method does not have is None.

    ``size`` is the result's (width, height). ``psnr`` is in dB, against HR, or without one against all heavy; ``paper``
    and ``executed`` are GFLOPs, ``original_share`` GFLOPs (paper) over the original network's. ``seconds`` is
    computing only.
    """

    picture: str
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


@dataclass(frozen=True)
class Result:
    """All that was measured; ``mean`` has one row a method."""

    rows: tuple[Row, ...]
    mean: tuple[Row, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class Measured:
    """One picture by one method, as it is done: how many of how many, the row and the pixels."""

    done: int
    total: int
    row: Row
    rgb: NDArray[np.uint8]


Observe = Callable[[Measured | SkippedImage], None]


def bench(model: LoadedModel, sources: Sequence[PairFiles], options: Options, observe: Observe) -> Result:
    """Measure every method on every picture; what cannot be measured is told to ``observe`` and left out.

    Raises UsageError where the model or the methods do not allow it, InputError where no picture is left.
    """
    check(model, options)
    rows: list[Row] = []
    skipped: list[SkippedImage] = []
    total = len(sources) * len(options.methods)
    settings = Settings(refine=options.refine, tile=options.tile)
    budget = None if options.allowance is None else _pooled(model, sources, options, options.allowance)
    contest = Contest(model, options.scale, settings, options.original, budget)
    for source in sources:
        try:
            pair = load_pair(source, options.scale, options.paper)
            if not rows:
                _warm_up(contest, options.methods, pair)
            for row, rgb in _measure(contest, pair, options):
                rows.append(row)
                observe(Measured(len(rows), total, row, rgb))
        except InputError as error:
            skipped.append(SkippedImage(source.name, str(error)))
            observe(skipped[-1])
    if not rows:
        reason = skipped[0].reason if skipped else "There is none."
        raise InputError("No picture could be measured.", reason)
    mean = tuple(mean_row([row for row in rows if row.method == method.label]) for method in options.methods)
    return Result(tuple(rows), mean, tuple(skipped))


def check(model: LoadedModel, options: Options) -> None:
    """Raise UsageError, before any work, for what the model or the request does not allow."""
    check_scales(model, options.scale, options.original)
    kinds = {method.kind for method in options.methods}
    if "original" in kinds and options.original is None:
        raise UsageError("The original network comes without weights.", "Give them with --original PATH.")
    if options.allowance is not None and options.allowance.unit == "s":
        raise UsageError("Over a folder a budget is in GFLOPs: seconds depend on more than the cut.", "Such as 60%.")
    assert ("budget" in kinds) == (options.allowance is not None)
    two_only = [method.label for method in options.methods if method.kind in {"threshold", "patch", "budget"}]
    branches = model.network.spec.branches
    if branches != 2 and two_only:
        methods = ", ".join(two_only)
        raise UsageError(
            f"The model has {branches} branches, not two: no {methods}.", "Compare k, adm, heavy and light instead."
        )


def _measure(contest: Contest, pair: Pair, options: Options) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Every method on one picture."""
    entrant = contest.enter(pair.lr)
    truth = entrant.all_heavy if pair.hr is None else pair.hr
    shave = math.ceil(options.scale)
    luma_truth = luma(truth)
    cost = entrant.original_cost
    original = None if cost is None else cost.paper / GIGA
    for method in options.methods:
        done = entrant.enlarge(method)
        luma_result = luma(done.rgb)
        quality = psnr(luma_result, luma_truth, shave) if options.luma else psnr(done.rgb, truth, shave)
        likeness = ssim(luma_result, luma_truth, shave)
        yield _row(pair.name, method, done, quality, likeness, original), done.rgb


def _row(name: str, method: Method, done: Enlarged, quality: float, likeness: float, original: float | None) -> Row:
    height, width = done.rgb.shape[:2]
    share = None if original is None or done.paper is None else done.paper / original
    rate = None if not done.seconds else height * width / 1e6 / done.seconds
    return Row(
        picture=name,
        method=method.label,
        size=(width, height),
        heavy_share=done.heavy_share,
        psnr=quality,
        ssim=None if math.isnan(likeness) else likeness,
        paper=done.paper,
        executed=done.executed,
        original_share=share,
        seconds=done.seconds,
        megapixels_per_second=rate,
    )


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean of one method's rows: of each column by itself, but shares and rates of the sums."""
    paper = _mean([row.paper for row in rows])
    originals = [row.paper / row.original_share for row in rows if row.paper is not None and row.original_share]
    seconds = _mean([row.seconds for row in rows])
    megapixels = fmean([row.size[0] * row.size[1] / 1e6 for row in rows if row.size is not None])
    return Row(
        picture="mean",
        method=rows[0].method,
        size=None,
        heavy_share=_mean([row.heavy_share for row in rows]),
        psnr=_mean([row.psnr for row in rows]),
        ssim=_mean([row.ssim for row in rows]),
        paper=paper,
        executed=_mean([row.executed for row in rows]),
        original_share=paper / fmean(originals) if paper is not None and len(originals) == len(rows) else None,
        seconds=seconds,
        megapixels_per_second=megapixels / seconds if seconds else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those there are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _warm_up(contest: Contest, methods: Sequence[Method], pair: Pair) -> None:
    """Run each method once on a corner: a first run sets up kernels, and its time would tell nothing."""
    entrant = contest.enter(pair.lr[:64, :64])
    for method in methods:
        entrant.enlarge(method)


def _pooled(model: LoadedModel, sources: Sequence[PairFiles], options: Options, allowance: Allowance) -> Routing | None:
    """One cut with which all pictures together spend the budget, from the difficulties of all of them."""
    pictures: list[NDArray[np.uint8]] = []
    for source in sources:
        try:
            pictures.append(load_pair(source, options.scale, options.paper).lr)
        except PcsrError:
            continue  # told when its turn comes
    if not pictures:
        return None
    lr_pixels = sum(lr.shape[0] * lr.shape[1] for lr in pictures)
    sizes = [hr_size((lr.shape[0], lr.shape[1]), options.scale) for lr in pictures]
    size = Size(lr_pixels, sum(height * width for height, width in sizes))
    costs = model_costs(model.network)
    original = original_flops(model.identity.original, options.scale, lr_pixels)
    budget = to_budget(allowance, costs, size, None if original is None else original.paper / GIGA)
    assert budget.gflops is not None
    survey = DifficultySurvey(size.hr_pixels)
    settings = Settings(refine=options.refine, tile=options.tile)
    for lr in pictures:
        survey_difficulties(model.network, as_lr(lr), options.scale, settings, survey)
    cut = cut_for_share(survey.values(), heavy_share(costs, size, budget.gflops))
    return Threshold(min(1.0, cut)) if cut >= 0 else ALL_HEAVY
