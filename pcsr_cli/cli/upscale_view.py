"""The output of ``pcsr upscale``: the report of one image, the progress and summary of many, and the preview."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import facts_table, figures_table, print_message, printable, stderr_console
from pcsr_cli.errors import PcsrError
from pcsr_cli.images.image import Pixels, to_8_bits
from pcsr_cli.jobs.report import Gflops, Report

if TYPE_CHECKING:
    from pcsr_cli.jobs.find import Task
    from pcsr_cli.jobs.request import Job
    from pcsr_cli.jobs.upscale_file import JobInput

MEBI = 2**20
MEGA = 1e6


def show_report(report: Report, printed: tuple[str, ...] = ()) -> None:
    """Print the panel with the report of one image, without the notes that were ``printed`` before."""
    body = Table.grid()
    for part in (facts_table(_facts(report)), "", _flops_table(report)):
        body.add_row(part)
    for note in report.notes[len(printed) :]:
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


@dataclass(frozen=True)
class Skipped:
    """An image that needed no work."""

    source: Path
    output: Path
    why: str


@dataclass(frozen=True)
class Failed:
    """An image that failed, or a folder (without ``output``) that cannot be read."""

    source: Path
    output: Path | None
    error: PcsrError

    def as_document(self) -> dict[str, str | None]:
        """Return the failure as a JSON document."""
        output = None if self.output is None else str(self.output)
        error = {"error": printable(self.error.sentence), "next_step": printable(self.error.next_step)}
        return {"source": str(self.source), "output": output, **error}


@dataclass
class Summary:
    """The results of a run. ``ignored`` counts the files that are not images."""

    ignored: int = 0
    pending: int = 0
    reports: list[Report] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def totals(self) -> dict[str, Any]:
        """Return the counts, and sums over the images that are done."""
        parts = ("load", "compute", "save")
        return {
            "done": len(self.reports),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
            "pending": self.pending,
            "ignored": self.ignored,
            "output_pixels": sum(math.prod(report.output_size) for report in self.reports),
            "seconds": {part: sum(getattr(report.seconds, part) for report in self.reports) for part in parts},
            "gflops_paper": sum(report.paper.pcsr for report in self.reports),
            "gflops_executed": sum(report.executed.pcsr for report in self.reports),
        }

    def as_document(self) -> dict[str, Any]:
        """Return the summary as a JSON document."""
        return {
            "reports": [report.as_document() for report in self.reports],
            "skipped": [{"source": str(one.source), "output": str(one.output), "why": one.why} for one in self.skipped],
            "failed": [one.as_document() for one in self.failed],
            "totals": self.totals(),
        }

    def show(self, printed: tuple[str, ...] = ()) -> None:
        """Print the table of counts, and the notes that were not ``printed`` before."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("done", f"{len(self.reports):,}", self._sums())
        if self.skipped:
            reasons = Counter(one.why for one in self.skipped)
            text = ", ".join(why if len(reasons) == 1 else f"{count:,} {why}" for why, count in reasons.items())
            table.add_row("skipped", f"{len(self.skipped):,}", text)
        if self.failed:
            table.add_row("failed", f"{len(self.failed):,}", "")
        for one in self.failed:
            table.add_row("", "", Text(printable(str(one.error)), style="red"))
        if self.pending:
            table.add_row("pending", f"{self.pending:,}", "run the same command again to continue")
        if self.ignored:
            table.add_row("ignored", f"{self.ignored:,}", "files that are not images")
        console = stderr_console()
        console.print(table)
        notes = Counter(note for report in self.reports for note in report.notes if note not in printed)
        for note, count in notes.items():
            share = f" ({count:,} of {len(self.reports):,})" if len(self.reports) > 1 else ""
            console.print(Text(printable(f"Note: {note}{share}.")))

    def _sums(self) -> str:
        if not self.reports:
            return ""
        totals = self.totals()
        seconds = ", ".join(f"{part} {value:,.2f}" for part, value in totals["seconds"].items())
        return f"{totals['output_pixels'] / MEGA:,.1f} megapixels; seconds (overlapping): {seconds}"


class BatchProgress:
    """Two progress bars on a terminal: one for all images, weighted by file size, and one for the current image."""

    def __init__(self, quiet: bool) -> None:
        self._console = stderr_console()
        self._quiet = quiet or not self._console.is_terminal
        text, count = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[count]"))
        columns = (text, BarColumn(), count, TimeRemainingColumn())
        self._bars = Progress(*columns, console=self._console, transient=True)
        self._spans: dict[object, tuple[int, int]] = {}
        self._done = 0

    @contextmanager
    def shown(self, tasks: "Sequence[Task]") -> Iterator[None]:
        """Show the bars inside the block."""
        if self._quiet or not tasks:
            yield
            return
        sizes = [_file_size(task.source) for task in tasks]
        spans = zip(accumulate(sizes, initial=0), sizes, strict=False)
        self._spans = dict(zip((task.source for task in tasks), spans, strict=True))
        self._all = self._bars.add_task("images", total=sum(sizes), count=f"0/{len(tasks)}")
        self._current = self._bars.add_task("", total=1.0, count="")
        with self._bars:
            yield

    def update(self, job: "Job", share: float) -> None:
        """Set the share of the current image that is computed."""
        if span := self._spans.get(job.source):
            name = printable(Path(str(job.source)).name)
            self._bars.update(self._current, description=name, completed=share, count=f"{share:.0%}")
            self._bars.update(self._all, completed=span[0] + share * span[1])

    def count(self) -> None:
        """Count an image that is written or has failed."""
        self._done += 1
        if self._spans:
            self._bars.update(self._all, count=f"{self._done}/{len(self._spans)}")


