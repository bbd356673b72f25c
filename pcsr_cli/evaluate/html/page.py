"""The HTML page of ``pcsr report`` and ``pcsr compare``: one file that works without a network or a server.

``build_image`` computes the data of one image with its routing, ``report_page`` collects images and facts, and
``write_page`` writes the page. The template, the style and the scripts are in ``assets/``."""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
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
from pcsr_cli.engine.rules import NEVER
from pcsr_cli.evaluate.arguments import CutGrid
from pcsr_cli.evaluate.bench import COLUMNS, Row
from pcsr_cli.evaluate.compare import Picture, differences
from pcsr_cli.evaluate.dataset import Pair, SkippedImage
from pcsr_cli.evaluate.html import previews
from pcsr_cli.evaluate.html.previews import Preview, choose_boundaries, make_previews
from pcsr_cli.evaluate.metrics import luma, mean_psnr
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.evaluate.sweep import KNEE_RULE, Curve, Point, mean_curve, trace
from pcsr_cli.images.files import atomic_write, finite
from pcsr_cli.images.resize import resize_bicubic_8bit, resize_lanczos_8bit
from pcsr_cli.jobs.maps import P_HEAVY_COLOURS, TINT

SCRIPTS = ("figures.js", "table.js", "curve.js", "pan.js", "crop.js", "stage.js", "page.js")
CURVE_COLUMNS = ("heavy_share", "psnr", "ssim", "paper", "executed", "saved", "saved_executed")
"""The columns of the page's table that change with the cut."""

LABELS = {
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "pcsr": "PCSR",
    "light": "all light",
    "heavy": "all heavy",
    "hr": "HR",
}
"""The layers of a report. The script composes ``pcsr`` from the layers ``light`` and ``heavy``."""

COMPARE_ROOM = 4
"""The limits on pixels and bytes of pictures, as a multiple of a report's limits. With this value, 3840x2160 pixels are
not reduced."""

VERSIONS = f"pcsr {pcsr_cli.__version__}, torch {torch.__version__}"
GFLOPS_RULE = (
    "The paper's count adds the backbone once, the classifier for every output pixel, and the chosen sampler of each "
    "pixel. The executed count is what ran in one pass: layers shared between pixels, tile borders and refinement "
    "rings included."
)
SIMILARITY_RULE = "20 log10(255 / the root of the mean squared difference). The quality is unknown without HR."


@dataclass(frozen=True)
class Swept:
    """The routing of an image: its curve, the boundaries between its levels of difficulty, and the PSNR in dB of each
    filter by name. Without HR, there are no PSNRs of filters."""

    curve: Curve
    boundaries: tuple[float, ...]
    filters: Mapping[str, float]


@dataclass(frozen=True)
class PageImage:
    """One image of the page. ``size`` is (width, height), ``subtitle`` states sizes.

    ``layers`` has the label of each layer by its key, in the order of the menus. ``sides`` has the keys of the layers
    that the page shows left and right at first. ``swept`` is None for pictures without routing."""

    name: str
    subtitle: str
    size: tuple[int, int]
    previews: tuple[Preview, ...]
    layers: Mapping[str, str]
    sides: tuple[str, str]
    swept: Swept | None = None


@dataclass(frozen=True)
class Measured:
    """The measurements of a page: their conditions, skipped images, and the rows of a bench if any."""

    conditions: Conditions
    skipped: tuple[SkippedImage, ...] = ()
    rows: tuple[Row, ...] = ()
    mean: tuple[Row, ...] = ()

    @property
    def quality(self) -> str:
        """The name of the figure in dB. Without HR, the figure is the similarity to all heavy, which is not a
        quality."""
        return "Similarity, dB" if self.conditions.no_reference else "PSNR, dB"

    @property
    def against(self) -> str:
        """The words after the figure that name its reference, such as ``against HR``."""
        return f"{'to' if self.conditions.no_reference else 'against'} {self.conditions.reference}"

    @property
    def bench_columns(self) -> list[tuple[str, str, str]]:
        """The heading, the field of ``Row`` and the number format of each column that has values."""
        return [
            (self.quality if name == "psnr" else heading, name, form)
            for name, (_, heading, form) in COLUMNS.items()
            if heading and any(getattr(row, name) is not None for row in self.rows)
        ]


@dataclass(frozen=True)
class Page:
    """The content of a page. ``facts`` are names and values that state how the page was made."""

    title: str
    images: tuple[PageImage, ...]
    facts: Sequence[tuple[str, str]]
    measured: Measured | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the data of the page's script as JSON values. Numbers that are not finite are None."""
        document: dict[str, Any] = {
            "colours": P_HEAVY_COLOURS.tobytes().hex(),
            "tint": list(TINT),
            "images": [_image_document(image) for image in self.images],
        }
        if self.measured is not None:
            swept = [image.swept for image in self.images if image.swept is not None]
            cuts = [_cut_of(point) for point in swept[0].curve.points]
            document |= {
                "start": min(range(len(cuts)), key=lambda index: abs(cuts[index] - 0.5)),
                "quality": self.measured.quality,
                "against": self.measured.against,
                "mean": _curve_document(mean_curve([each.curve for each in swept])),
                "meanFilters": {
                    name: mean_psnr([each.filters[name] for each in swept])[0] for name in swept[0].filters
                },
            }
        found: dict[str, Any] = finite(document)
        return found


