"""The HTML page of ``pcsr report``: one file that works without a network or a server.

``build_image`` computes the data of one image, ``write_page`` writes the page. The template, the style and the scripts
are in ``assets/``.
"""

import base64
import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

import pcsr_cli
from pcsr_cli.engine.device import describe_device, to_levels
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.evaluate.bench import Row
from pcsr_cli.evaluate.dataset import Pair, SkippedImage
from pcsr_cli.evaluate.html.previews import MAX_BOUNDARIES, Preview, choose_boundaries, make_previews
from pcsr_cli.evaluate.metrics import luma, mean_psnr
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.evaluate.sweep import KNEE_RULE, Curve, CutGrid, Point, mean_curve, trace
from pcsr_cli.images.files import atomic_write, finite
from pcsr_cli.images.resize import resize_bicubic_8bit
from pcsr_cli.jobs.maps import P_HEAVY_COLOURS, TINT

SUFFIXES = {".html", ".htm"}
SCRIPTS = ("figures.js", "table.js", "curve.js", "pan.js", "stage.js", "page.js")
COLUMNS = ("heavy_share", "psnr", "ssim", "paper", "executed", "saved", "saved_executed")
"""The columns of the page's table that change with the cut."""


@dataclass(frozen=True)
class PageImage:
    """One image of the page. Sizes are (width, height).

    ``bicubic`` is the PSNR in dB of bicubic upscaling, None without HR.
    """

    name: str
    lr_size: tuple[int, int]
    size: tuple[int, int]
    previews: tuple[Preview, ...]
    boundaries: tuple[float, ...]
    curve: Curve
    bicubic: float | None


@dataclass(frozen=True)
class Page:
    """The content of a page: images with the same grid of cuts, skipped images, and the rows of a bench if any.

    ``command`` is the command line that made the page.
    """

    command: str
    conditions: Conditions
    grid: CutGrid
    images: tuple[PageImage, ...]
    skipped: tuple[SkippedImage, ...] = ()
    rows: tuple[Row, ...] = ()
    mean: tuple[Row, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return the data of the page's script as JSON values. Numbers that are not finite are None."""
        curves = [image.curve for image in self.images]
        bicubic = [image.bicubic for image in self.images if image.bicubic is not None]
        cuts = [_cut_of(point) for point in curves[0].points]
        document: dict[str, Any] = finite(
            {
                "grid": asdict(self.grid),
                "start": min(range(len(cuts)), key=lambda index: abs(cuts[index] - 0.5)),
                "colours": P_HEAVY_COLOURS.tobytes().hex(),
                "tint": list(TINT),
                "reference": self.conditions.reference,
                "images": [_image_document(image) for image in self.images],
                "mean": _curve_document(mean_curve(curves)),
                "mean_bicubic": mean_psnr(bicubic)[0] if len(bicubic) == len(curves) else None,
            }
        )
        return document


def _cut_of(point: Point) -> float:
    """Return the cut of a point. Only points of a mean curve may have no cut."""
    assert point.cut is not None
    return point.cut


def _image_document(image: PageImage) -> dict[str, Any]:
    return {
        "name": printable_name(image.name),
        "lrSize": list(image.lr_size),
        "size": list(image.size),
        "bicubic": image.bicubic,
        "boundaries": list(image.boundaries),
        "cutLevels": [image.boundaries.index(_cut_of(point)) for point in image.curve.points],
        "previews": [asdict(preview) for preview in image.previews],
        "curve": _curve_document(image.curve),
    }


def _curve_document(curve: Curve) -> dict[str, Any]:
    document = asdict(curve) | {"knee": None if curve.knee is None else curve.points.index(curve.knee)}
    del document["image"]
    return document


def printable_name(name: str) -> str:
    """Return a file name as valid Unicode, with "?" for bytes that are not."""
    return name.encode("utf-8", "replace").decode("utf-8")


def build_image(
    conditions: Conditions, pair: Pair, grid: CutGrid, progress: Callable[[float], None] = lambda share: None
) -> PageImage:
    """Sweep an image and make its previews. ``progress`` is called with the completed share.

    Raises the errors of ``sweep``.
    """
    composer = conditions.explore(pair.lr, lambda share: progress(share / 2))
    curve = trace(conditions, pair, composer, grid, lambda share: progress(0.5 + 0.45 * share))
    height, width = composer.size
    bicubic = resize_bicubic_8bit(pair.lr, height, width)
    light, heavy = (to_levels(rgb, torch.uint8).numpy() for rgb in composer.branches.rgb)
    layers = {"bicubic": bicubic, "light": light, "heavy": heavy} | ({} if pair.hr is None else {"hr": pair.hr})
    quality = None if pair.hr is None else conditions.psnr(bicubic, pair.hr)
    boundaries = choose_boundaries([_cut_of(point) for point in curve.points])
    interest = np.abs(luma(heavy) - luma(bicubic)).astype(np.float32)
    previews = make_previews(layers, composer.branches.difficulty.numpy(), boundaries, interest)
    progress(1.0)
    lr_height, lr_width = pair.lr_size
    return PageImage(pair.name, (lr_width, lr_height), (width, height), previews, boundaries, curve, quality)


def check_page(output: Path, grid: CutGrid) -> None:
    """Check the output name and the grid before any work. Raises RefusedOutputError or UsageError."""
    if output.suffix.lower() not in SUFFIXES:
        raise RefusedOutputError(f"Cannot write a report as {output.name!r}.", "Use a name that ends in .html.")
    if len(grid.values) > MAX_BOUNDARIES:
        message = f"A report holds at most {MAX_BOUNDARIES} cuts, not {len(grid.values)}."
        raise UsageError(message, "Use a coarser grid.")


def write_page(output: Path, page: Page, replace: bool) -> None:
    """Write the page atomically. Raises OutputError, and RefusedOutputError if it exists and ``replace`` is false."""
    with atomic_write(output, replace) as temporary:
        temporary.write_text(render(page), encoding="utf-8", errors="replace")


def render(page: Page) -> str:
    """Return the page as HTML. The content security policy of the page allows only the style and the script of the
    page, by their hashes."""
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    count, conditions = len(page.images), page.conditions
    subject = printable_name(page.images[0].name) if count == 1 else f"{count} images"
    template = _environment().get_template("page.html")
    return template.render(
        title=f"{conditions.model.identity.name} ×{conditions.scale:g}: {subject}",
        page=page,
        conditions=conditions,
        images=page.images,
        device=describe_device(conditions.model.network.device),
        versions=f"pcsr {pcsr_cli.__version__}, torch {torch.__version__}",
        columns=COLUMNS,
        knee_rule=KNEE_RULE,
        infinity=math.inf,
        document=page.as_document(),
        policy=policy,
        style=style,
        script=script,
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pcsr_cli.evaluate.html", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["printable"] = printable_name
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


@cache
def _asset(name: str) -> str:
    return (files("pcsr_cli.evaluate.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression of an inline block for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
