"""The output of ``pcsr upscale``: the report of one image, the progress and summary of many, and the preview."""

import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.cli.console import Spool, explain, facts_table, figures_table, print_message, printable, stderr_console
from pcsr_cli.errors import InputError, PcsrError
from pcsr_cli.images.image import to_8_bits
from pcsr_cli.images.read import read_image
from pcsr_cli.jobs.report import Gflops, Report

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

    from pcsr_cli.jobs.find import Task
    from pcsr_cli.jobs.folder import Outcome

MEBI = 2**20
MEGA = 1e6


def show_line(report: Report, printed: tuple[str, ...] = ()) -> None:
    """Print the notes on an image that were not ``printed`` before, and then one line about the image."""
    from rich.filesize import decimal

    for note in (*_choice(report), *(note for note in report.notes if note not in printed)):
        print_message(f"Note: {note}.")
    parts = [report.output, f"{_size(report.input_size)} -> {_size(report.output_size)}"]
    if (file := Path(report.output)).is_file():
        parts.append(decimal(file.stat().st_size))
    parts.append(f"{report.seconds.total:.1f} s")
    if (saved := report.executed.saved["all_heavy"] or 0) >= 0.5:
        parts.append(f"({saved:.0f}% of the compute saved)")
    print_message("  ".join(parts))