def _cut_of(point: Point) -> float:
    """Return the cut of a point. Only points of a mean curve may have no cut."""
    assert point.cut is not None
    return point.cut


def _image_document(image: PageImage) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": printable_name(image.name),
        "size": list(image.size),
        "layers": [[key, printable_name(label)] for key, label in image.layers.items()],
        "sides": list(image.sides),
        "previews": [asdict(preview) for preview in image.previews],
    }
    if (swept := image.swept) is not None:
        document |= {
            "filters": dict(swept.filters),
            "boundaries": list(swept.boundaries),
            "cutLevels": [swept.boundaries.index(_cut_of(point)) for point in swept.curve.points],
            "curve": _curve_document(swept.curve),
        }
    return document


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

    Raises the errors of ``sweep``."""
    composer = conditions.explore(pair.lr, lambda share: progress(share / 2))
    curve = trace(conditions, pair, composer, grid, lambda share: progress(0.5 + 0.45 * share))
    height, width = composer.size
    layers = {
        "bicubic": resize_bicubic_8bit(pair.lr, height, width),
        "lanczos": resize_lanczos_8bit(pair.lr, height, width),
    }
    filters = {} if pair.hr is None else {LABELS[name]: conditions.psnr(layers[name], pair.hr) for name in layers}
    for name, rgb in zip(("light", "heavy"), composer.branches.rgb, strict=True):
        layers[name] = to_levels(rgb, torch.uint8).permute(1, 2, 0).numpy()
    if pair.hr is not None:
        layers["hr"] = pair.hr
    boundaries = choose_boundaries([_cut_of(point) for point in curve.points])
    levels = previews.to_levels(composer.branches.difficulty.numpy(), boundaries)
    interest = np.abs(luma(layers["heavy"]) - luma(layers["bicubic"])).astype(np.float32)
    shown = make_previews(layers, interest, levels)
    progress(1.0)
    lr_height, lr_width = pair.lr_size
    labels = {key: label for key, label in LABELS.items() if key == "pcsr" or key in layers}
    subtitle = f"{lr_width}×{lr_height} → {width}×{height}"
    swept = Swept(curve, boundaries, filters)
    return PageImage(pair.name, subtitle, (width, height), shown, labels, ("bicubic", "pcsr"), swept)


def report_page(command: str, images: Sequence[PageImage], measured: Measured) -> Page:
    """Return the page of a report. ``command`` is the command line that made it."""
    conditions = measured.conditions
    identity, network, refine = conditions.model.identity, conditions.model.network, conditions.settings.refine
    refined = f"refined at #h = {refine}" if refine < NEVER else "not refined"
    facts = [
        ("Command", command),
        ("Model", f"{identity.name}, {network.parameter_count():,} parameters"),
        ("Revision", identity.revision or "local files"),
        ("Weights", f"sha256 {identity.sha256}"),
        ("Source", identity.source),
        ("Licence", identity.licence),
        ("Scale", f"×{conditions.scale:g}, {refined}"),
        ("Machine", f"{describe_device(network.device)}, {network.precision}"),
        ("Versions", VERSIONS),
        ("GFLOPs", GFLOPS_RULE),
        ("Knee", f"{KNEE_RULE.capitalize()}."),
    ]
    if conditions.no_reference:
        facts.append(("Similarity", SIMILARITY_RULE))
    subject = images[0].name if len(images) == 1 else f"{len(images)} images"
    return Page(f"{identity.name} ×{conditions.scale:g}: {subject}", tuple(images), facts, measured)


def compare_page(command: str, name: str, pictures: Sequence[Picture]) -> Page:
    """Return the page of pictures of one size. ``name`` is the name of the first file."""
    height, width = pictures[0].rgb.shape[:2]
    keyed = {str(number): picture for number, picture in enumerate(pictures)}
    layers = {key: picture.rgb for key, picture in keyed.items()}
    shown = make_previews(layers, differences(pictures), room=COMPARE_ROOM * max(1, len(pictures) / 6))
    labels = {key: picture.label for key, picture in keyed.items()}
    facts = [("Command", command), *((picture.label, picture.fact) for picture in pictures), ("Versions", VERSIONS)]
    image = PageImage(name, f"{width}×{height}", (width, height), shown, labels, ("0", "1"))
    return Page(f"{len(pictures)} pictures: {name}", (image,), facts)


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
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        measured=page.measured,
        images=page.images,
        versions=VERSIONS,
        columns=CURVE_COLUMNS,
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
    environment.filters["figure"] = format
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


@cache
def _asset(name: str) -> str:
    return (files("pcsr_cli.evaluate.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression of an inline block for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
