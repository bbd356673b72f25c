"""Options and steps that ``bench``, ``sweep``, ``report`` and ``verify`` share."""

import csv
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_message, printable, progress_bar
from pcsr_cli.cli.options import OUTPUT, option
from pcsr_cli.errors import UsageError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.images.paths import check_outputs

if TYPE_CHECKING:
    from pcsr_cli.evaluate.arguments import CutGrid
    from pcsr_cli.evaluate.bench import BenchResult, Row
    from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage
    from pcsr_cli.evaluate.runner import Conditions
    from pcsr_cli.evaluate.sweep import Curve
    from pcsr_cli.model.registry import LoadedModel

Measured = TypeVar("Measured")

THRESHOLDS = "0:1:0.05"
"""The default cuts of a curve."""

Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE|FOLDER",
        help="Measure these HR images and folders of HR images.",
        show_default="the packaged photograph",
    ),
]
Scale = Annotated[float, options.scale_option("Enlarge by this factor: a whole number, or any with --no-reference.")]
OriginalPath = Annotated[Path | None, option("--original", "Measure the original network with these weights as well.")]
LrPath = Annotated[Path | None, option("--lr", "Take the LR images from here: a folder, or a file for a single image.")]
NoReference = Annotated[
    bool, option("--no-reference", "Take the images as LR and compare with all heavy instead of HR.")
]
Degrade = Annotated[
    str | None,
    option("--degrade", "Degrade the LR images first: jpeg=75 (or 75,444), webp=75, blur=0.6, noise=3, joined by +."),
]
Luma = Annotated[bool, option("--luma", "Compute PSNR of luma instead of RGB; SSIM is always of luma.")]
CsvFile = Annotated[Path | None, option("--csv", "Write the rows as CSV.", OUTPUT, metavar="FILE")]
ReportFile = Annotated[Path | None, option("--report", "Write an HTML page with the results.", OUTPUT, metavar="FILE")]


@dataclass(frozen=True)
class Common(options.Engine):
    """The options that ``bench``, ``sweep`` and ``report`` share, and the steps that depend on these options."""

    scale: Scale = 4.0
    lr: LrPath = None
    no_reference: NoReference = False
    degrade: Degrade = None
    luma: Luma = False
    original: OriginalPath = None
    overwrite: options.Overwrite = False
    quiet: options.Quiet = False

    @property
    def silent(self) -> bool:
        """Whether the command shows no progress."""
        return self.json or self.quiet

    def find_sources(self, images: Sequence[Path] | None) -> "tuple[PairFiles, ...]":
        """Find the images to measure, and check the options.

        Raises the errors of ``find_pairs``, ``parse_degradation`` and ``check_engine``.
        """
        from pcsr_cli.evaluate.dataset import demo_image, find_pairs

        self.check_engine(self.scale)
        degradation = None
        if self.degrade is not None:
            from pcsr_cli.images.degrade import parse_degradation

            degradation = parse_degradation(self.degrade)
        return find_pairs(images or [demo_image()], self.scale, self.lr, self.no_reference, degradation)

    def check_results(self, results: Sequence[Path | None], sources: "Sequence[PairFiles]") -> None:
        """Check the paths of the results. An input is never overwritten. Raises UsageError if nothing would be printed
        or written, and the errors of ``check_outputs``."""
        if self.quiet and not any(results):
            raise UsageError("--quiet leaves no result.", "Write one, such as --csv out.csv, or remove --quiet.")
        inputs = [file for source in sources for file in (source.hr, source.lr) if file is not None]
        check_outputs([result for result in results if result is not None], inputs, self.overwrite)

    def load(self, sources: "Sequence[PairFiles]") -> "Conditions":
        """Load the model that suits the first image. If the user gave the weights of the original network, load this
        network too.

        Raises the errors of loading."""
        from pcsr_cli.engine.device import resolve_device, resolve_precision
        from pcsr_cli.engine.upscale import Settings
        from pcsr_cli.evaluate.peers import load_original
        from pcsr_cli.evaluate.runner import Conditions

        refine = options.choose_refine(self.refine, self.no_refine, self.scale)
        settings = Settings(refine=refine, tile=options.choose_tile(self.tile))
        device = resolve_device(self.device)
        resolve_precision(self.precision, device)
        original = None if self.original is None else load_original(self.original, device)
        model = self.load_model(self.scale, self.quiet, sources[0].lossy)
        return Conditions(model, self.scale, settings, self.luma, self.no_reference, original, self.degrade)

    def each_pair(
        self,
        label: str,
        sources: "Sequence[PairFiles]",
        measure: "Callable[[Pair, Callable[[float], None]], Measured]",
        paper: bool = False,
    ) -> "tuple[list[Measured], tuple[SkippedImage, ...]]":
        """Measure every pair with a progress bar. Raises the errors of ``dataset.each_pair``."""
        from pcsr_cli.evaluate.dataset import each_pair

        def show(pair: "Pair") -> "Measured":
            with progress_bar(f"{label} {pair.name}", self.silent) as progress:
                return measure(pair, progress)

        return each_pair(sources, self.scale, show, print_skipped, paper)

    def write_page(
        self,
        output: Path,
        conditions: "Conditions",
        sources: "Sequence[PairFiles]",
        grid: "CutGrid",
        result: "BenchResult | None" = None,
        paper: bool = False,
    ) -> "tuple[list[Curve], tuple[SkippedImage, ...]]":
        """Measure every image, write the HTML page, and return the curves and the images that failed.

        With the ``result`` of a bench, the page has the tables of the bench, and only the images that the bench
        measured. Raises InputError if all images fail, OutputError, RefusedOutputError."""
        from pcsr_cli.evaluate.html import page

        names = {source.name for source in sources} if result is None else {row.image for row in result.rows}
        chosen = [source for source in sources if source.name in names]
        images, skipped = self.each_pair(
            "report", chosen, lambda pair, progress: page.build_image(conditions, pair, grid, progress), paper
        )
        rows, mean, before = ((), (), ()) if result is None else (result.rows, result.mean, result.skipped)
        measured = page.Measured(conditions, (*before, *skipped), rows, mean)
        content = page.report_page(command_line(), images, measured)
        page.write_page(output, content, self.overwrite)
        return [image.swept.curve for image in images if image.swept is not None], skipped


