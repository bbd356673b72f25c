"""The output of ``pcsr upscale``: the report of one image, the progress and summary of many, and the preview."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.filesize import decimal
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import facts_table, figures_table, print_message, printable, stderr_console
from pcsr_cli.errors import InputError, PcsrError
from pcsr_cli.evaluate.html.previews import largest_sum
from pcsr_cli.images.image import to_8_bits
from pcsr_cli.images.read import read_image
from pcsr_cli.jobs.report import Gflops, Report

MEBI = 2**20
MEGA = 1e6


def show_line(report: Report, printed: tuple[str, ...] = ()) -> None:
    """Print one line about an image below its notes, without the notes that were ``printed`` before."""
    for note in (*_choices([report]), *(note for note in report.notes if note not in printed)):
        print_message(f"Note: {note}.")
    parts = [report.output, f"{_size(report.input_size)} -> {_size(report.output_size)}"]
    if (file := Path(report.output)).is_file():
        parts.append(decimal(file.stat().st_size))
    parts.append(f"{report.seconds.total:.1f} s")
    if (saved := report.executed.saved["all_heavy"] or 0) >= 0.5:
        parts.append(f"({saved:.0f}% of the compute saved)")
    print_message("  ".join(parts))


def show_report(report: Report, printed: tuple[str, ...] = ()) -> None:
    """Print the panel with the report of one image, without the notes that were ``printed`` before."""
    body = Table.grid()
    for part in (facts_table(_facts(report)), "", _flops_table(report)):
        body.add_row(part)
    for note in (*_choices([report]), *(note for note in report.notes if note not in printed)):
        body.add_row(Text(printable(f"Note: {note}.")))
    stderr_console().print(Panel(body, title=Text(printable(report.output)), title_align="left", expand=False))


def _facts(report: Report) -> list[tuple[str, str]]:
    model, routing, seconds = report.model, report.routing, report.seconds
    revision = f" @ {model.revision[:12]}" if model.revision else f", sha256 {model.sha256[:12]}"
    cuts = ", ".join(f"{cut:.4f}" for cut in routing.cuts)
    rule = routing.rule if routing.rule.startswith("threshold") or not cuts else f"{routing.rule} (cut at {cuts})"
    refined = f"refined at #h = {routing.refine}" if routing.refine < 9 else "not refined"
    facts = [
        ("Size", f"{_size(report.input_size)} -> {_size(report.output_size)}  (x{report.scale:g})"),
        ("Model", f"{model.name}{revision}; {report.parameters:,} parameters; licence {model.licence}"),
        ("Device", f"{report.device}, {report.precision}, {report.tiles} tile{'s' * (report.tiles != 1)}"),
        ("Routing", f"{rule}: {routing.heavy_share:.1%} of the pixels heavy, {refined}"),
    ]
    counts = ((routing.forced_heavy, "heavy"), (routing.forced_light, "light"))
    total = sum(routing.branch_pixels)
    if forced := [f"{count:,} pixels {branch} ({count / total:.1%})" for count, branch in counts if count]:
        facts.append(("Forced", ", ".join(forced)))
    if budget := report.budget:
        spent = f"{budget.asked:,.4g} {budget.unit} requested, {budget.spent:,.4g} spent"
        facts.append(("Budget", f"{spent} ({budget.percent_off:+.1f}%)"))
    parts = f"load {seconds.load:.2f}, compute {seconds.compute:.2f}, save {seconds.save:.2f}"
    facts.append(("Time", f"{seconds.total:.2f} s: {parts}"))
    if report.peak_memory is not None:
        facts.append(("Memory", f"{report.peak_memory / MEBI:,.0f} MiB at the peak"))
    return facts


def _choices(reports: Sequence[Report]) -> Iterator[str]:
    """Yield a sentence about each model that was chosen for lossy sources."""
    lossy = [report for report in reports if report.source_kind is not None and report.source_kind.lossy]
    if len(reports) == 1 and lossy:
        yield f"{Path(lossy[0].source).name} is lossy ({lossy[0].source_kind}): model {lossy[0].model.name}"
        return
    for name, count in Counter(report.model.name for report in lossy).items():
        yield f"{count:,} of {len(reports):,} images are lossy: model {name}"


def _flops_table(report: Report) -> Table:
    table = figures_table("GFLOPs", "PCSR", "all heavy", "saved", "original", "saved", wrap=True)
    for name, gflops in (("paper's count", report.paper), ("executed", report.executed)):
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


@dataclass
class Summary:
    """The results of a run into a ``folder``. ``ignored`` counts the files that are not images.

    ``skipped`` and ``failed`` are entries of the JSON document. A failed folder has no output.
    """

    folder: Path
    ignored: int = 0
    began: float = field(default_factory=time.perf_counter)
    pending: int = 0
    reports: list[Report] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str | None]] = field(default_factory=list)

    def add_failure(self, source: Path, output: Path | None, error: PcsrError) -> None:
        """Add an image that failed, or a folder (without ``output``) that cannot be read."""
        place = None if output is None else str(output)
        message = {"error": printable(error.sentence), "next_step": printable(error.next_step)}
        self.failed.append({"source": str(source), "output": place, **message})

    def totals(self) -> dict[str, Any]:
        """Return the counts, and sums over the images that are done."""
        parts = ("load", "compute", "save")
        return {
            "done": len(self.reports),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
            "pending": self.pending,
            "ignored": self.ignored,
            "folder": str(self.folder),
            "wall_seconds": time.perf_counter() - self.began,
            "output_pixels": sum(math.prod(report.output_size) for report in self.reports),
            "seconds": {part: sum(getattr(report.seconds, part) for report in self.reports) for part in parts},
            "gflops_paper": sum(report.paper.pcsr for report in self.reports),
            "gflops_executed": sum(report.executed.pcsr for report in self.reports),
        }

    def as_document(self) -> dict[str, Any]:
        """Return the summary as a JSON document."""
        return {
            "reports": [report.as_document() for report in self.reports],
            "skipped": self.skipped,
            "failed": self.failed,
            "totals": self.totals(),
        }

    def show(self, printed: tuple[str, ...] = ()) -> None:
        """Print the counts, megapixels, wall time and failures, and the notes that were not ``printed`` before."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        totals = self.totals()
        sums = f"{totals['output_pixels'] / MEGA:,.1f} megapixels in {totals['wall_seconds']:,.1f} s, in {self.folder}"
        table.add_row("done", f"{len(self.reports):,}", Text(printable(sums)))
        if self.skipped:
            reasons = Counter(one["why"] for one in self.skipped)
            text = ", ".join(why if len(reasons) == 1 else f"{count:,} {why}" for why, count in reasons.items())
            table.add_row("skipped", f"{len(self.skipped):,}", text)
        if self.failed:
            table.add_row("failed", f"{len(self.failed):,}", "")
        for one in self.failed:
            error = f"{one['error']} {one['next_step']}".rstrip()
            table.add_row("", "", Text(printable(error), style="red"))
        if self.pending:
            table.add_row("pending", f"{self.pending:,}", "run the same command again to continue")
        if self.ignored:
            table.add_row("ignored", f"{self.ignored:,}", "files that are not images")
        console = stderr_console()
        console.print(table)
        for choice in _choices(self.reports):
            console.print(Text(printable(f"Note: {choice}.")))
        notes = Counter(note for report in self.reports for note in report.notes if note not in printed)
        for note, count in notes.items():
            share = f" ({count:,} of {len(self.reports):,})" if len(self.reports) > 1 else ""
            console.print(Text(printable(f"Note: {note}{share}.")))


