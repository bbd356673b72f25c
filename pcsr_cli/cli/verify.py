"""``pcsr verify``: what pcsr promises, checked on a picture of one's own and on this very machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import measured, options
from pcsr_cli.cli.console import print_document, progress_bar, stdout_console
from pcsr_cli.errors import CheckError

if TYPE_CHECKING:
    from pcsr_cli.evaluate.verify import Verification
    from pcsr_cli.model.network import Pcsr
    from pcsr_cli.model.registry import LoadedModel

Source = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to check with.")]
Scale = Annotated[float, typer.Option("--scale", "-s", help="How many times larger; any real number from 1.")]
Tiles = Annotated[
    list[int],
    typer.Option(
        "--tile", min=options.SMALLEST_TILE, help="Tile side in LR pixels; may be repeated. [default: several]"
    ),
]
Crop = Annotated[
    int | None, typer.Option("--crop", min=options.SMALLEST_TILE, help="Only the middle N x N pixels of the picture.")
]


def command(
    source: Source,
    scale: Scale = 4.0,
    tiles: Tiles = [],  # noqa: B006 (Typer's way)
    crop: Crop = None,
    model: options.Model = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check on a picture that tiles, threads and passes change nothing.

    The whole picture at once, in fp32, is compared with tiles of several sizes, with one thread (or two), for ADM with
    features computed twice, and with --precision if that is not fp32. Exit code 0 if all of it is as promised, else 1.
    """
    options.check_talk(json, quiet)
    from pcsr_cli.api import check_scale, working_scale
    from pcsr_cli.engine.device import resolve_device, resolve_precision
    from pcsr_cli.evaluate.verify import crop_middle, verify
    from pcsr_cli.images.read import read_image

    check_scale(scale)
    wanted = resolve_precision(precision, resolve_device(device))
    rgb = read_image(source).rgb
    loaded = options.load_model(model, device, "fp32", registry, scale, quiet)
    lower = None if wanted == loaded.network.dtype else _load_again(loaded, model, device, precision, registry, scale)
    with progress_bar(f"verify {source.name}", quiet or json) as progress:
        checked = rgb if crop is None else crop_middle(rgb, crop)
        found = verify(loaded.network, checked, working_scale(loaded, scale), tiles, lower, progress)
    part = "the whole picture" if checked.shape == rgb.shape else "the middle of the picture"
    if json:
        print_document(_document(source, part, loaded, found))
    elif not quiet:
        from pcsr_cli.cli.verify_view import show

        show(source.name, part, loaded, found, stdout_console())
    if not found.passed:
        raise CheckError(
            f"{found.failures} of {1 + len(found.comparisons)} checks of {source.name} went beyond what pcsr promises.",
            "Report it with what `pcsr verify --json` and `pcsr doctor --json` print.",
        )


def _load_again(
    loaded: "LoadedModel",
    model: str,
    device: str,
    precision: options.PrecisionName,
    registry: Path | None,
    scale: float,
) -> "Pcsr":
    """The very same model in half precision, which rounds its weights."""
    from pcsr_cli.api import load_model

    name = loaded.identity.name if model == "auto" else model
    return load_model(name, device, precision, options.load_registry(registry), scale=scale).network


def _document(source: Path, part: str, model: "LoadedModel", found: "Verification") -> dict[str, object]:
    from dataclasses import asdict

    return {
        **measured.provenance(model),
        "picture": str(source),
        "checked": part,
        "input_size": list(reversed(found.lr_size)),
        "output_size": list(reversed(found.hr_size)),
        "passed": found.passed,
        "halo": {**asdict(found.halo), "passed": found.halo.passed},
        "comparisons": [{**asdict(one), "passed": one.passed} for one in found.comparisons],
    }
