"""``pcsr bench``: compare methods in quality, compute and time over folders of images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pcsr_cli.cli import measuring, options, paper_table
from pcsr_cli.cli.console import figures_table, print_document, printable, progress_bar, stdout_console
from pcsr_cli.cli.options import OUTPUT, ROUTING, option
from pcsr_cli.engine.rules import Allowance, parse_allowance
from pcsr_cli.errors import UsageError
from pcsr_cli.evaluate.arguments import Method, check_page, parse_grid, parse_methods, parse_peers
from pcsr_cli.images.files import make_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from pcsr_cli.evaluate.bench import BenchResult, Row
    from pcsr_cli.evaluate.dataset import PairFiles
    from pcsr_cli.evaluate.runner import Conditions

METHODS = "threshold,adm,heavy,light,bicubic,lanczos"

EXAMPLES = options.examples(
    "pcsr bench folder  # six methods on reduced images",
    "pcsr bench folder --methods threshold,k=1,bicubic --csv rows.csv",
    "pcsr bench folder --degrade jpeg=75  # LR images saved as JPEG",
)

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER", help="Measure folders of HR images, or folders with HR and LR_xN in them."),
]
Methods = Annotated[
    str,
    option("--methods", "Compare these: threshold=0.3, k=1, adm, heavy, light, patch=64, bicubic, lanczos, original."),
]
Peers = Annotated[
    list[str] | None,
    option(
        "--peer",
        "Compare with classsr, arm (,k=1.38 and ,table=PATH), carn, fsrcnn, srresnet or bsrn, on the patch grid.",
        metavar="NAME=PATH",
    ),
]
Protocol = Annotated[
    Literal["whole", "paper"],
    option("--protocol", "Measure whole images, or crop them to the patch grid of the paper's tables."),
]
Budget = Annotated[
    str | None,
    option("--budget", "Find one cut for all images that spends 60% of the original's GFLOPs, or 50G.", ROUTING),
]
TableName = Annotated[
    Literal["paper"] | None,
    option("--table", "Print the mean rows of the paper's tables, one section for each folder."),
]
Match = Annotated[
    list[str] | None,
    option("--match", "In the table, find the k with the PSNR, and with the GFLOPs, of this peer.", metavar="PEER"),
]
LrFloat = Annotated[
    bool,
    option("--lr-float", "In the table, compute LR in floating point, neither rounded nor clipped, as PCSR's authors."),
]
AsMarkdown = Annotated[bool, option("--markdown", "Print the table as Markdown.", OUTPUT)]
Save = Annotated[Path | None, option("--save", "Keep the enlarged images as PNG files here.", OUTPUT, metavar="DIR")]


@options.with_options
def command(
    folders: Folders,
    common: measuring.Common,
    methods: Methods = METHODS,
    peer: Peers = None,
    budget: Budget = None,
    protocol: Protocol = "whole",
    table: TableName = None,
    match: Match = None,
    lr_float: LrFloat = False,
    markdown: AsMarkdown = False,
    save: Save = None,
    report: measuring.ReportFile = None,
    csv: measuring.CsvFile = None,
) -> None:
    """Compare methods in quality, compute and time over folders of images."""
    options.check_output_mode(common.json, common.quiet)
    options.check_exclusive({"--json": common.json, "--markdown": markdown})
    only_table = {"--match": match, "--lr-float": lr_float, "--markdown": markdown}
    never_table = {"--budget": budget, "--save": save, "--report": report, "--no-reference": common.no_reference}
    _check_table(table is not None, only_table if table is None else never_table)
    peers = parse_peers(peer or ())
    if table is not None and methods == METHODS:
        methods = paper_table.METHODS
    added = (Method("original"),) * (common.original is not None) + (Method("budget"),) * (budget is not None)
    chosen = tuple(dict.fromkeys((*added, *(each.method for each in peers), *parse_methods(methods))))
    targets = paper_table.choose_targets(match or (), peers, lr_float)
    allowance = None if budget is None else parse_allowance(budget)
    grid = parse_grid("threshold", measuring.THRESHOLDS)
    if report is not None:
        check_page(report, grid)
    sources = common.find_sources(folders)
    saved = () if save is None else _saved_files(save, sources, chosen)
    common.check_results((report, csv, *saved), sources)
    from pcsr_cli.evaluate import bench, sweep
    from pcsr_cli.evaluate.peers import load_peers

    conditions = common.load(sources)
    conditions = replace(conditions, peers=load_peers(peers, conditions.model.network.device))
    bench.check(conditions, chosen)
    if report is not None:
        sweep.check(conditions)
    if table is not None:
        by_folder = [(folder.name or str(folder), common.find_sources([folder])) for folder in folders]
        skipped = paper_table.run(conditions, by_folder, chosen, targets, lr_float, markdown, csv, common)
        raise SystemExit(int(skipped))
    paper = protocol == "paper" or bool(peers)
    result = _measure(conditions, sources, chosen, paper, allowance, save, common)
    if csv is not None:
        measuring.write_rows(csv, result.rows, common.overwrite)
    if report is not None:
        common.write_page(report, conditions, sources, grid, result, paper)
    if common.json:
        print_document(_document(conditions, result, "paper" if paper else "whole"))
    elif not common.quiet:
        _show(conditions, result)
    if result.skipped:
        raise SystemExit(1)


def _measure(
    conditions: "Conditions",
    sources: "Sequence[PairFiles]",
    methods: Sequence[Method],
    paper: bool,
    allowance: Allowance | None,
    save: Path | None,
    common: measuring.Common,
) -> "BenchResult":
    """Run the bench with a progress bar, and keep the enlarged images in the folder ``save``."""
    from pcsr_cli.evaluate import bench
    from pcsr_cli.images.image import ImageData
    from pcsr_cli.images.write import write_image

    total, done = len(sources) * len(methods), 0
    with progress_bar("bench", common.silent) as progress:

        def observe(row: "Row", rgb: "NDArray[np.uint8]") -> None:
            nonlocal done
            done += 1
            progress(done / total)
            if save is not None:
                write_image(_saved_file(save, row.image, row.method), ImageData(rgb), replace=common.overwrite)

        skip = measuring.print_skipped
        return bench.bench(conditions, sources, methods, paper=paper, allowance=allowance, observe=observe, skip=skip)


def _check_table(table: bool, options: Mapping[str, object]) -> None:
    """Raise UsageError if one of these options is given. ``table`` states whether --table is given, and selects the
    message."""
    for name in (name for name, value in options.items() if value):
        if table:
            raise UsageError(f"{name} does not work with --table paper.", f"Remove {name}.")
        raise UsageError(f"{name} needs --table paper.", "Add it.")


def _saved_files(folder: Path, sources: "Sequence[PairFiles]", methods: Sequence[Method]) -> tuple[Path, ...]:
    """Make the folder for --save and return the paths of the enlarged images. Raises OutputError."""
    make_folder(folder)
    return tuple(_saved_file(folder, source.name, method.label) for source in sources for method in methods)


def _saved_file(folder: Path, image: str, method: str) -> Path:
    return folder / f"{Path(image).stem}_{method.replace(' = ', '').replace(' ', '-').lower()}.png"


def _document(conditions: "Conditions", result: "BenchResult", protocol: str) -> dict[str, object]:
    return {
        **measuring.settings_document(conditions),
        "protocol": protocol,
        "images": [asdict(row) for row in result.rows],
        "mean": [asdict(row) for row in result.mean],
        "skipped": measuring.skipped_entries(result.skipped),
    }


def _show(conditions: "Conditions", result: "BenchResult") -> None:
    from rich.text import Text

    from pcsr_cli.evaluate.bench import COLUMNS

    console = stdout_console()
    composed = " (none for patch, which is composed)" if any(row.seconds is None for row in result.rows) else ""
    title = (
        f"{conditions.model.identity.name} x{conditions.scale:g}; {measuring.describe_psnr(conditions)}, "
        f"SSIM of luma, both without {conditions.shave} border pixels; GFLOPs (paper's count) and executed; "
        f"seconds of computing{composed}."
    )
    console.print(Text(printable(title)))
    columns = [name for name in COLUMNS if any(getattr(row, name) is not None for row in result.rows) and name != "own"]
    table = figures_table("image, method", *(COLUMNS[name][0] for name in columns), gap=1)
    for (image, size), group in groupby(result.rows, key=lambda row: (row.image, row.size)):
        table.add_row(
            Text(printable(image) if size is None else f"{printable(image)} {size[0]}x{size[1]}", style="bold")
        )
        _add_rows(table, group, columns)
    count = len(result.rows) // len(result.mean)
    if count > 1:
        table.add_section()
        table.add_row(f"mean of {count}", style="bold")
        _add_rows(table, result.mean, columns)
    console.print(table)
    if infinite := [f"{row.method}: {row.equal}" for row in result.mean if row.equal and math.isfinite(row.psnr or 0)]:
        console.print(Text(f"The mean PSNR leaves out infinite values ({', '.join(infinite)})."))
    if result.skipped:
        console.print(f"{len(result.skipped)} skipped, see above.")
    if not conditions.no_reference and (gain := conclude(result.mean)):
        console.print(Text(f"{printable(conditions.model.identity.name)}, {gain}"))


def conclude(mean: "Sequence[Row]") -> str:
    """Return the gain of the first method that routes pixels over the filters, or an empty text if there is none."""
    quality = {row.method: row.psnr for row in mean if row.psnr is not None and math.isfinite(row.psnr)}
    routed = next((row.method for row in mean if row.heavy_share is not None and row.method in quality), None)
    gains = [
        f"{quality[routed] - quality[name]:+.2f} dB over {name}"
        for name in ("bicubic", "Lanczos")
        if routed is not None and name in quality
    ]
    return f"{routed}: {', '.join(gains)}." if gains else ""


def _add_rows(table: "Table", rows: "Iterable[Row]", columns: Sequence[str]) -> None:
    for row in rows:
        table.add_row(f"  {row.method}", *measuring.format_row(row, columns))
