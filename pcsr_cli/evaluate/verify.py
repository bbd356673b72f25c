"""Checks that tiles, threads and passes do not change the result of an image on this machine.

Each variant of the computation is compared with the whole image at once in float32. For another size or number of
threads, kernels sum in another order. Values may therefore differ by ROUNDING, and a pixel whose p_heavy is within TIE
of the cut may change its branch. LOWER allows the larger differences of half precision."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.routing import Cuts
from pcsr_cli.engine.rules import Adaptive, Routing, Threshold, usual_refine
from pcsr_cli.engine.upscale import Outcome, Settings, plan_for, predict_branches, upscale_whole
from pcsr_cli.images.image import Pixels
from pcsr_cli.model.network import Pcsr

TIE = 2e-6
"""A pixel whose p_heavy is within this distance of the cut may be on either side."""

ROUNDING = 1e-5
"""The largest difference of a value in [0, 1] from rounding: 1/390 of an 8-bit level."""

WHOLE = 2**31
"""A tile larger than any image."""

DEFAULT_TILES = (96, 41)
"""Tile sides in LR pixels, in addition to half of the image and the engine's choice."""

Upscaled = tuple[Tensor, Tensor, Outcome]
"""The result of ``upscale_whole``."""


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference of RGB in [0, 1], and the share of pixels that may change branch without a tie.

    Pixels that changed branch and their neighbours are not compared."""

    difference: float
    flipped: float


EXACT = Tolerance(ROUNDING, 0.0)
LOWER = {torch.float16: Tolerance(0.01, 0.05), torch.bfloat16: Tolerance(0.08, 0.05)}
"""Half precision rounds the weights to 11 or 8 bits. With CARN on Set14 the largest differences were 0.007 and 0.05,
and 0.3% and 1.7% of the pixels changed branch."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of a variant with the reference: the whole image at once, in float32.

    ``difference`` is the largest difference of values in [0, 1], ``levels`` the largest difference of 8-bit values.
    Pixels that changed branch are excluded, and their neighbours too, because refinement changes the neighbours.
    ``changed`` counts all changed 8-bit values, three per pixel. ``flipped`` counts the pixels that changed branch.
    ``ties`` counts the flipped pixels on the cut, and is None if the cut was not examined."""

    routing: str
    variant: str
    tolerance: Tolerance
    pixels: int
    difference: float
    levels: int
    changed: int
    flipped: int
    ties: int | None

    @property
    def exact(self) -> bool:
        """Whether only rounding is allowed."""
        return self.tolerance == EXACT

    @property
    def passed(self) -> bool:
        """Whether the variant is within its tolerance."""
        flipped = self.flipped - (self.ties or 0)
        return self.difference <= self.tolerance.difference and flipped <= self.tolerance.flipped * self.pixels


@dataclass(frozen=True)
class Variant:
    """A variant of the computation. The reference has the default values.

    With ``tile`` None, the engine chooses the tile. With ``memory`` 0, no features are kept between ADM's passes."""

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
) -> list[Comparison]:
    """Upscale an image in several variants and compare each with the whole image at once.

    ``model`` is in float32. ``lower`` is the same model in half precision, or None. ``rgb`` is (h, w, 3) uint8 or
    uint16. ``tiles`` lists the sides of the tiles to try, in LR pixels. Without ``tiles``, several sizes are tried.
    Memory holds two results in float32 at a time."""
    lr = as_lr(rgb)
    size = (lr.shape[2], lr.shape[3])
    # With more than two branches a routing cannot be one cut on one probability.
    routings: tuple[Routing, ...] = (Threshold(), Adaptive()) if model.spec.branches == 2 else (Adaptive(),)
    work = [(routing, variants(model, size, scale, routing, tiles, lower)) for routing in routings]
    runner = _Runner(model, lr, scale, progress, sum(1 + len(each) for _, each in work))
    found: list[Comparison] = []
    for routing, each in work:
        reference = runner.run(routing, Variant("whole"))
        found.extend(runner.compare(routing, variant, reference) for variant in each)
    return found


