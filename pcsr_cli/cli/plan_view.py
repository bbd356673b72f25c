"""What ``pcsr plan`` shows: facts of one picture, or a table of many; and the same as a document."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable
from pcsr_cli.engine.device import describe_device
from pcsr_cli.images.image import Layout
from pcsr_cli.jobs.plan import Disk, Forecast, Range, Rate
from pcsr_cli.model.registry import LoadedModel

MEBI = 2**20


def show(
    forecasts: Sequence[Forecast], model: LoadedModel, scale: float, rate: Rate, disk: Disk | None, console: Console
) -> None:
    """Draw what is foreseen."""
    if len(forecasts) == 1:
        facts = _facts(forecasts[0], scale)
    else:
        console.print(_table(forecasts))
        console.print()
        facts = []
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*facts, *_common(forecasts, model, rate, disk)):
        table.add_row(name, Text(printable(value)))
    console.print(table)


def _facts(one: Forecast, scale: float) -> list[tuple[str, str]]:
    strips = f" in {len(one.plan.strips)} strips" if len(one.plan.strips) > 1 else ""
    return [
        ("Picture", f"{one.source}: {_size(one.picture)}, {_kind(one.picture)}"),
        ("Result", f"{_size(one.result)} (x{scale:g}), {_kind(one.result)}{_in_format(one)}"),
        ("Tiles", f"{len(one.plan.tiles):,}{strips}, {one.passes} pass{'es' * (one.passes > 1)}"),
        ("GFLOPs", f"{_range(one.paper)} by the paper, {_range(one.executed)} executed"),
    ]


def _common(forecasts: Sequence[Forecast], model: LoadedModel, rate: Rate, disk: Disk | None) -> list[tuple[str, str]]:
    seconds = _sum([one.seconds for one in forecasts])
    facts = [
        ("Model", f"{model.identity.name} on {describe_device(model.network.device)}"),
        ("Memory", f"at most about {max(one.memory for one in forecasts) / MEBI:,.0f} MiB at the peak"),
        ("Time", f"about {_duration(min(_pair(seconds)))} to {_duration(max(_pair(seconds)))} of computing, estimated"),
        ("", f"from {_range(rate.gflops)} GFLOP/s on one small tile just now"),
    ]
    if disk is not None:
        verdict = "enough" if disk.enough else "MAY NOT BE ENOUGH"
        facts.append(
            ("Disk", f"{_bytes(disk.free)} free at {disk.folder}, at most {_bytes(disk.most)} needed: {verdict}")
        )
    notes = dict.fromkeys(note for one in forecasts for note in one.notes)
    return facts + [("Note", f"{note}.") for note in notes]


def _table(forecasts: Sequence[Forecast]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("picture", overflow="fold")
    for heading in ("result", "tiles", "GFLOPs", "seconds", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in forecasts:
        table.add_row(
            Text(printable(one.source.name)),
            _size(one.result),
            f"{len(one.plan.tiles):,}",
            _range(one.executed),
            _range(one.seconds),
            f"{one.memory / MEBI:,.0f}",
        )
    sums = (_range(_sum([one.executed for one in forecasts])), _range(_sum([one.seconds for one in forecasts])))
    table.add_row(f"{len(forecasts):,} pictures", "", "", *sums, "")
    return table


def _sum(ranges: Sequence[Range]) -> Range:
    return reduce(add, ranges)


def as_document(
    forecasts: Sequence[Forecast], model: LoadedModel, scale: float, rate: Rate, disk: Disk | None
) -> dict[str, Any]:
    """The same as a JSON-ready document. Ranges are [all light, all heavy]; memory and seconds are estimates."""
    document: dict[str, Any] = {
        "scale": scale,
        "model": model.identity.name,
        "device": describe_device(model.network.device),
        "pictures": [_one(forecast) for forecast in forecasts],
        "memory_bytes": max(one.memory for one in forecasts),
        "seconds": _pair(_sum([one.seconds for one in forecasts])),
        "gflops_per_second": _pair(rate.gflops),
    }
    if disk is not None:
        document["disk"] = {
            "folder": str(disk.folder),
            "free_bytes": disk.free,
            "most_bytes": disk.most,
            "enough": disk.enough,
        }
    return document


def _one(one: Forecast) -> dict[str, Any]:
    return {
        "source": str(one.source),
        "input_size": [one.picture.width, one.picture.height],
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


def _pair(values: Range) -> list[float]:
    return [values.light, values.heavy]


def _range(values: Range) -> str:
    return f"{_number(min(values.light, values.heavy))} - {_number(max(values.light, values.heavy))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _size(layout: Layout) -> str:
    return f"{layout.width}x{layout.height}"


def _kind(layout: Layout) -> str:
    return f"{'grey' if layout.grey else 'RGB'}{' with alpha' * layout.alpha}, {layout.depth} bits a channel"


def _in_format(one: Forecast) -> str:
    if one.format is None:
        return ""
    return f", {one.format.name} {'written while computing' if one.format.streamed else 'collected in memory'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:,.1f} TiB"