def show_report(report: Report, printed: tuple[str, ...] = ()) -> None:
    """Print the report of one image in a panel, with the notes that were not ``printed`` before."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    body = Table.grid()
    for part in (facts_table(_facts(report)), "", _flops_table(report)):
        body.add_row(part)
    for note in (*_choice(report), *(note for note in report.notes if note not in printed)):
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


def _choice(report: Report) -> Iterator[str]:
    """Yield a sentence about a model that was chosen for a lossy source."""
    if report.source_kind is not None and report.source_kind.lossy:
        yield f"{Path(report.source).name} is lossy ({report.source_kind}): model {report.model.name}"


def _flops_table(report: Report) -> "Table":
    original = () if report.paper.original is None else ("original", "saved")
    table = figures_table("GFLOPs", "PCSR", "all heavy", "saved", *original, wrap=True)
    for name, gflops in (("paper's count", report.paper), ("executed", report.executed)):
        table.add_row(name, *_flops_cells(gflops))
    return table


def _flops_cells(gflops: Gflops) -> list[str]:
    saved = gflops.saved
    cells = [f"{gflops.pcsr:,.2f}", f"{gflops.all_heavy:,.2f}", f"{saved['all_heavy']:.1f}%"]
    if gflops.original is None:
        return cells
    return [*cells, f"{gflops.original:,.2f}", f"{saved['original']:.1f}%"]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


MAX_FAILURES = 100
"""Maximum number of failures that the summary lists."""


class Summary:
    """The results of a run into a ``folder``. With ``json``, the documents are kept for ``as_document``. With
    ``verbose``, a line is printed for each image that is done.

    ``ignored`` counts the files that are not images, ``pending`` the listed images that were not reached, and
    ``all_listed`` states whether there are no others. The memory does not grow with the number of images, except for
    different notes."""

    def __init__(self, folder: Path, json: bool, verbose: bool) -> None:
        self.ignored = self.pending = self.done = self.failures = self._pixels = 0
        self.all_listed = True
        self._began = time.perf_counter()
        self._folder, self._json, self._verbose = folder, json, verbose and not json
        self._documents = {name: Spool() for name in ("reports", "skipped", "failed")}
        self._gflops = 0.0, 0.0
        self._seconds = dict.fromkeys(("load", "compute", "save"), 0.0)
        self._reasons: Counter[str] = Counter()
        self._lossy: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._choice: tuple[str, ...] = ()
        self._failures: list[str] = []

    @property
    def rate(self) -> float:
        """The number of images that are done in a second."""
        return self.done / (time.perf_counter() - self._began)

    def add(self, task: "Task", outcome: "Outcome") -> None:
        """Add an image with its report, its error, or the reason why it is skipped."""
        output = self._folder / task.output
        if isinstance(outcome, Report):
            self._add_report(outcome)
            if self._verbose:
                show_line(outcome, outcome.notes)  # the summary has the notes
        elif isinstance(outcome, str):
            self._reasons[outcome] += 1
            if self._json:
                document = {"source": str(task.source), "output": str(output), "why": outcome}
                self._documents["skipped"].append(document)
        else:
            error = explain(outcome).about(str(task.source))
            print_message(f"pcsr: skipped: {error.sentence}")
            if os.environ.get("PCSR_DEBUG") == "1":
                traceback.print_exception(outcome)
            self.add_failure(task.source, error, output)

    def _add_report(self, report: Report) -> None:
        self.done += 1
        self._choice = tuple(_choice(report))
        self._lossy.update([report.model.name] if self._choice else [])
        self._notes.update(report.notes)
        self._gflops = self._gflops[0] + report.paper.pcsr, self._gflops[1] + report.executed.pcsr
        self._pixels += math.prod(report.output_size)
        for part in self._seconds:
            self._seconds[part] += getattr(report.seconds, part)
        if self._json:
            self._documents["reports"].append(report.as_document())

    def add_failure(self, source: Path, error: PcsrError, output: Path | None = None) -> None:
        """Add an image that failed, or a folder (without ``output``) that cannot be read."""
        place = None if output is None else str(output)
        message = {"error": printable(error.sentence), "next_step": printable(error.next_step)}
        self.failures += 1
        if self._json:
            self._documents["failed"].append({"source": str(source), "output": place, **message})
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(str(error))

    def as_document(self) -> dict[str, Any]:
        """Return the summary as a JSON document, with the counts, and sums over the images that are done."""
        totals = {
            "done": self.done,
            "skipped": self._reasons.total(),
            "failed": self.failures,
            "pending": self.pending,
            "all_listed": self.all_listed,
            "ignored": self.ignored,
            "folder": str(self._folder),
            "wall_seconds": time.perf_counter() - self._began,
            "output_pixels": self._pixels,
            "seconds": self._seconds,
            "gflops_paper": self._gflops[0],
            "gflops_executed": self._gflops[1],
        }
        return {**self._documents, "totals": totals}

    def show(self, printed: tuple[str, ...] = ()) -> None:
        """Print the counts, megapixels, wall time and failures, and the notes that were not ``printed`` before."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        seconds = time.perf_counter() - self._began
        sums = f"{self._pixels / MEGA:,.1f} megapixels in {seconds:,.1f} s, in {self._folder}"
        table.add_row("done", f"{self.done:,}", Text(printable(sums)))
        if reasons := self._reasons:
            text = ", ".join(why if len(reasons) == 1 else f"{count:,} {why}" for why, count in reasons.items())
            table.add_row("skipped", f"{reasons.total():,}", text)
        if self.failures:
            table.add_row("failed", f"{self.failures:,}", "")
        for error in self._failures:
            table.add_row("", "", Text(printable(error), style="red"))
        if more := self.failures - len(self._failures):
            table.add_row("", "", f"and {more:,} more: `pcsr status` lists them")
        if self.pending or not self.all_listed:
            count = f"{self.pending:,}{'' if self.all_listed else '+'}"
            table.add_row("pending", count, "run the same command again to continue")
        if self.ignored:
            table.add_row("ignored", f"{self.ignored:,}", "files that are not images")
        console = stderr_console()
        console.print(table)
        lossy = (f"{count:,} of {self.done:,} images are lossy: model {name}" for name, count in self._lossy.items())
        for choice in self._choice if self.done == 1 else lossy:
            console.print(Text(printable(f"Note: {choice}.")))
        for note, images in self._notes.items():
            if note not in printed:
                share = f" ({images:,} of {self.done:,})" if self.done > 1 else ""
                console.print(Text(printable(f"Note: {note}{share}.")))


HALF_BLOCK = "▄"
GAP = 2
SPARE_ROWS = 4
MIN_PREVIEW = 8
"""Minimum number of columns and rows of characters for a preview."""

MAX_PIXELS = 10**8
"""The largest result, in pixels, for which a preview is shown. The preview reads the result again."""

MAX_SEARCHED = 2**20
"""The maximum number of pixels in the search for contrast. In a larger image, the search uses every n-th pixel, with
the least n that suffices.
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


def draw_preview(before: NDArray[np.uint8], after: NDArray[np.uint8], room: tuple[int, int]) -> "Group":
    """Draw the detail with the most contrast, before (h, w, 3) and after (H, W, 3), two pixels a character.

    The image and its result are both shown at the result's resolution, because a whole image that is scaled down to a
    terminal would look the same before and after. ``room`` is the largest height and width of the detail in pixels.
    """
    from PIL import Image
    from rich.console import Group
    from rich.text import Text
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
    from pcsr_cli.evaluate.html.previews import largest_sum

    luma = rgb.mean(axis=2, dtype=np.float32)
    change = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    return largest_sum(change, height, width)


def why_no_preview(console: "Console", output: Path | BinaryIO, size: tuple[int, int]) -> str | None:
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
