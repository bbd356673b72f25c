"""The promise checked on a picture and a machine: tiles, threads and passes change nothing, low precision little.

What is promised: the whole picture's routing, but for pixels whose difficulty is within TIE of the cut, and its
numbers to ROUNDING. Kernels sum in another order for another size or number of threads, so last bits may differ; a
value that lies on the border of two 8-bit levels, or on the cut between two branches, may then fall to either side.
Half precision promises less, see LOWER.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.refine import usual_refine
from pcsr_cli.engine.routing import Adaptive, Cuts, Routing, Threshold
from pcsr_cli.engine.upscale import Outcome, Settings, plan_for, predict_branches, upscale_whole
from pcsr_cli.images.image import Pixels
from pcsr_cli.model.network import Pcsr

TIE = 2e-6
"""A difficulty within this of the cut may fall on either side of it."""

ROUNDING = 1e-5
"""How far a number of the result, in [0, 1], may be off: the 390th part of an 8-bit level."""

WHOLE = 2**31
"""A tile larger than any image."""

USUAL_TILES = (96, 41)
"""LR pixels; tiles of half the picture are tried, too, and those the engine would choose."""


@dataclass(frozen=True)
class Tolerance:
    """What a comparison allows: ``difference`` of RGB in [0, 1] away from pixels that changed branch, and the share of
    pixels that may do so without lying on the cut."""

    difference: float
    flipped: float


EXACT = Tolerance(ROUNDING, 0.0)
LOWER = {torch.float16: Tolerance(0.01, 0.05), torch.bfloat16: Tolerance(0.08, 0.05)}
"""Half precision, of 11 or 8 bits, rounds the weights themselves. With CARN on Set14 the furthest were 0.007 and 0.05,
and 0.3% and 1.7% of the pixels changed branch."""


@dataclass(frozen=True)
class Comparison:
    """One way to compute against the whole picture at once in float32.

    ``difference`` and ``levels`` (of 255) are the largest away from pixels that changed branch and their neighbours,
    which refinement reaches; ``changed`` counts 8-bit values (three a pixel) anywhere. Of ``flipped`` pixels ``ties``
    lie on the cut (None: not looked for). ``moved`` is how far the cut of a probability was moved."""

    routing: str
    way: str
    tolerance: Tolerance
    pixels: int
    difference: float
    levels: int
    changed: int
    flipped: int
    ties: int | None
    moved: float

    @property
    def judged_exactly(self) -> bool:
        """Whether nothing but rounding was allowed."""
        return self.tolerance == EXACT

    @property
    def passed(self) -> bool:
        """Whether the promise held."""
        astray = self.flipped - (self.ties or 0)
        return self.difference <= self.tolerance.difference and astray <= self.tolerance.flipped * self.pixels


@dataclass(frozen=True)
class Verification:
    """What was checked: sizes are (height, width), ``threads`` those of the reference."""

    lr_size: tuple[int, int]
    hr_size: tuple[int, int]
    threads: int
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return all(one.passed for one in self.comparisons)

    @property
    def failures(self) -> int:
        """How many checks did not hold."""
        return sum(not one.passed for one in self.comparisons)


@dataclass(frozen=True)
class Way:
    """A way to compute the same: other tiles, other threads, nothing kept between ADM's passes, other precision."""

    name: str
    tile: int | None = WHOLE
    threads: int | None = None
    memory: int | None = None
    model: Pcsr | None = None
    tolerance: Tolerance = EXACT


