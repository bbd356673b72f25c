"""``pcsr verify``: check on an image and on this machine that the result does not depend on how it is computed."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import figures_table, print_document, printable, progress_bar, stdout_console
from pcsr_cli.cli.options import DEVICE, option
from pcsr_cli.errors import CheckError
from pcsr_cli.images.paths import check_source

if TYPE_CHECKING:
    from rich.table import Table

    from pcsr_cli.evaluate.verify import Comparison

EXAMPLES = options.examples(
    "pcsr verify in.png  # the whole image",
    "pcsr verify in.png --crop 48 --tile 16 --precision bf16  # a part, bf16 too",
)

Source = Annotated[Path, typer.Argument(metavar="IMAGE", help="Check with this image.")]
Tiles = Annotated[
    list[int],
    option(
        "--tile", "Check this tile side in LR pixels; may be repeated.", DEVICE, min=options.MIN_TILE, default="several"
    ),
]
Crop = Annotated[int | None, option("--crop", "Use only the middle N x N pixels of the image.", min=options.MIN_TILE)]
Verbose = Annotated[bool, option("--verbose", "Print a table of all checks.", short="-v")]


def command(
    source: Source,
    scale: options.Scale = 4.0,
    tiles: Tiles = [],  # noqa: B006 (Typer reads it)
    crop: Crop = None,
    model: options.Model = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    verbose: Verbose = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check on an image that tiles, threads and passes do not change the result.

    The reference is the whole image at once, in fp32. The variants are: tiles of several sizes, another number of
    threads, features that are computed again for ADM's second pass, and --precision if it is not fp32. The exit code is
    0 if all checks pass, else 1.
    """
    options.check_output_mode(json, quiet)
    options.check_exclusive({"--verbose": verbose, "--quiet": quiet})
    check_source(source)
    options.Engine(model, device=device, registry=registry).check_engine(scale)
    from pcsr_cli.api import load_model, working_scale
    from pcsr_cli.engine.device import describe_device, resolve_device, resolve_precision
    from pcsr_cli.engine.grid import hr_size
    from pcsr_cli.evaluate.verify import crop_middle, verify
    from pcsr_cli.images.read import read_image

    wanted = resolve_precision(precision, resolve_device(device))
    rgb = read_image(source).rgb
    loaded = options.load_model(model, device, "fp32", registry, scale, quiet)
    lower = None
    if wanted != loaded.network.dtype:
        name = loaded.identity.name if model == "auto" else model
        lower = load_model(name, device, precision, options.load_registry(registry), scale=scale).network
    at_scale = working_scale(loaded, scale)
    with progress_bar(f"verify {source.name}", quiet or json) as progress:
        checked = rgb if crop is None else crop_middle(rgb, crop)
        found = verify(loaded.network, checked, at_scale, tiles, lower, progress)
    part = "the whole image" if checked.shape == rgb.shape else "the middle of the image"
    failures = sum(not one.passed for one in found)
    lr_size = (checked.shape[0], checked.shape[1])
    sizes = [(width, height) for height, width in (lr_size, hr_size(lr_size, at_scale))]
    if json:
        sides = {"input_size": sizes[0], "output_size": sizes[1]}
        checks = [{**asdict(one), "passed": one.passed} for one in found]
        about = {"image": str(source), "checked": part, **sides, "passed": not failures, "comparisons": checks}
        print_document({**measuring.provenance(loaded), **about})
    elif not quiet:
        before, after = (f"{width}x{height}" for width, height in sizes)
        where = f"{loaded.identity.name}, {describe_device(loaded.network.device)}"
        _show(printable(f"{source.name}, {part}: {before} -> {after}; {where}"), found, verbose)
    if failures:
        raise CheckError(
            f"{failures} of {len(found)} checks of {source.name} failed.",
            "Report the output of `pcsr verify --json` and `pcsr doctor --json`.",
        )


def _show(subject: str, found: "Sequence[Comparison]", verbose: bool) -> None:
    """Print a table if ``verbose`` or if a check failed, else one line."""
    from rich.text import Text

    console = stdout_console()
    if verbose or not all(one.passed for one in found):
        for line in (Text(subject), "", _table(found), "", *_explanation(found)):
            console.print(line)
    else:
        largest = max(one.difference for one in found)
        differs = f"no value differs by more than {largest:.1e}" if largest else "no value differs"
        console.print(Text(f"{subject}: all {len(found)} checks passed, and {differs}."), soft_wrap=True)


def _table(found: "Sequence[Comparison]") -> "Table":
    from rich.text import Text

    table = figures_table("Against the whole image", "difference", "levels", "changed", "flipped", "verdict")
    table.columns[-1].justify = "left"
    for routing, comparisons in groupby(found, key=lambda one: one.routing):
        table.add_row(Text(routing, style="bold"))
        for one in comparisons:
            table.add_row(f"  {one.variant}", *_cells(one))
    return table


def _cells(one: "Comparison") -> tuple[str, ...]:
    flipped = f"{one.flipped:,} ({one.ties:,} ties)" if one.ties else f"{one.flipped:,}"
    verdict = f"[green]{'same' if one.exact else 'near'}[/]" if one.passed else "[bold red]BROKEN[/]"
    return f"{one.difference:.1e}", f"{one.levels}", f"{one.changed:,}", flipped, verdict


def _explanation(found: "Sequence[Comparison]") -> list[str]:
    from pcsr_cli.evaluate.verify import ROUNDING, TIE

    lines = [
        f"same: values differ by at most {ROUNDING:g} (of 1), and a pixel changes branch only if its p_heavy is within "
        f"{TIE:g} of the cut.",
    ]
    tolerances = dict.fromkeys(one.tolerance for one in found if not one.exact)
    lines.extend(
        f"near: values differ by at most {tolerance.difference:g}, and at most {tolerance.flipped:.0%} of the pixels "
        "change branch, because half precision rounds the weights."
        for tolerance in tolerances
    )
    lines.append(
        "difference and levels (of 255) are the largest among pixels that keep their branch; changed counts 8-bit "
        "values of all pixels."
    )
    return [*lines, "All checks passed."] if all(one.passed for one in found) else lines
