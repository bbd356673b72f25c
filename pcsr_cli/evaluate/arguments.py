"""The arguments of ``bench``, ``sweep`` and ``report``: methods, the grid of a curve, and files of results.

This module does not import torch and numpy, so that a mistake is found without them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError, UsageError, in_full

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
PAGE_SUFFIXES = {".html", ".htm"}
MAX_POINTS = 1000
"""Maximum number of points of a curve."""

MAX_BOUNDARIES = 255
"""Maximum number of cuts (thresholds of p_heavy) that a page can offer."""

PeerKind = Literal["carn", "fsrcnn", "srresnet", "bsrn", "classsr", "arm"]
Kind = Literal["threshold", "k", "adm", "heavy", "light", "patch", "budget", "bicubic", "lanczos", "original", PeerKind]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES = tuple(kind for kind in KINDS if kind != "budget")
"""The names that a list of methods may contain. The method "budget" is not among these names, because the budget is set
separately."""

DEFAULTS: dict[Kind, float] = {"threshold": 0.5, "k": 0.0, "patch": 32, "arm": 1.38}
LABELS: dict[Kind, str] = {
    "k": "k =",
    "adm": "ADM",
    "heavy": "all heavy",
    "light": "all light",
    "lanczos": "Lanczos",
    "carn": "CARN",
    "fsrcnn": "FSRCNN",
    "srresnet": "SRResNet",
    "bsrn": "BSRN",
    "classsr": "ClassSR",
    "arm": "ARM k =",
}
PEERS: tuple[Kind, ...] = get_args(PeerKind)
"""The methods with their own weights: original networks, and methods that route patches."""

MAX_ARM_K = 1000
ROUTINGS: dict[Kind, Routing] = {"adm": Adaptive(), "heavy": ALL_HEAVY, "light": ALL_LIGHT}


@dataclass(frozen=True)
class Method:
    """A method of upscaling. ``value`` is the threshold, k, ARM's k, or the side of a patch in LR pixels."""

    kind: Kind
    value: float | None = None

    @property
    def label(self) -> str:
        """The name in tables and documents, with all digits of the value."""
        value = "" if self.value is None else f" {str(self.value).removesuffix('.0')}"
        return LABELS.get(self.kind, self.kind) + value

    @property
    def routing(self) -> Routing | None:
        """The routing by pixel. None if the method has no such routing, or if the routing is set separately
        (budget)."""
        if self.value is not None and self.kind in {"threshold", "k"}:
            return Threshold(self.value) if self.kind == "threshold" else Tradeoff(self.value)
        return ROUTINGS.get(self.kind)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Parse a comma-separated list such as ``threshold=0.3,adm,patch=64,bicubic``. Raises UsageError."""
    methods = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not methods:
        raise UsageError("The list of methods is empty.", f"Choose from {', '.join(NAMES)}.", setting="methods")
    return tuple(dict.fromkeys(methods))


def _parse(text: str) -> Method:
    name, has_value, value = text.partition("=")
    name = name.strip().lower().removeprefix("all-").removeprefix("all ")
    kind = next((kind for kind in NAMES if kind == name), None)
    if kind is None:
        raise UsageError(f"Unknown method {text!r}.", f"Choose from {', '.join(NAMES)}.", setting="methods")
    if not has_value:
        return Method(kind, DEFAULTS.get(kind))
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    is_side = abs(number) < 1e9 and number >= 1 and number == int(number)
    if kind not in DEFAULTS or number != number or (kind == "patch" and not is_side):
        raise UsageError(f"Invalid method {text!r}.", "Examples: threshold=0.3, k=1, patch=64 (LR pixels).")
    if kind == "arm" and not 0 <= number <= MAX_ARM_K:
        raise UsageError(f"ARM's k of {value} is out of range.", f"Use a number from 0 to {MAX_ARM_K}.")
    method = Method(kind, number)
    _ = method.routing  # raises UsageError for a threshold or k out of range
    return method


@dataclass(frozen=True)
class PeerRequest:
    """The files of a peer. ``table`` is ARM's table, or a folder of HR images from which the table is computed."""

    method: Method
    path: Path
    table: Path | None = None


