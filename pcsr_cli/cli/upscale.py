"""``pcsr upscale``: one picture in, a larger one out, and the truth about what it took."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, progress_bar, talk

if TYPE_CHECKING:
    from pcsr_cli.budget import Allowance
    from pcsr_cli.models import LoadedModel
    from pcsr_cli.report import Report
    from pcsr_cli.routing import Routing

Source = Annotated[Path, typer.Argument(metavar="IN", help="The picture to enlarge.")]
Output = Annotated[Path, typer.Argument(metavar="OUT", help="Where to write it: .png, .jpg, .webp, .tif or .bmp.")]
Scale = Annotated[float, typer.Option("--scale", "-s", help="How many times larger; any real number from 1.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")]


def command(
    source: Source,
    output: Output,
    scale: Scale = 4.0,
    model: options.Model = "auto",
    threshold: options.Threshold = None,
    k: options.Tradeoff = None,
    adm: options.Adaptive = False,
    budget: options.Budget = None,
    refine: options.Refine = 1,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    memory: options.Memory = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    overwrite: Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Enlarge a picture."""
    options.check_talk(json, quiet)
    started = time.perf_counter()
    from pcsr_cli import images
    from pcsr_cli.api import check_scale, upscale_picture, working_scale
    from pcsr_cli.budget import parse_allowance
    from pcsr_cli.devices import resolve_device, resolve_precision
    from pcsr_cli.engine import Settings
    from pcsr_cli.grid import hr_size
    from pcsr_cli.report import Seconds, make_report, text_chunks, with_saving

    check_scale(scale)
    asked = options.choose_routing(threshold, k, adm, budget)
    allowance = None if budget is None else parse_allowance(budget)
    minimum = options.choose_refine(refine, no_refine)
    side, kept = options.choose_tile(tile), options.choose_memory(memory)
    resolve_precision(precision, resolve_device(device))
    images.check_output(output, source, overwrite)
    picture = images.read_picture(source)
    loaded = options.load_model(model, device, precision, registry, scale, quiet)
    at = working_scale(loaded, scale)
    images.check_fits(output, hr_size(picture.size, scale), picture.alpha is not None)
    routing = asked or _routing(allowance, loaded, picture.size, at)
    ready = time.perf_counter()

    with progress_bar(f"x{scale:g} {source.name}", quiet or json) as report_progress:
        settings = Settings(routing, minimum, side, kept)
        done = upscale_picture(picture, loaded, scale, settings, report_progress, keep_branches=False)
    computed = time.perf_counter()

    report = make_report(
        loaded,
        done.outcome,
        routing,
        minimum,
        source=str(source),
        output=str(output),
        output_size=done.image.size,
        scale=scale,
        working_scale=at,
        seconds=Seconds(ready - started, computed - ready, 0.0),
        notes=loaded.notes + picture.notes + _note_of_reduction(loaded, scale, at),
    )
    images.write_picture(output, done.image, text_chunks(loaded.identity, routing, minimum, scale))
    _tell(with_saving(report, time.perf_counter() - computed, loaded), json, quiet, told=loaded.notes)


def _tell(report: "Report", json: bool, quiet: bool, told: tuple[str, ...]) -> None:
    if json:
        print_document(report.as_document())
    elif not quiet:
        from pcsr_cli.cli.panel import show

        show(report, talk(), told)


def _routing(allowance: "Allowance | None", model: "LoadedModel", lr_size: tuple[int, int], at: float) -> "Routing":
    """The usual routing, or the budget for this picture. Raises UsageError where it cannot be met."""
    from pcsr_cli.budget import GIGA, Size, to_budget
    from pcsr_cli.flops import model_costs, original_flops
    from pcsr_cli.grid import hr_size
    from pcsr_cli.report import ORIGINAL_SCALE
    from pcsr_cli.routing import default_routing

    if allowance is None:
        return default_routing(model.network.spec.branches)
    lr_pixels, result = lr_size[0] * lr_size[1], hr_size(lr_size, at)
    name = model.identity.original
    original = original_flops(name, lr_pixels) if name is not None and at == ORIGINAL_SCALE else None
    size = Size(lr_pixels, result[0] * result[1])
    return to_budget(allowance, model_costs(model.network), size, None if original is None else original.paper / GIGA)


def _note_of_reduction(model: "LoadedModel", scale: float, at: float) -> tuple[str, ...]:
    if at == scale:
        return ()
    return (f"the model was trained for {model.scales}: enlarged x{at:g}, then reduced bicubically to x{scale:g}",)
