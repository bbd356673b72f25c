"""The ways to enlarge that ``bench`` compares, by the names they have on the command line."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pcsr_cli.engine.routing import ALL_HEAVY, ALL_LIGHT, Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.errors import UsageError

Kind = Literal["threshold", "k", "adm", "heavy", "light", "patch", "budget", "bicubic", "lanczos", "original"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMED = tuple(kind for kind in KINDS if kind != "budget")
"""Those that --methods takes: a budget has an option of its own."""

DEFAULTS: dict[Kind, float] = {"threshold": 0.5, "k": 0.0, "patch": 32}


@dataclass(frozen=True)
class Method:
    """One way to enlarge; ``value`` is the threshold, k, or the side of a patch in LR pixels."""

    kind: Kind
    value: float | None = None

    @property
    def label(self) -> str:
        """Its name in tables and documents."""
        match self.kind:
            case "heavy" | "light":
                return f"all {self.kind}"
            case "adm":
                return "ADM"
            case "k":
                return f"k = {self._number}"
            case "lanczos":
                return "Lanczos"
            case _:
                return self.kind if self.value is None else f"{self.kind} {self._number}"

    @property
    def _number(self) -> str:
        """The value to its last digit: two methods have two names."""
        return str(self.value).removesuffix(".0")

    @property
    def routing(self) -> Routing | None:
        """How the engine routes for it; None for what is no routing of single pixels, or decided elsewhere."""
        match self.kind:
            case "threshold" | "k":
                assert self.value is not None
                return Threshold(self.value) if self.kind == "threshold" else Tradeoff(self.value)
            case "adm":
                return Adaptive()
            case "heavy":
                return ALL_HEAVY
            case "light":
                return ALL_LIGHT
            case _:
                return None


def parse_methods(text: str) -> tuple[Method, ...]:
    """A comma list such as ``threshold=0.3,adm,patch=64,bicubic``. Raises UsageError."""
    methods = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not methods:
        known = ", ".join(NAMED)
        raise UsageError("--methods names no method.", f"Choose among {known}.")
    return tuple(dict.fromkeys(methods))


def _parse(text: str) -> Method:
    name, given, value = text.partition("=")
    name = name.strip().lower().removeprefix("all-").removeprefix("all ")
    kind = next((kind for kind in NAMED if kind == name), None)
    if kind is None:
        known = ", ".join(NAMED)
        raise UsageError(f"There is no method {text!r}.", f"Known: {known}; threshold, k and patch take =VALUE.")
    if not given:
        return Method(kind, DEFAULTS.get(kind))
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    whole = number == number and abs(number) < 1e9 and number == int(number)
    if kind not in DEFAULTS or number != number or (kind == "patch" and (number < 1 or not whole)):
        raise UsageError(f"{text!r} is no method.", "Such as threshold=0.3, k=1 or patch=64 (LR pixels).")
    method = Method(kind, number)
    _ = method.routing  # a threshold or a k out of range is refused here
    return method


def patch_mask(difficulty: Tensor, side: int, heavy: int) -> Tensor:
    """The pixels that are heavy where whole patches are routed by their mean p_heavy, (H, W) bool.

    ``difficulty`` is (H, W), ``side`` the patch's in HR pixels. The hardest patches are heavy until ``heavy`` pixels
    are spent; of the last one only its upper part, so that exactly as much is spent as by the routing compared with.
    """
    height, width = difficulty.shape
    across = -(-width // side)
    patch = (torch.arange(height) // side)[:, None] * across + torch.arange(width) // side
    count = torch.bincount(patch.view(-1))
    mean = torch.bincount(patch.view(-1), weights=difficulty.reshape(-1).double()) / count
    rank = torch.empty_like(count)
    rank[mean.argsort(descending=True, stable=True)] = torch.arange(len(count))
    order = rank[patch.view(-1)].argsort(stable=True)
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[order[:heavy]] = True
    return mask.view(height, width)
