"""The panel that ends an upscale."""

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable
from pcsr_cli.jobs.report import Gflops, Report

MEBI = 2**20


def show(report: Report, console: Console, told: tuple[str, ...] = ()) -> None:
    """Draw the report of one upscale, without the notes that were ``told`` before."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(report):
        facts.add_row(name, Text(printable(value)))
    body = Table.grid()
    body.add_row(facts)
    body.add_row("")
    body.add_row(_flops_table(report))
    for note in report.notes[len(told) :]:
        body.add_row(Text(printable(f"Note: {note}.")))
    console.print(Panel(body, title=Text(printable(report.output)), title_align="left", expand=False))


def _facts(report: Report) -> list[tuple[str, str]]:
    model, routing, seconds = report.model, report.routing, report.seconds
    revision = f" @ {model.revision[:12]}" if model.revision else f", sha256 {model.sha256[:12]}"
    share = f"{routing.heavy_share:.1%} of the pixels heavy"
    cuts = ", ".join(f"{cut:.4f}" for cut in routing.cuts)
    decided = routing.rule if routing.rule.startswith("threshold") or not cuts else f"{routing.rule} (cut at {cuts})"
    refined = f"refined at #h = {routing.refine}" if routing.refine < 9 else "not refined"
    return [
        ("Size", f"{_size(report.input_size)} -> {_size(report.output_size)}  (x{report.scale:g})"),
        ("Model", f"{model.name}{revision}; {report.parameters:,} parameters; licence {model.licence}"),
        ("Device", f"{report.device}, {report.precision}, {report.tiles} tile{'s' * (report.tiles != 1)}"),
        ("Routing", f"{decided}: {share}, {refined}"),
        *_forced(report),
        *_budget(report),
        (
            "Time",
            f"{seconds.total:.2f} s: load {seconds.load:.2f}, compute {seconds.compute:.2f}, save {seconds.save:.2f}",
        ),
        *_memory(report),
    ]


def _memory(report: Report) -> list[tuple[str, str]]:
    if report.peak_memory is None:
        return []
    return [("Memory", f"{report.peak_memory / MEBI:,.0f} MiB at the peak")]


def _forced(report: Report) -> list[tuple[str, str]]:
    routing = report.routing
    total = sum(routing.branch_pixels)
    counts = ((routing.forced_heavy, "heavy"), (routing.forced_light, "light"))
    told = [f"{count:,} pixels {branch} ({count / total:.1%})" for count, branch in counts if count]
    return [("Forced", ", ".join(told))] if told else []


def _budget(report: Report) -> list[tuple[str, str]]:
    if report.budget is None:
        return []
    budget = report.budget
    figures = f"{budget.asked:,.4g} {budget.unit} asked for, {budget.spent:,.4g} spent"
    return [("Budget", f"{figures} ({budget.percent_off:+.1f}%)")]


def _flops_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("GFLOPs", "PCSR", "all heavy", "saved", "original", "saved"):
        table.add_column(heading, justify="left" if heading == "GFLOPs" else "right", overflow="fold")
    for name, gflops in (("by the paper", report.paper), ("executed", report.executed)):
        table.add_row(name, *_flops_cells(gflops))
    return table


def _flops_cells(gflops: Gflops) -> list[str]:
    saved = gflops.saved
    cells = [f"{gflops.pcsr:,.2f}", f"{gflops.all_heavy:,.2f}", f"{saved['all_heavy']:.1f}%"]
    if gflops.original is None:
        return [*cells, "-", "-"]
    return [*cells, f"{gflops.original:,.2f}", f"{saved['original']:.1f}%"]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