def _file_size(path: Path) -> int:
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1


HALF_BLOCK = "▄"
GAP = 2
SPARE_ROWS = 4
MIN_PREVIEW = 8
"""Columns and rows of characters."""

MAX_SEARCHED = 2**20
"""Maximum pixels in the search for contrast. In a larger image, the search uses every second or third pixel, and so
on."""


class PreviewTap:
    """Copies one detail of a result while its rows are written: the one with the most contrast.

    The sides before and after show the same detail at the result's resolution, because a whole image that is scaled
    down to a terminal would look the same before and after. ``max_size`` is the largest height and width of the detail
    in pixels."""

    def __init__(self, max_size: tuple[int, int]) -> None:
        self.max_size = max_size
        self.before = self.after = np.zeros((0, 0, 3), np.uint8)
        self.origin = (0, 0)
        self._row = 0

    def tap(self, read: "JobInput", rows: Iterable[Pixels]) -> Iterator[Pixels]:
        """Choose the detail of an image, then pass the rows of its result on."""
        self.choose(read.image.rgb, (read.layout.height, read.layout.width))
        for block in rows:
            self.write(block)
            yield block

    def choose(self, rgb: Pixels, size: tuple[int, int]) -> None:
        """Choose the detail of an image (h, w, 3) whose result has ``size`` (H, W)."""
        (h, w), (high, wide) = rgb.shape[:2], size
        height, width = min(self.max_size[0], high) // 2 * 2 or high, min(self.max_size[1], wide)
        step = math.ceil(math.sqrt(h * w / MAX_SEARCHED))
        window = max(1, round(height * h / high / step)), max(1, round(width * w / wide / step))
        top, left = _most_contrast(to_8_bits(rgb[::step, ::step]), *window)
        row, column = min(top * step * high // h, high - height), min(left * step * wide // w, wide - width)
        rows = (np.arange(row, row + height) * 2 + 1) * h // (2 * high)
        columns = (np.arange(column, column + width) * 2 + 1) * w // (2 * wide)
        self.before, self.origin, self._row = to_8_bits(rgb[rows[:, None], columns]), (row, column), 0
        self.after = np.zeros_like(self.before)

    def write(self, rows: Pixels) -> None:
        """Copy the detail's part of the next rows (n, W, 1 to 4): grey or RGB, with or without alpha.

        Only the first frame of an animation is copied."""
        (row, column), (height, width) = self.origin, self.after.shape[:2]
        top, self._row = self._row, self._row + len(rows)
        start, stop = max(row, top), min(row + height, self._row)
        if start < stop:
            pixels = to_8_bits(rows[start - top : stop - top, column : column + width])
            self.after[start - row : stop - row] = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]

    def draw(self) -> Group:
        """Return the two sides with their titles, two pixels a character."""
        from PIL import Image
        from rich_pixels import Pixels as Drawing

        height, width = self.after.shape[:2]
        both = Image.new("RGBA", (2 * width + GAP, height))
        both.paste(Image.fromarray(self.before), (0, 0))
        both.paste(Image.fromarray(self.after), (width + GAP, 0))
        title = f"{'before':{width + GAP}}after: {width}x{height} pixels at {self.origin[1]},{self.origin[0]}"
        return Group(Text(title, no_wrap=True, overflow="crop"), Drawing.from_image(both))


def _most_contrast(rgb: NDArray[np.uint8], height: int, width: int) -> tuple[int, int]:
    """Return the row and column of the window whose pixels differ most from their neighbours."""
    luma = rgb.mean(axis=2, dtype=np.float32)
    change = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    sums = np.pad(change, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row), int(column)


def open_preview() -> PreviewTap | None:
    """Return a preview of the terminal's size. If nothing can be drawn, print the reason and return None."""
    console = stderr_console()
    if reason := why_no_preview(console):
        print_message(f"Note: no preview: {reason}.")
        return None
    return PreviewTap((2 * (console.height - SPARE_ROWS), (console.width - GAP) // 2))


def why_no_preview(console: Console) -> str | None:
    """Return the reason why a console cannot draw a preview, or None."""
    if not console.is_terminal or console.is_dumb_terminal:
        return "stderr is not a terminal that can draw"
    if console.color_system is None:
        return "the terminal has no colours"
    if min(console.width // 2, console.height - SPARE_ROWS) < MIN_PREVIEW:
        return "the terminal is too small"
    try:
        HALF_BLOCK.encode(console.encoding)
    except UnicodeEncodeError:
        return f"{console.encoding} has no half blocks"
    return None
