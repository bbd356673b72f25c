"""The table of ``pcsr bench --table paper``: one section for each folder, on a terminal or as Markdown, JSON or CSV."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pcsr_cli.cli import measuring
from pcsr_cli.cli.console import figures_table, print_document, printable, progress_bar, stdout_console
from pcsr_cli.errors import UsageError
from pcsr_cli.evaluate.arguments import LABELS, Method, PeerRequest

if TYPE_CHECKING:
    from pcsr_cli.evaluate.bench import PaperTable, Row
    from pcsr_cli.evaluate.dataset import PairFiles
    from pcsr_cli.evaluate.runner import Conditions

METHODS = "threshold,adm,light,heavy,bicubic"
READ_8_BITS = {"bicubic", "lanczos", "classsr", "arm"}
"""The methods that read 8-bit images only."""

FIGURES = ("psnr", "ssim", "paper", "executed", "own", "original_share", "heavy_share", "seconds")


def choose_targets(match: Sequence[str], peers: Sequence[PeerRequest], lr_float: bool) -> tuple[Method, ...]:
    """Return the peers whose figures PCSR has to match. Raises UsageError."""
    given = {peer.method.kind: peer.method for peer in peers}
    missing = [name for name in match if name not in given]
    if missing:
        message = f"There is no peer {', '.join(missing)} to match."
        raise UsageError(message, f"Give its weights: --peer {missing[0]}=PATH.", setting="match")
    if match and lr_float:
        raise UsageError("Peers read 8-bit images, so floating-point images cannot match them.", "Use 8-bit images.")
    return tuple(dict.fromkeys(given[kind] for kind in given if kind in match))


def run(
    conditions: "Conditions",
    folders: "Sequence[tuple[str, tuple[PairFiles, ...]]]",
    methods: Sequence[Method],
    targets: Sequence[Method],
    lr_float: bool,
    markdown: bool,
    csv: Path | None,
    common: measuring.Common,
) -> bool:
    """Measure each folder, write the rows, and print the table. Returns whether images were skipped.

    Raises the errors of ``table.paper_table``, OutputError, RefusedOutputError."""
    tables = _measure(conditions, folders, methods, targets, lr_float, common.silent)
    if csv is not None:
        measuring.write_rows(csv, [row for each in tables for row in each.rows], common.overwrite)
    title, notes = _describe(conditions, lr_float), _left_out(methods, lr_float)
    if common.json:
        print_document(_document(conditions, tables, notes, lr_float))
    elif markdown and not common.quiet:
        typer.echo(_markdown(title, tables, notes))
    elif not common.quiet:
        _print(title, tables, notes)
    return any(each.skipped for each in tables)


def _measure(
    conditions: "Conditions",
    folders: "Sequence[tuple[str, tuple[PairFiles, ...]]]",
    methods: Sequence[Method],
    targets: Sequence[Method],
    lr_float: bool,
    silent: bool,
) -> "list[PaperTable]":
    from pcsr_cli.evaluate.bench import paper_table

    chosen = [method for method in methods if not (lr_float and method.kind in READ_8_BITS)]
    tables = []
    for folder, files in folders:
        with progress_bar(f"table {folder}", silent) as progress:
            done: list[str] = []

            def observe(row: "Row", rgb: object, done: list[str] = done, total: int = len(files) * len(chosen)) -> None:
                done.append(row.method)
                progress(min(1.0, len(done) / total))

            tables.append(
                paper_table(conditions, folder, files, chosen, targets, lr_float, observe, measuring.print_skipped)
            )
    return tables


def _document(
    conditions: "Conditions", tables: "Sequence[PaperTable]", notes: Sequence[str], lr_float: bool
) -> dict[str, object]:
    return {
        **measuring.settings_document(conditions),
        "protocol": "paper",
        "lr": _lr(lr_float),
        "left_out": list(notes),
        "folders": [
            {
                "folder": table.folder,
                "images": table.images,
                "rows": [asdict(row) for row in table.rows],
                "notes": list(table.notes),
                "skipped": measuring.skipped_entries(table.skipped),
            }
            for table in tables
        ],
    }


def _lr(lr_float: bool) -> str:
    return "floating point, neither rounded nor clipped" if lr_float else "8 bits"


def _left_out(methods: Sequence[Method], lr_float: bool) -> list[str]:
    """Return a sentence for each row of the paper's tables that is left out."""
    given = [method.kind for method in methods]
    if lr_float:
        names = [LABELS.get(kind, kind).removesuffix(" k =") for kind in given if kind in READ_8_BITS]
        return [f"Left out, because they read 8-bit images: {', '.join(names)}."] if names else []
    wanted = {
        "the original network (--original PATH)": ("original", "carn", "fsrcnn", "srresnet"),
        "ClassSR (--peer classsr=PATH)": ("classsr",),
        "ARM (--peer arm=PATH)": ("arm",),
    }
    absent = [name for name, kinds in wanted.items() if not set(kinds) & set(given)]
    return [f"Left out without weights: {', '.join(absent)}."] if absent else []


def _describe(conditions: "Conditions", lr_float: bool) -> str:
    return (
        f"{conditions.model.identity.name} x{conditions.scale:g}; LR in {_lr(lr_float)}; "
        f"{measuring.describe_psnr(conditions)}, dB; SSIM of luma; GFLOPs (paper's count), executed, and of a patch by "
        "its authors' own count; heavy pixels, or patches of each class; seconds and peak memory of computing."
    )


def _print(title: str, tables: "Sequence[PaperTable]", notes: Sequence[str]) -> None:
    from rich.text import Text

    console = stdout_console()
    console.print(Text(printable(title)))
    table = figures_table("folder, method", *_headings(), gap=1)
    for each in tables:
        table.add_section()
        table.add_row(Text(printable(f"{each.folder}, mean of {each.images}"), style="bold"))
        for row in each.rows:
            table.add_row(f"  {row.method}", *_cells(row))
    console.print(table)
    for note in (*(f"{each.folder}: {note}" for each in tables for note in each.notes), *notes):
        console.print(Text(printable(note)))


def _markdown(title: str, tables: "Sequence[PaperTable]", notes: Sequence[str]) -> str:
    headings = ("method", *_headings())
    head = [_line(headings), _line(["---"] * len(headings))]
    lines = [printable(title)]
    for each in tables:
        lines += ["", f"## {printable(each.folder)}, mean of {each.images}", "", *head]
        lines += [_line((row.method, *_cells(row))) for row in each.rows]
        lines += [line for note in each.notes for line in ("", note)]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _headings() -> list[str]:
    from pcsr_cli.evaluate.bench import COLUMNS

    return [*(COLUMNS[name][0] for name in FIGURES), "MB"]


def _cells(row: "Row") -> list[str]:
    cells = measuring.format_row(row, FIGURES)
    if row.classes is not None:
        cells[FIGURES.index("heavy_share")] = "/".join(map(str, row.classes))
    return [*cells, "-" if row.memory is None else f"{row.memory / 2**20:,.0f}"]
