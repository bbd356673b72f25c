"""``pcsr plan``: what ``pcsr upscale`` would take, without doing it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli import upscale_options as upscaling
from pcsr_cli.cli.console import print_document, stdout_console
from pcsr_cli.images.files import is_folder

if TYPE_CHECKING:
    from pcsr_cli.images.formats import Format

Source = Annotated[Path, typer.Argument(metavar="IN", help="A picture, a folder of them, or a pattern in quotes.")]
Output = Annotated[
    Path | None, typer.Argument(metavar="[OUT]", help="Where the result would go: a file, or for many a folder.")
]


def command(
    source: Source,
    output: Output = None,
    scale: upscaling.Scale = 4.0,
    model: options.Model = "auto",
    threshold: options.Threshold = None,
    k: options.Tradeoff = None,
    adm: options.Adaptive = False,
    refine: options.Refine = None,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    memory: options.Memory = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    format: upscaling.FormatName = None,
    allow_huge: upscaling.AllowHuge = False,
    recursive: upscaling.Recursive = False,
    json: options.Json = False,
) -> None:
    """Tell what enlarging would take: size, tiles, memory, GFLOPs, time, disk. Nothing is computed or written.

    A --budget of `pcsr upscale` lies between the GFLOPs told; how the picture has to be cut for it, only computing
    tells."""
    from pcsr_cli.api import check_scale, working_scale
    from pcsr_cli.cli import plan_view
    from pcsr_cli.engine.routing import default_routing
    from pcsr_cli.engine.upscale import Settings
    from pcsr_cli.images.formats import readable_suffixes
    from pcsr_cli.images.read import read_layout
    from pcsr_cli.jobs.find import find_images, is_pattern
    from pcsr_cli.jobs.plan import forecast, look_at_disk, measure_rate

    check_scale(scale)
    asked = options.choose_routing(threshold, k, adm)
    minimum = options.choose_refine(refine, no_refine, scale)
    side, kept = options.choose_tile(tile), options.choose_memory(memory)
    many = is_folder(source) or is_pattern(source)
    paths = [found.source for found in find_images([source], readable_suffixes(), recursive, output).tasks]
    layouts = [(path, read_layout(path, allow_huge)) for path in paths]
    formats = [_format(path, output, format, many) for path in paths]
    loaded = options.load_model(model, device, precision, registry, scale, quiet=json)
    settings = Settings(asked or default_routing(loaded.network.spec.branches), refine=minimum, tile=side, memory=kept)
    rate = measure_rate(loaded, working_scale(loaded, scale))
    forecasts = [
        forecast(path, layout, loaded, scale, settings, rate, chosen)
        for (path, layout), chosen in zip(layouts, formats, strict=True)
    ]
    folder = None if output is None else output if many else output.parent
    disk = None if folder is None else look_at_disk(folder, sum(one.most_bytes for one in forecasts))
    if json:
        print_document(plan_view.as_document(forecasts, loaded, scale, rate, disk))
    else:
        plan_view.show(forecasts, loaded, scale, rate, disk, stdout_console())


def _format(path: Path, output: Path | None, name: str | None, many: bool) -> "Format | None":
    """The format of a result; None where nothing is known of where it goes. Raises UsageError."""
    from pcsr_cli.images.formats import choose_format
    from pcsr_cli.jobs.request import suffix_of

    if output is None and name is None:
        return None
    if many or output is None:
        return choose_format(Path("x" + suffix_of(path, name)))
    return choose_format(output, name)
