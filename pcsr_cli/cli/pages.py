"""What ``report`` shares with ``bench --report`` and ``sweep --report``: from pictures to a page on disk."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import measuring, options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcsr_cli.evaluate.bench import Result
    from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage
    from pcsr_cli.evaluate.html.page import Made, PagePicture
    from pcsr_cli.evaluate.sweep import Options
    from pcsr_cli.model.registry import LoadedModel

ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Also write a page to look at: .html.", rich_help_panel=options.RESULTS
    ),
]


def see_pictures(
    model: "LoadedModel",
    sources: "Sequence[PairFiles]",
    asked: "Options",
    silent: bool,
    paper: bool = False,
    measured: "Result | None" = None,
) -> "tuple[list[PagePicture], tuple[SkippedImage, ...]]":
    """Every picture as a page shows it; a broken one is named and skipped. Raises InputError if none is left.

    After a bench only what that has measured: what was wrong with others was told."""
    from pcsr_cli.evaluate.html.page import see_picture

    def see(pair: "Pair", progress: "Callable[[float], None]") -> "PagePicture":
        return see_picture(model, pair, asked, progress)

    names = {source.name for source in sources} if measured is None else {row.picture for row in measured.rows}
    chosen = [source for source in sources if source.name in names]
    return measuring.each_pair("report", chosen, asked.scale, silent, see, paper)


def write(
    output: Path,
    model: "LoadedModel",
    asked: "Options",
    no_reference: bool,
    replace: bool,
    pictures: "Sequence[PagePicture]",
    skipped: "Sequence[SkippedImage]",
    result: "Result | None" = None,
) -> None:
    """Write the page, with a bench's tables where there was one. Raises OutputError, RefusedOutputError."""
    from pcsr_cli.evaluate.html.page import Page, write_page

    rows, mean = ((), ()) if result is None else (result.rows, result.mean)
    write_page(output, Page(_made(model, asked, no_reference), tuple(pictures), tuple(skipped), rows, mean), replace)


def _made(model: "LoadedModel", asked: "Options", no_reference: bool) -> "Made":
    import torch

    import pcsr_cli
    from pcsr_cli.engine.device import describe_device
    from pcsr_cli.evaluate.html.page import Made

    return Made(
        command=shlex.join(("pcsr", *sys.argv[1:])),
        model=model.identity,
        parameters=model.network.parameter_count(),
        scale=asked.scale,
        refine=asked.refine,
        luma=asked.luma,
        no_reference=no_reference,
        grid=asked.grid,
        device=describe_device(model.network.device),
        precision=model.network.precision,
        versions=f"pcsr {pcsr_cli.__version__}, torch {torch.__version__}",
    )