def command_line() -> str:
    """Return the command line for a page that states it."""
    return shlex.join(("pcsr", *sys.argv[1:]))


def print_skipped(image: "SkippedImage") -> None:
    """Print the reason why an image was skipped."""
    print_message(f"pcsr: skipped: {image.reason}")


def write_rows(output: Path, rows: Sequence[Any], replace: bool) -> None:
    """Write dataclasses of one type as CSV; None becomes an empty cell. Raises OutputError, RefusedOutputError."""
    names = [field.name for field in fields(rows[0])]
    with atomic_write(output, replace) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in names])


def _cell(value: object) -> object:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def describe_psnr(conditions: "Conditions") -> str:
    """Describe the PSNR of a measurement for a title: its colours, its reference, and how LR was degraded."""
    degraded = "" if conditions.degrade is None else f", LR degraded by {conditions.degrade}"
    return f"PSNR of {'luma' if conditions.luma else 'RGB'} against {conditions.reference}{degraded}"


def format_figure(value: float | None, form: str) -> str:
    """Return a figure of a table: "-" for None, and "equal" for the infinite PSNR of equal images."""
    if value is None:
        return "-"
    return "equal" if math.isinf(value) else format(value, form)


def format_row(row: "Row", names: Sequence[str]) -> list[str]:
    """Return the figures of a row for a table."""
    from pcsr_cli.evaluate.bench import COLUMNS

    return [format_figure(getattr(row, name), COLUMNS[name][2]) for name in names]


def provenance(model: "LoadedModel") -> Mapping[str, object]:
    """Return the versions, the weights and the device of a measurement for its JSON document."""
    import torch

    import pcsr_cli
    from pcsr_cli.engine.device import describe_device

    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "model": asdict(model.identity),
        "device": describe_device(model.network.device),
        "threads": torch.get_num_threads(),
        "precision": model.network.precision,
    }


def skipped_entries(skipped: "Sequence[SkippedImage]") -> list[dict[str, str]]:
    """Return the images that failed, for a JSON document."""
    return [{key: printable(value) for key, value in asdict(one).items()} for one in skipped]


def settings_document(conditions: "Conditions") -> dict[str, object]:
    """Return the conditions of a measurement for a JSON document."""
    return {
        **provenance(conditions.model),
        "scale": conditions.scale,
        "refine": conditions.settings.refine,
        "psnr_of": "luma" if conditions.luma else "RGB",
        "psnr_against": conditions.reference,
        "degrade": conditions.degrade,
    }


def curves_document(
    conditions: "Conditions", grid: "CutGrid", curves: "Sequence[Curve]", skipped: "Sequence[SkippedImage]"
) -> dict[str, object]:
    """Return the curves of a sweep and their mean as a JSON document."""
    from pcsr_cli.evaluate.sweep import KNEE_RULE, mean_curve

    return {
        **settings_document(conditions),
        "grid": {"of": grid.kind, "values": list(grid.values)},
        "knee_rule": KNEE_RULE,
        "curves": [_curve_document(curve) for curve in curves],
        "mean": _curve_document(mean_curve(curves) if len(curves) > 1 else curves[0]),
        "skipped": skipped_entries(skipped),
    }


def _curve_document(curve: "Curve") -> dict[str, object]:
    knee = None if curve.knee is None else asdict(curve.knee)
    return asdict(curve) | {"image": printable(curve.image), "knee": knee}
