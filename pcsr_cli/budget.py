"""Budgets: from what may be spent to the cut on p_heavy that spends just that.

GFLOPs are counted by the paper's convention. With two branches they depend on nothing but the number of heavy pixels,
so a budget is a number of heavy pixels, and the cut is read off the difficulties of the picture.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Literal

import numpy as np
from torch import Tensor

from pcsr_cli.errors import UsageError, in_full
from pcsr_cli.flops import GIGA, ModelCosts, paper_flops
from pcsr_cli.routing import Budget

_ALLOWANCE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|G|s)", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Allowance:
    """What may be spent, as asked for: percent of the original network's GFLOPs, GFLOPs, or seconds."""

    amount: float
    unit: Literal["%", "G", "s"]

    def __str__(self) -> str:
        return f"{in_full(self.amount)}{self.unit}"


@dataclass(frozen=True)
class Size:
    """How many pixels a picture has before and after; over several pictures, their sums."""

    lr_pixels: int
    hr_pixels: int


def parse_allowance(text: str) -> Allowance:
    """``60%``, ``50G`` or ``8s``. Raises UsageError."""
    found = _ALLOWANCE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < math.inf:
        raise UsageError(f"A budget of {text[:20]!r} is none.", "Such as 60% (of the original), 50G (FLOPs) or 8s.")
    unit: dict[str, Literal["%", "G", "s"]] = {"%": "%", "g": "G", "s": "s"}
    return Allowance(float(found[1]), unit[found[2].lower()])


def gflops_range(costs: ModelCosts, size: Size) -> tuple[float, float]:
    """GFLOPs (paper) with all pixels light, and with all heavy."""
    light = paper_flops(costs, size.lr_pixels, (size.hr_pixels, 0))
    heavy = paper_flops(costs, size.lr_pixels, (0, size.hr_pixels))
    return light / GIGA, heavy / GIGA


def to_budget(allowance: Allowance, costs: ModelCosts, size: Size, original: float | None) -> Budget:
    """The budget for pictures of a size; ``original`` is the original network's GFLOPs (paper), None without one.

    Without one, percents are of all heavy. Raises UsageError for other than two branches, and outside of what is
    feasible, where that is known before anything ran (for seconds it is not).
    """
    if len(costs.branches) != 2:
        raise UsageError(
            f"A budget cuts between two branches, but this model has {len(costs.branches)}.", "Use --k or --adm."
        )
    if allowance.unit == "s":
        return Budget(seconds=allowance.amount)
    least, most = gflops_range(costs, size)
    if allowance.unit == "G":
        wanted, asked = allowance.amount, ""
    else:
        whole = most if original is None else original
        wanted = whole * allowance.amount / 100
        asked = f"{allowance} of {'all heavy' if original is None else 'the original'}"
    if not least <= wanted <= most:
        low, high = _inward(least, most)
        percent = ""
        if original is not None:
            percent = " ({}% to {}%)".format(*_inward(100 * least / original, 100 * most / original))
        budget = f"{allowance} ({wanted:.4g} GFLOPs)" if asked else allowance
        raise UsageError(
            f"A budget of {budget} cannot be met.", f"This takes {low}G (all light) to {high}G (all heavy){percent}."
        )
    return Budget(gflops=wanted, asked=asked)


def _inward(least: float, most: float) -> tuple[str, str]:
    """Limits in four digits, rounded so that either can be asked for."""
    up, down = Context(prec=4, rounding=ROUND_CEILING), Context(prec=4, rounding=ROUND_FLOOR)
    return f"{up.create_decimal(least):f}", f"{down.create_decimal(most):f}"


def heavy_share(costs: ModelCosts, size: Size, gflops: float) -> float:
    """The share of pixels that have to be heavy for GFLOPs (paper) to be spent: all, where these cost no more."""
    least, most = gflops_range(costs, size)
    return 1.0 if most <= least else min(1.0, max(0.0, (gflops - least) / (most - least)))


def cut_for_share(values: Tensor | Sequence[float], share: float) -> float:
    """The cut on p_heavy above which that share of the values lies, as nearly as equal values allow.

    ``values`` (N,) are the difficulties of all pixels, or of evenly spaced representatives. The cut may lie below 0,
    where all are above it.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float32))
    wanted = round(share * ordered.size)
    if wanted == 0:
        return float(ordered[-1])
    # The smallest value that is still to be heavy: a cut just below it takes all that equal it, one at it none.
    edge = ordered[ordered.size - wanted]
    at, below = float(edge), float(np.nextafter(edge, np.float32(-1)))
    above_it = ordered.size - int(np.searchsorted(ordered, edge, side="right"))
    with_it = ordered.size - int(np.searchsorted(ordered, edge, side="left"))
    return at if wanted - above_it < with_it - wanted else below