def crop_middle(rgb: Pixels, side: int) -> Pixels:
    """Crop an image (h, w, 3) to its middle, at most ``side`` pixels high and wide."""
    height, width = (min(length, side) for length in rgb.shape[:2])
    top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
    return rgb[top : top + height, left : left + width]


def variants(
    model: Pcsr, lr_size: tuple[int, int], scale: float, routing: Routing, tiles: Sequence[int], lower: Pcsr | None
) -> tuple[Variant, ...]:
    """Return the variants for an image. Tiles that would not split the image are dropped."""
    longest = max(lr_size)
    sizes = tiles or sorted({-(-longest // 2), *DEFAULT_TILES}, reverse=True)
    found = [Variant(f"tiles of {size}", size) for size in sizes if size < longest]
    if not tiles and len(plan_for(model, lr_size, scale, Settings(refine=usual_refine(scale))).tiles) > 1:
        found.insert(0, Variant("default tiles", None))
    if model.device.type == "cpu":
        found.append(Variant("1 thread", threads=1) if torch.get_num_threads() > 1 else Variant("2 threads", threads=2))
    if isinstance(routing, Adaptive):
        found.append(Variant("features computed twice", memory=0))
    if lower is not None:
        found.append(Variant(lower.precision, model=lower, tolerance=LOWER[lower.dtype]))
    return tuple(found)


class _Runner:
    """Runs variants on one image and reports the progress over ``count`` runs."""

    def __init__(self, model: Pcsr, lr: Tensor, scale: float, progress: Callable[[float], None], count: int) -> None:
        self.model = model
        self.lr = lr
        self.scale = scale
        self.settings = Settings(refine=usual_refine(scale))
        self.progress = progress
        self.count = count
        self.done = 0

    def run(self, routing: Routing, variant: Variant) -> Upscaled:
        settings = replace(self.settings, routing=routing, tile=variant.tile, memory=variant.memory)
        with _threads(variant.threads or torch.get_num_threads()):
            result = upscale_whole(
                variant.model or self.model,
                self.lr,
                self.scale,
                settings,
                progress=lambda share: self.progress(min(1.0, (self.done + share) / self.count)),
            )
        self.done += 1
        return result

    def compare(self, routing: Routing, variant: Variant, reference: Upscaled) -> Comparison:
        rgb, labels, _ = self.run(routing, variant)
        whole_rgb, whole_labels, whole_outcome = reference
        flipped = labels != whole_labels
        count = int(flipped.sum())
        ties = int((flipped & self._on_cut(whole_outcome)).sum()) if count and variant.tolerance == EXACT else None
        # The neighbours of flipped pixels are excluded: refinement changes them.
        compared = F.max_pool2d(flipped[None, None].float(), 3, stride=1, padding=1)[0, 0] == 0
        levels = _to_8_bits(rgb).sub_(_to_8_bits(whole_rgb)).abs_()
        difference = rgb.sub_(whole_rgb).abs_().amax(dim=2)
        assert bool(difference.isfinite().all())
        return Comparison(
            routing="ADM" if isinstance(routing, Adaptive) else "threshold 0.5",
            variant=variant.name,
            tolerance=variant.tolerance,
            pixels=flipped.numel(),
            difference=float((difference * compared).max()),
            levels=int((levels.amax(dim=2) * compared).max()),
            changed=int(levels.count_nonzero()),
            flipped=count,
            ties=ties,
        )

    def _on_cut(self, outcome: Outcome) -> Tensor:
        """Return the pixels, (H, W) bool, that rounding may put on either side of a cut."""
        assert isinstance(outcome.decision, Cuts)
        difficulty = predict_branches(self.model, self.lr, self.scale, self.settings).difficulty
        return torch.stack([(difficulty - cut).abs() <= TIE for cut in outcome.decision.values]).any(dim=0)


def _to_8_bits(rgb: Tensor) -> Tensor:
    return rgb.mul(255).round_().clamp_(0, 255).to(torch.int16)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