def parse_peers(texts: Sequence[str]) -> tuple[PeerRequest, ...]:
    """Parse texts such as ``classsr=PATH`` and ``arm=PATH,k=1.3,table=PATH``. Raises UsageError."""
    found: dict[str, PeerRequest] = {}
    for text in texts:
        parsed = re.fullmatch(rf"({'|'.join(PEERS)})=(.+?)((?:,(?:k|table)=[^,]+)*)", text)
        pairs = [part.split("=", 1) for part in parsed[3].split(",")[1:]] if parsed else []
        if parsed is None or (parsed[1] != "arm" and pairs) or len(dict(pairs)) < len(pairs):
            known = ", ".join(f"{name}=PATH" for name in PEERS)
            raise UsageError(f"Invalid peer {text!r}.", f"Use {known} or arm=PATH,k=1.38,table=PATH.", setting="peer")
        name, options = parsed[1], dict(pairs)
        if name in found:
            raise UsageError(f"Two peers have the name {name}.", "Give each peer once.", setting="peer")
        method = _parse(f"{name}={options['k']}" if "k" in options else name)
        found[name] = PeerRequest(method, Path(parsed[2]), Path(options["table"]) if "table" in options else None)
    return tuple(found.values())


@dataclass(frozen=True)
class CutGrid:
    """The points of a curve: ascending values of ``kind``, which is "threshold" or "k"."""

    kind: str
    values: tuple[float, ...]


def parse_grid(kind: str, text: str) -> CutGrid:
    """Parse ``START:STOP:STEP`` (both ends included) or comma-separated numbers. Raises UsageError."""
    parts = text.split(":")
    try:
        if len(parts) == 3:
            values = _steps(*(float(part) for part in parts))
        else:
            values = [float(part) for part in text.split(",") if part.strip()]
    except (ValueError, OverflowError):
        values = [math.nan]
    if not all(math.isfinite(value) for value in values) or len(parts) not in {1, 3}:
        raise UsageError(f"Invalid grid {text[:40]!r}.", "Use START:STOP:STEP or a list of numbers.", setting=kind)
    if not 0 < len(values) <= MAX_POINTS:
        raise UsageError(f"The grid {text[:40]!r} has {len(values)} points.", f"Use 1 to {MAX_POINTS}.", setting=kind)
    low, high = (0, 1) if kind == "threshold" else (-100, 100)
    outside = [value for value in values if not low <= value <= high]
    if outside:
        raise UsageError(
            f"{in_full(outside[0])} in the grid is out of range.", f"Use values from {low} to {high}.", setting=kind
        )
    return CutGrid(kind, tuple(sorted(set(values))))


def _steps(start: float, stop: float, step: float) -> list[float]:
    if not step or not all(math.isfinite(value) for value in (start, stop, step)):
        return [math.nan]
    count = math.floor((stop - start) / step + 1e-6) + 1
    # Rounded so that 0.1 + 0.2 is 0.3 and the last value is not above the end.
    return [round(start + index * step, 9) for index in range(min(max(count, 0), MAX_POINTS + 1))]


def check_figure(output: Path) -> None:
    """Raise OutputError for an unknown format and PlotError without matplotlib, before any work."""
    if output.suffix.lower() not in FIGURE_SUFFIXES:
        raise OutputError(f"Cannot write a plot as {output.name!r}.", f"Use one of {', '.join(FIGURE_SUFFIXES)}.")
    figure_class()


def check_page(output: Path, grid: CutGrid) -> None:
    """Check the output name and the grid before any work. Raises RefusedOutputError or UsageError."""
    if output.suffix.lower() not in PAGE_SUFFIXES:
        raise RefusedOutputError(f"Cannot write a report as {output.name!r}.", "Use a name that ends in .html.")
    if len(grid.values) > MAX_BOUNDARIES:
        message = f"A report holds at most {MAX_BOUNDARIES} cuts, not {len(grid.values)}."
        raise UsageError(message, "Use a coarser grid.")


def figure_class() -> Any:
    """Return matplotlib's class of figures. Raises PlotError if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("Plots need matplotlib.", "Install matplotlib with: pip install matplotlib.") from error
    return Figure