HALF_BLOCK = "▄"
GAP = 2
SPARE_ROWS = 4
MIN_PREVIEW = 8
"""Minimum number of columns and rows of characters for a preview."""

MAX_PIXELS = 10**8
"""Maximum pixels of a result that is read again for a preview."""

MAX_SEARCHED = 2**20
"""Maximum pixels in the search for contrast. In a larger image, the search uses every second or third pixel, and so on.
"""


def show_preview(source: Path | BinaryIO, output: Path | BinaryIO, size: tuple[int, int]) -> None:
    """Print a detail of the image and of its result, whose ``size`` is (W, H), or the reason why there is none."""
    console = stderr_console()
    reason = why_no_preview(console, output, size)
    if reason is None and isinstance(output, Path):
        try:
            before, after = (to_8_bits(read_image(file).rgb) for file in (source, output))
        except InputError as error:  # such as a damaged source that was accepted
            reason = error.sentence.removesuffix(".")
    if reason is not None:
        print_message(f"Note: no preview: {reason}.")
        return
    room = 2 * (console.height - SPARE_ROWS), (console.width - GAP) // 2
    console.print(draw_preview(before, after, room))


def draw_preview(before: NDArray[np.uint8], after: NDArray[np.uint8], room: tuple[int, int]) -> Group:
    """Draw the detail with the most contrast, before (h, w, 3) and after (H, W, 3), two pixels a character.

    The image and its result are both shown at the result's resolution, because a whole image that is scaled down to a
    terminal would look the same before and after. ``room`` is the largest height and width of the detail in pixels.
    """
    from PIL import Image
    from rich_pixels import Pixels

    (h, w), (high, wide) = before.shape[:2], after.shape[:2]
    height, width = min(room[0], high) // 2 * 2 or high, min(room[1], wide)
    step = math.ceil(math.sqrt(high * wide / MAX_SEARCHED))
    top, left = _most_contrast(after[::step, ::step], max(1, height // step), max(1, width // step))
    row, column = min(top * step, high - height), min(left * step, wide - width)
    rows = (np.arange(row, row + height) * 2 + 1) * h // (2 * high)
    columns = (np.arange(column, column + width) * 2 + 1) * w // (2 * wide)
    both = Image.new("RGBA", (2 * width + GAP, height))
    both.paste(Image.fromarray(before[rows[:, None], columns]), (0, 0))
    both.paste(Image.fromarray(after[row : row + height, column : column + width]), (width + GAP, 0))
    title = f"{'before':{width + GAP}}after: {width}x{height} pixels at {column},{row}"
    return Group(Text(title, no_wrap=True, overflow="crop"), Pixels.from_image(both))


def _most_contrast(rgb: NDArray[np.uint8], height: int, width: int) -> tuple[int, int]:
    """Return the row and column of the window whose pixels differ most from their neighbours."""
    luma = rgb.mean(axis=2, dtype=np.float32)
    change = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    return largest_sum(change, height, width)


def why_no_preview(console: Console, output: Path | BinaryIO, size: tuple[int, int]) -> str | None:
    """Return the reason why a preview cannot be drawn, or None."""
    if not console.is_terminal or console.is_dumb_terminal:
        return "stderr is not a terminal that can draw"
    if console.color_system is None:
        return "the terminal has no colours"
    if min(console.width // 2, console.height - SPARE_ROWS) < MIN_PREVIEW:
        return "the terminal is too small"
    if not isinstance(output, Path):
        return "the result is not a file"
    if math.prod(size) > MAX_PIXELS:
        return "the result is too large to be read again"
    try:
        HALF_BLOCK.encode(console.encoding)
    except UnicodeEncodeError:
        return f"{console.encoding} has no half blocks"
    return None