def verify(
    model: Pcsr,
    rgb: Pixels,
    scale: float,
    tiles: Sequence[int] = (),
    lower: Pcsr | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Verification:
    """Compute a picture in many ways and compare each with the whole picture at once.

    ``model`` is in float32, ``lower`` the same in half precision, if that is to be compared; ``rgb`` is (h, w, 3), of
    8 or 16 bits; ``tiles`` are LR pixels a side, () for a choice of sizes. Holds two results as float32 at a time.
    """
    lr = as_lr(rgb)
    size = (lr.shape[2], lr.shape[3])
    # Where there are more branches than two, a cut on one probability is not to be had.
    routings: tuple[Routing, ...] = (Threshold(), Adaptive()) if model.spec.branches == 2 else (Adaptive(),)
    work = [(routing, ways(model, size, scale, routing, tiles, lower)) for routing in routings]
    steps = _Steps(progress, sum(1 + len(tried) for _, tried in work))
    found: list[Comparison] = []
    for routing, tried in work:
        reference = _run(model, lr, scale, routing, Way("whole"), steps)
        found.extend(_compare(model, lr, scale, routing, way, reference, steps) for way in tried)
    return Verification(size, hr_size(size, scale), torch.get_num_threads(), tuple(found))


def crop_middle(rgb: Pixels, side: int) -> Pixels:
    """The middle of a picture (h, w, 3), at most ``side`` pixels high and wide."""
    kept = [min(length, side) for length in rgb.shape[:2]]
    top, left = ((length - keep) // 2 for length, keep in zip(rgb.shape, kept, strict=False))
    return rgb[top : top + kept[0], left : left + kept[1]]


def ways(
    model: Pcsr, lr_size: tuple[int, int], scale: float, routing: Routing, tiles: Sequence[int], lower: Pcsr | None
) -> tuple[Way, ...]:
    """What is compared with the whole picture at once; sizes that do not cut the picture are left out."""
    longest = max(lr_size)
    sizes = tiles or sorted({-(-longest // 2), *USUAL_TILES}, reverse=True)
    found = [Way(f"tiles of {size}", size) for size in sizes if size < longest]
    if not tiles and len(plan_for(model, lr_size, scale, _settings(scale)).tiles) > 1:
        found.insert(0, Way("the usual tiles", None))
    if model.device.type == "cpu":
        found.append(Way("1 thread", threads=1) if torch.get_num_threads() > 1 else Way("2 threads", threads=2))
    if isinstance(routing, Adaptive):
        found.append(Way("features computed twice", memory=0))
    if lower is not None:
        found.append(Way(lower.precision, model=lower, tolerance=LOWER[lower.dtype]))
    return tuple(found)


def _settings(scale: float) -> Settings:
    return Settings(refine=usual_refine(scale))


@dataclass(frozen=True)
class _Result:
    rgb: Tensor
    labels: Tensor
    outcome: Outcome


def _run(model: Pcsr, lr: Tensor, scale: float, routing: Routing, way: Way, steps: "_Steps") -> _Result:
    settings = replace(_settings(scale), routing=routing, tile=way.tile, memory=way.memory)
    with _threads(way.threads or torch.get_num_threads()):
        rgb, labels, outcome = upscale_whole(way.model or model, lr, scale, settings, progress=steps.within)
    steps.next()
    return _Result(rgb, labels, outcome)


def _compare(
    model: Pcsr, lr: Tensor, scale: float, routing: Routing, way: Way, reference: _Result, steps: "_Steps"
) -> Comparison:
    result = _run(model, lr, scale, routing, way, steps)
    flipped = result.labels != reference.labels
    count = int(flipped.sum())
    ties = None
    if count and way.tolerance == EXACT:
        ties = int((flipped & _near(reference.outcome, model, lr, scale)).sum())
    elsewhere = ~_surroundings(flipped) if count else torch.ones_like(flipped)
    levels = _levels(result.rgb).sub_(_levels(reference.rgb)).abs_()
    difference = result.rgb.sub_(reference.rgb).abs_().amax(dim=2)
    assert bool(difference.isfinite().all())
    some = bool(elsewhere.any())
    return Comparison(
        routing="ADM" if isinstance(routing, Adaptive) else "threshold 0.5",
        way=way.name,
        tolerance=way.tolerance,
        pixels=flipped.numel(),
        difference=float(difference[elsewhere].max()) if some else 0.0,
        levels=int(levels.amax(dim=2)[elsewhere].max()) if some else 0,
        changed=int(levels.count_nonzero()),
        flipped=count,
        ties=ties,
        moved=_moved(reference.outcome, result.outcome),
    )


def _near(outcome: Outcome, model: Pcsr, lr: Tensor, scale: float) -> Tensor:
    """(H, W) bool: pixels that rounding may put on either side of a cut."""
    assert isinstance(outcome.decision, Cuts)
    difficulty = predict_branches(model, lr, scale, _settings(scale)).difficulty
    return torch.stack([(difficulty - cut).abs() <= TIE for cut in outcome.decision.values]).any(dim=0)


def _surroundings(mask: Tensor) -> Tensor:
    """(H, W) bool grown by one pixel in every direction."""
    return F.max_pool2d(mask[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0


def _levels(rgb: Tensor) -> Tensor:
    return rgb.mul(255).round_().clamp_(0, 255).to(torch.int16)


def _moved(one: Outcome, other: Outcome) -> float:
    assert isinstance(one.decision, Cuts) and isinstance(other.decision, Cuts)
    return max(abs(a - b) for a, b in zip(one.decision.values, other.decision.values, strict=True))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Steps:
    """Progress over many runs of the same size."""

    def __init__(self, progress: Callable[[float], None], count: int) -> None:
        self.progress, self.count, self.done = progress, count, 0

    def within(self, share: float) -> None:
        """The share of the run at hand."""
        self.progress(min(1.0, (self.done + share) / self.count))

    def next(self) -> None:
        """A run is over."""
        self.done += 1
