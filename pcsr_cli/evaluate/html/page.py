"""What a page holds: provenance, pictures with their previews and curves, and the tables of a bench."""

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
import numpy as np
import torch

from pcsr_cli.engine.levels import to_levels
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.evaluate.bench import Row
from pcsr_cli.evaluate.dataset import Pair, SkippedImage
from pcsr_cli.evaluate.html.previews import MOST_BOUNDARIES, Boundaries, Preview, choose_boundaries, make_previews
from pcsr_cli.evaluate.metrics import luma, psnr
from pcsr_cli.evaluate.sweep import KNEE_RULE, Curve, Grid, Options, Point, explore, mean_curve, trace
from pcsr_cli.images.files import atomic_write, finite
from pcsr_cli.images.resize import resize_bicubic_8bit
from pcsr_cli.jobs.maps import TINT, difficulty_colours
from pcsr_cli.model.registry import Identity, LoadedModel


@dataclass(frozen=True)
class PagePicture:
    """One picture: sizes are (width, height), LR and HR; ``bicubic`` is bicubic's PSNR in dB, None without an HR."""

    name: str
    lr_size: tuple[int, int]
    size: tuple[int, int]
    previews: tuple[Preview, ...]
    boundaries: Boundaries
    curve: Curve
    bicubic: float | None


@dataclass(frozen=True)
class Made:
    """How a page came about: all that is needed to make it again."""

    command: str
    model: Identity
    parameters: int
    scale: float
    refine: int
    luma: bool
    no_reference: bool
    grid: Grid
    device: str
    precision: str
    versions: str

    @property
    def quality(self) -> str:
        """What PSNR means here."""
        return f"PSNR of {'luma' if self.luma else 'RGB'} against {'all heavy' if self.no_reference else 'HR'}"


