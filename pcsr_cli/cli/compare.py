"""``pcsr compare``: pictures of one subject, or models of one source, on a page with a slider or a contact sheet."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import print_document, print_message, printable, progress_bar
from pcsr_cli.cli.options import MODEL, OUTPUT, option
from pcsr_cli.engine.rules import check_device_name, default_routing, usual_refine
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.evaluate.arguments import PAGE_SUFFIXES
from pcsr_cli.images.formats import choose_format, known_suffixes
from pcsr_cli.images.paths import check_outputs, check_source

if TYPE_CHECKING:
    from pcsr_cli.images.image import ImageData
    from pcsr_cli.model.registry import LoadedModel

EXAMPLES = options.examples(
    "pcsr compare in.png in.jpg -o page.html  # a page with a slider",
    "pcsr compare in.png -m builtin -m builtin-jpeg -o sheet.png  # two models",
)

Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="Compare these pictures of one subject.", show_default=False)
]
Models = Annotated[
    list[str],
    option(
        "--model",
        "Enlarge the first image with this model and add the result; may be repeated.",
        MODEL,
        short="-m",
        default="none",
        autocompletion=options.complete_model,
    ),
]
Scale = Annotated[float | None, options.scale_option("Enlarge with the models by this factor, 4 by default.")]
Output = Annotated[
    Path | None,
    option(
        "--output",
        "Write a page (.html) or a contact sheet (.png or another format).",
        OUTPUT,
        short="-o",
        metavar="FILE",
        default="IMAGE_compare.html",
    ),
]


def command(
    images: Images,
    models: Models = [],  # noqa: B006 (Typer reads it)
    output: Output = None,
    scale: Scale = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    allow_huge: options.AllowHuge = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare pictures of one subject, or models of one source, without HR.

    Smaller pictures are enlarged by Lanczos to the size of the largest.
    """
    options.check_output_mode(json, quiet)
    path = output or images[0].parent / f"{images[0].stem}_compare.html"
    check_device_name(device)
    is_page = _check(images, models, path, scale, overwrite)
    options.check_models(models, registry)
    from pcsr_cli.evaluate.compare import align, common_size, draw_sheet
    from pcsr_cli.images.image import ImageData
    from pcsr_cli.images.read import HIDDEN_COLOURS, read_image, read_layout
    from pcsr_cli.images.source import find_kind
    from pcsr_cli.images.write import write_image

    layouts = [read_layout(image, allow_huge) for image in images]
    common_size([(str(image), (one.height, one.width)) for image, one in zip(images, layouts, strict=True)])
    layers = [(image.name, str(image), read_image(image, allow_huge), "") for image in images]
    source, factor = layers[0][2], scale or 4
    for name in models:
        lossy = name == "auto" and find_kind(images[0], source.rgb).lossy
        model = options.load_model(name, device, precision, registry, factor, quiet, lossy)
        with progress_bar(f"compare {name}", json or quiet) as progress:
            result = _enlarge(model, source, factor, progress)
        origin = f"×{factor:g} by {model.identity.name}, sha256 {model.identity.sha256}"
        layers.append((model.identity.name, name, result, origin))
    named = _label(layers)
    read = [(label, note) for label, image, origin in named if not origin for note in image.notes]
    notes = [f"{label}: {note}" for label, note in read if note != HIDDEN_COLOURS]
    pictures = align(named)
    if is_page:
        from pcsr_cli.evaluate.html.page import compare_page, write_page

        page = compare_page(measuring.command_line(), printable(images[0].name), pictures)
        write_page(path, page, overwrite)
    else:
        write_image(path, ImageData(draw_sheet(pictures)), replace=overwrite)
    height, width = pictures[0].rgb.shape[:2]
    if json:
        described = [{"label": picture.label, "about": picture.fact} for picture in pictures]
        print_document({"output": str(path), "size": [width, height], "pictures": described, "notes": notes})
    elif not quiet:
        for note in notes:
            print_message(f"Note: {note}.")
        advice = " Open it in a browser." if is_page else ""
        print_message(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB).{advice}")


def _label(layers: "Sequence[tuple[str, str, ImageData, str]]") -> "list[tuple[str, ImageData, str]]":
    """Label each image by its first name, or by its second, longer name if several images have the same first one."""
    count = Counter(name for name, *_ in layers)
    return [(printable(longer if count[name] > 1 else name), image, origin) for name, longer, image, origin in layers]


def _check(images: Sequence[Path], models: Sequence[str], output: Path, scale: float | None, overwrite: bool) -> bool:
    """Check the paths of a request, and return whether the output is a page.

    Raises InputError, UsageError and the errors of ``check_outputs``."""
    if len(images) + len(models) < 2:
        sentence = "A comparison needs two pictures, or one picture and a model."
        raise UsageError(sentence, "Add a picture, or a model such as --model builtin.")
    count = Counter([*map(Path.resolve, images), *models])
    if repeated := [one for one in (*images, *models) if count[one.resolve() if isinstance(one, Path) else one] > 1]:
        raise UsageError(f"{repeated[0]} is given twice.", "Give every picture and every model once.")
    if scale is not None and not models:
        raise UsageError("--scale has no effect without a model.", "Add --model, or remove --scale.")
    for image in images:
        check_source(image)
    suffix = output.suffix.lower()
    if suffix not in PAGE_SUFFIXES:
        if suffix not in known_suffixes():
            sentence = f"Cannot write a comparison as {output.name!r}."
            raise RefusedOutputError(sentence, "Use a name that ends in .html for a page, or in .png for a sheet.")
        choose_format(output)  # raises UsageError if its plug-in is missing
    check_outputs([output], images, overwrite)
    return suffix in PAGE_SUFFIXES


def _enlarge(model: "LoadedModel", image: "ImageData", scale: float, progress: Callable[[float], None]) -> "ImageData":
    from pcsr_cli.api import upscale_image
    from pcsr_cli.engine.upscale import Settings

    settings = Settings(default_routing(model.network.spec.branches), refine=usual_refine(scale))
    return upscale_image(image, model, scale, settings, progress).image
