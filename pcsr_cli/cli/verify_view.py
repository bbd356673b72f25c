"""What ``pcsr verify`` shows: a table of ways to compute, and the verdict in words."""

from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable
from pcsr_cli.engine.device import describe_device
from pcsr_cli.evaluate.verify import ROUNDING, TIE, Comparison, Verification
from pcsr_cli.model.registry import LoadedModel


def show(picture: str, part: str, model: LoadedModel, found: Verification, console: Console) -> None:
    """Draw what was found."""
    (height, width), (high, wide) = found.lr_size, found.hr_size
    where = f"{model.identity.name}, {describe_device(model.network.device)}"
    head = f"{picture}, {part}: {width}x{height} -> {wide}x{high}; {where}"
    console.print(Text(printable(head)), soft_wrap=True)
    halo = found.halo
    seen = "and none of what tiles need was kept from them" if halo.same else "and tiles miss what they need"
    console.print(f"Halo of {halo.halo} LR pixels, the network sees {halo.reach}, {seen}: {_verdict(halo.passed)}")
    console.print()
    console.print(_table(found))
    console.print()
    for line in _explanation(found):
        console.print(line)


def _table(found: Verification) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Against the whole picture", no_wrap=True)
    for heading in ("difference", "levels", "changed", "flipped"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for routing, comparisons in groupby(found.comparisons, key=lambda one: one.routing):
        table.add_row(Text(routing, style="bold"))
        for one in comparisons:
            table.add_row(f"  {one.way}", *_cells(one))
    return table


def _cells(one: Comparison) -> tuple[str, ...]:
    flipped = f"{one.flipped:,}" if not one.ties else f"{one.flipped:,} ({one.ties:,} ties)"
    return (
        f"{one.difference:.1e}",
        f"{one.levels}",
        f"{one.changed:,}",
        flipped,
        _verdict(one.passed, one.judged_exactly),
    )


def _verdict(passed: bool, exactly: bool = True) -> str:
    if not passed:
        return "[bold red]BROKEN[/]"
    return "[green]same[/]" if exactly else "[green]near[/]"


def _explanation(found: Verification) -> list[str]:
    lines = [
        f"same: no number is off by more than {ROUNDING:g} (of 1), and no pixel changes branch unless its p_heavy is "
        f"within {TIE:g} of the cut.",
    ]
    tolerances = dict.fromkeys(one.tolerance for one in found.comparisons if not one.judged_exactly)
    lines.extend(
        f"near: none is off by more than {tolerance.difference:g}, and at most {tolerance.flipped:.0%} of the pixels "
        "change branch: half precision rounds the weights."
        for tolerance in tolerances
    )
    lines.append(
        "Difference and levels (of 255) are the largest away from pixels that changed branch; changed counts "
        "8-bit values anywhere."
    )
    return [*lines, "Everything is as promised." if found.passed else f"{found.failures} of the checks failed."]
