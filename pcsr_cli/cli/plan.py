"""``pcsr plan``: estimate the cost of ``pcsr upscale`` without writing a result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import (
    explain,
    facts_table,
    figures_table,
    print_document,
    print_message,
    printable,
    stdout_console,
)
from pcsr_cli.engine.rules import default_routing
from pcsr_cli.errors import InputError, PcsrError, RefusedOutputError
from pcsr_cli.images.files import is_folder
from pcsr_cli.images.formats import readable_suffixes
from pcsr_cli.images.paths import check_source
from pcsr_cli.jobs.find import find_images, is_pattern

if TYPE_CHECKING:
    from rich.table import Table

    from pcsr_cli.images.formats import Format
    from pcsr_cli.images.image import Layout
    from pcsr_cli.jobs.choice import ModelChoice
    from pcsr_cli.jobs.plan import Disk, Forecast, Range
    from pcsr_cli.model.registry import LoadedModel

MEBI = 2**20

EXAMPLES = options.examples(
    "pcsr plan in.png out.png  # size, tiles, memory, GFLOPs, time and disk space",
    "pcsr plan folder results --scale 2  # a table with a sum",
)

Source = Annotated[
    Path, typer.Argument(metavar="IN", help="Plan for this image, folder of images, or pattern in quotes.")
]
Output = Annotated[
    Path | None, typer.Argument(metavar="OUT", help="Check the disk for this result, or folder of results.")
]


@options.with_options
def command(source: Source, common: options.Common, output: Output = None) -> None:
    """Estimate size, tiles, memory, GFLOPs, time and disk space of an upscale, without writing a result.

    The command downloads the model if it is not cached, and computes one tile to measure the speed. GFLOPs and
    time are ranges from all pixels light to all pixels heavy. A --budget of `pcsr upscale` lies within these ranges.
    """
    common.check_engine(common.scale)
    many = is_folder(source) or is_pattern(source)
    tasks = find_images([source], readable_suffixes(), common.recursive, output).tasks
    if not many:
        check_source(source)
        _format(source, output, common.format, many)
    skipped: list[PcsrError] = []

    @contextmanager
    def skipping(path: Path) -> Iterator[None]:
        """Report an image that fails, and continue with the others."""
        try:
            yield
        except (InputError, RefusedOutputError) as error:
            if not many:
                raise
            skipped.append(explain(error).about(str(path)))
            print_message(f"pcsr: skipped: {skipped[-1]}")

    from pcsr_cli.images.read import read_layout

    layouts = []
    for found in tasks:
        with skipping(path := found.source):
            layouts.append((path, read_layout(path, common.allow_huge), _format(path, output, common.format, many)))
    choice = common.choose_models(quiet=common.json)
    from pcsr_cli.jobs.journal import Journal
    from pcsr_cli.jobs.plan import check_disk

    if many and output is not None:
        choice.kept = Journal(output).models(common.scale)
    forecasts, models, speeds = _forecast(layouts, choice, common, skipping)
    if not forecasts:
        raise InputError("All images failed.", str(skipped[0]))
    most_bytes = sum(one.most_bytes for one in forecasts)
    disk = None if output is None else check_disk(output if many else output.parent, most_bytes)
    figures = (forecasts, models, common.scale, speeds, disk)
    if common.json:
        print_document(_document(*figures) | {"skipped": [printable(str(one)) for one in skipped]})
    else:
        _show(*figures)
    if skipped:
        raise SystemExit(1)


def _forecast(
    layouts: "Sequence[tuple[Path, Layout, Format | None]]",
    choice: "ModelChoice",
    common: options.Common,
    skipping: Callable[[Path], AbstractContextManager[None]],
) -> "tuple[list[Forecast], tuple[LoadedModel, ...], list[Range]]":
    """Return the forecasts of the images, the models that they need, which this function loads, and their speeds."""
    from pcsr_cli.api import working_scale
    from pcsr_cli.engine.upscale import Settings
    from pcsr_cli.jobs.plan import forecast, try_tile

    refine = options.choose_refine(common.refine, common.no_refine, common.scale)
    memory = options.choose_memory(common.memory)
    settings = Settings(refine=refine, tile=options.choose_tile(common.tile), memory=memory)
    routing = options.choose_routing(common.threshold, common.k, common.adm)
    likely = [choice.likely(path) for path, _, _ in layouts]
    models, forecasts, speeds = choice.loaded, [], []
    for model in models:
        own = [work for work, chosen in zip(layouts, likely, strict=True) if chosen is model]
        settings = replace(settings, routing=routing or default_routing(model.network.spec.branches))
        speeds.append(try_tile(model, working_scale(model, common.scale), [layout for _, layout, _ in own], settings))
        for path, layout, format in own:
            with skipping(path):
                one = forecast(path, layout, model, common.scale, settings, speeds[-1], format)
                forecasts.append(replace(one, notes=(*one.notes, *_other_models(choice, path))))
    return forecasts, models, speeds


def _other_models(choice: "ModelChoice", source: Path) -> tuple[str, ...]:
    """Return a note if `upscale` may choose another model than `plan`, which reads the header but not the pixels.

    Raises the errors of loading."""
    *_, chosen = choice.possible(source)
    if chosen is choice.likely(source):
        return ()
    return (f"upscale takes {chosen.identity.name} if the pixels show the blocks of a JPEG; plan reads no pixels",)


def _format(path: Path, output: Path | None, name: str | None, many: bool) -> "Format | None":
    """Return the format of a result, or None if neither output nor format is given. Raises UsageError."""
    from pcsr_cli.images.formats import choose_format
    from pcsr_cli.jobs.request import suffix_of

    if output is None and name is None:
        return None
    if many or output is None:
        return choose_format(Path("x" + suffix_of(path, name)))
    return choose_format(output, name)


def _show(
    forecasts: "Sequence[Forecast]",
    models: "Sequence[LoadedModel]",
    scale: float,
    speeds: "Sequence[Range]",
    disk: "Disk | None",
) -> None:
    console = stdout_console()
    facts = _facts(forecasts[0], scale) if len(forecasts) == 1 else []
    if not facts:
        console.print(_table(forecasts))
        console.print()
    console.print(facts_table([*facts, *_common_facts(forecasts, models, speeds, disk)]))


def _facts(one: "Forecast", scale: float) -> list[tuple[str, str]]:
    strips = f" in {len(one.plan.strips)} strips" if len(one.plan.strips) > 1 else ""
    output = ""
    if one.format is not None:
        output = f", {one.format.name} {'written while computing' if one.format.streamed else 'collected in memory'}"
    return [
        ("Image", f"{one.source}: {_size(one.image)}, {_kind(one.image)}"),
        ("Result", f"{_size(one.result)} (x{scale:g}), {_kind(one.result)}{output}"),
        ("Tiles", f"{len(one.plan.tiles):,}{strips}, {one.passes} pass{'es' * (one.passes > 1)}"),
        (
            "GFLOPs",
            f"{_range(one.paper)} (paper's count), {_range(one.executed)} executed, from all light to all heavy",
        ),
    ]


def _common_facts(
    forecasts: "Sequence[Forecast]", models: "Sequence[LoadedModel]", speeds: "Sequence[Range]", disk: "Disk | None"
) -> list[tuple[str, str]]:
    from rich.filesize import decimal

    from pcsr_cli.engine.device import describe_device
    from pcsr_cli.engine.limits import describe_load

    seconds = sorted(_pair(_sum([one.seconds for one in forecasts])))
    facts = [
        ("Model", f"{_names(models)} on {describe_device(models[0].network.device)}"),
        ("Memory", f"at most about {max(one.memory for one in forecasts) / MEBI:,.0f} MiB at the peak"),
        ("Time", f"about {_duration(seconds[0])} to {_duration(seconds[1])} of computing, estimated"),
        ("", f"from {' and '.join(map(_range, speeds))} GFLOP/s, measured on one tile"),
    ]
    if disk is not None:
        verdict = "enough" if disk.enough else "MAY NOT BE ENOUGH"
        space = f"{decimal(disk.free)} free at {disk.folder}, at most {decimal(disk.most)} needed"
        facts.append(("Disk", f"{space}: {verdict}"))
    notes = dict.fromkeys(note for one in forecasts for note in one.notes)
    if busy := describe_load():
        notes[f"{busy}, so the speed is that of a busy machine"] = None
    return facts + [("Note", f"{note}.") for note in notes]


def _table(forecasts: "Sequence[Forecast]") -> "Table":
    from rich.text import Text

    table = figures_table("image", "result", "tiles", "GFLOPs", "seconds", "MiB")
    for one in forecasts:
        figures = (f"{len(one.plan.tiles):,}", _range(one.executed), _range(one.seconds), f"{one.memory / MEBI:,.0f}")
        table.add_row(Text(printable(one.source.name)), _size(one.result), *figures)
    sums = (_range(_sum([one.executed for one in forecasts])), _range(_sum([one.seconds for one in forecasts])))
    table.add_row(f"{len(forecasts):,} images", "", "", *sums, "")
    return table


def _document(
    forecasts: "Sequence[Forecast]",
    models: "Sequence[LoadedModel]",
    scale: float,
    speeds: "Sequence[Range]",
    disk: "Disk | None",
) -> dict[str, Any]:
    """Return the plan as a JSON document. Ranges are [all light, all heavy]. Memory and seconds are estimates.

    If there are several models, the document has the speed of the first model."""
    from pcsr_cli.engine.device import describe_device

    document: dict[str, Any] = {
        "scale": scale,
        "model": _names(models),
        "device": describe_device(models[0].network.device),
        "images": [_forecast_document(forecast) for forecast in forecasts],
        "memory_bytes": max(one.memory for one in forecasts),
        "seconds": _pair(_sum([one.seconds for one in forecasts])),
        "gflops_per_second": _pair(speeds[0]),
    }
    if disk is not None:
        document["disk"] = {"folder": str(disk.folder), "free_bytes": disk.free}
        document["disk"] |= {"most_bytes": disk.most, "enough": disk.enough}
    return document


def _forecast_document(one: "Forecast") -> dict[str, Any]:
    return {
        "source": str(one.source),
        "input_size": [one.image.width, one.image.height],
        "output_size": [one.result.width, one.result.height],
        "depth": one.result.depth,
        "grey": one.result.grey,
        "alpha": one.result.alpha,
        "format": None if one.format is None else one.format.name,
        "tiles": len(one.plan.tiles),
        "strips": len(one.plan.strips),
        "passes": one.passes,
        "gflops": {"paper": _pair(one.paper), "executed": _pair(one.executed)},
        "memory_bytes": one.memory,
        "seconds": _pair(one.seconds),
        "most_bytes": one.most_bytes,
        "notes": list(one.notes),
    }


def _names(models: "Sequence[LoadedModel]") -> str:
    return ", ".join(model.identity.name for model in models)


def _sum(ranges: "Sequence[Range]") -> "Range":
    return reduce(add, ranges)


def _pair(values: "Range") -> list[float]:
    return [values.light, values.heavy]


def _range(values: "Range") -> str:
    return " - ".join(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in sorted(_pair(values)))


def _size(layout: "Layout") -> str:
    return f"{layout.width}x{layout.height}"


def _kind(layout: "Layout") -> str:
    return f"{'grey' if layout.grey else 'RGB'}{' with alpha' * layout.alpha}, {layout.depth} bits a channel"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