@dataclass(frozen=True)
class Page:
    """A page: pictures over one grid of cuts, those left out, and the rows of a bench where there was one."""

    made: Made
    pictures: tuple[PagePicture, ...]
    skipped: tuple[SkippedImage, ...] = ()
    rows: tuple[Row, ...] = ()
    mean: tuple[Row, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """All that the page's script needs, JSON-ready; numbers that are not finite are null."""
        curves = [picture.curve for picture in self.pictures]
        document = {
            "grid": {"kind": self.made.grid.kind, "values": list(self.made.grid.values)},
            "start": _start(curves[0].points),
            "colours": "".join(f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in difficulty_colours()),
            "tint": list(TINT),
            "reference": "all heavy" if self.made.no_reference else "HR",
            "pictures": [_describe_picture(picture) for picture in self.pictures],
            "mean": _describe_curve(mean_curve(curves)),
            "mean_bicubic": _mean([picture.bicubic for picture in self.pictures]),
        }
        told: dict[str, Any] = finite(document)
        return told


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, None unless all are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _start(points: Sequence[Point]) -> int:
    """Where the handle stands at first: the cut nearest to the default, 0.5."""
    cuts = [point_cut(point) for point in points]
    return min(range(len(cuts)), key=lambda index: abs(cuts[index] - 0.5))


def point_cut(point: Point) -> float:
    """The cut of a single picture's point, which always has one."""
    assert point.cut is not None
    return point.cut


def _describe_picture(picture: PagePicture) -> dict[str, Any]:
    boundaries = picture.boundaries
    return {
        "name": readable(picture.name),
        "lrSize": list(picture.lr_size),
        "size": list(picture.size),
        "bicubic": picture.bicubic,
        "boundaries": list(boundaries.values),
        "cutLevels": [boundaries.index(point_cut(point)) for point in picture.curve.points],
        "previews": [asdict(preview) for preview in picture.previews],
        "curve": _describe_curve(picture.curve),
    }


def _describe_curve(curve: Curve) -> dict[str, Any]:
    knee = curve.knee
    return {
        "points": [asdict(point) for point in curve.points],
        "light": asdict(curve.light),
        "heavy": asdict(curve.heavy),
        "adm": asdict(curve.adm),
        "knee": curve.points.index(knee) if knee is not None else None,
        "original": None if curve.original is None else asdict(curve.original),
    }


def readable(name: str) -> str:
    """A file's name as text, whatever bytes it is made of."""
    return name.encode("utf-8", "replace").decode("utf-8")


SUFFIXES = {".html", ".htm"}
SCRIPTS = ("figures.js", "table.js", "curve.js", "pan.js", "stage.js", "page.js")
KEYS = ("heavy_share", "psnr", "ssim", "paper", "executed", "saved", "saved_executed")
"""The columns of the table of pictures that follow the cut."""


def check_page(output: Path, grid: Grid) -> None:
    """Raise, before any work, RefusedOutputError for a page by another name, UsageError for one of too many cuts."""
    if output.suffix.lower() not in SUFFIXES:
        raise RefusedOutputError(f"A report is not written as {output.name!r}.", "Give it a name that ends in .html.")
    if len(grid.values) > MOST_BOUNDARIES:
        raise UsageError(
            f"A report holds at most {MOST_BOUNDARIES} cuts, not {len(grid.values)}.", "Give a coarser grid."
        )


def write_page(output: Path, page: Page, replace: bool) -> None:
    """Write the page, whole or not at all. Raises OutputError, and RefusedOutputError without
    ``replace`` where something is there."""
    with atomic_write(output, replace) as temporary:
        temporary.write_text(render(page), encoding="utf-8", errors="replace")


def render(page: Page) -> str:
    """The page as HTML."""
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html")
    return template.render(
        title=_title(page),
        made=page.made,
        shave=math.ceil(page.made.scale),
        pictures=page.pictures,
        skipped=page.skipped,
        rows=page.rows,
        mean=page.mean,
        keys=KEYS,
        knee_rule=KNEE_RULE,
        infinity=math.inf,
        document=page.as_document(),
        policy=policy,
        style=style,
        script=script,
    )


def _title(page: Page) -> str:
    count = len(page.pictures)
    what = readable(page.pictures[0].name) if count == 1 else f"{count} pictures"
    return f"{page.made.model.name} ×{page.made.scale:g}: {what}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pcsr_cli.evaluate.html", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["readable"] = readable
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


@cache
def _asset(name: str) -> str:
    return (files("pcsr_cli.evaluate.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression for an inline block."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def see_picture(
    model: LoadedModel, pair: Pair, options: Options, progress: Callable[[float], None] | None = None
) -> PagePicture:
    """Explore and sweep a picture as ``sweep`` does, and keep what a page shows of it.

    ``progress`` is told the share done. Raises as ``sweep``.
    """
    report = progress or (lambda share: None)
    composer = explore(model, pair, options, lambda share: report(share / 2))
    curve = trace(model, pair, composer, options, lambda share: report(0.5 + 0.45 * share))
    height, width = composer.size
    bicubic = resize_bicubic_8bit(pair.lr, height, width)
    light, heavy = (to_levels(rgb, torch.uint8).numpy() for rgb in composer.branches.rgb)
    layers = {"bicubic": bicubic, "light": light, "heavy": heavy}
    quality = None
    if pair.hr is not None:
        layers["hr"] = pair.hr
        shave = math.ceil(options.scale)
        quality = psnr(luma(bicubic), luma(pair.hr), shave) if options.luma else psnr(bicubic, pair.hr, shave)
    boundaries = choose_boundaries([point_cut(point) for point in curve.points])
    interest = np.abs(luma(heavy) - luma(bicubic)).astype(np.float32)
    previews = make_previews(layers, composer.branches.difficulty.numpy(), boundaries, interest)
    report(1.0)
    lr_height, lr_width = pair.lr_size
    size = (width, height)
    return PagePicture(pair.name, (lr_width, lr_height), size, previews, boundaries, curve, quality)
