"""What became of many pictures, counted: the table that ends a run, and its JSON document."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable
from pcsr_cli.errors import PcsrError

if TYPE_CHECKING:
    from pcsr_cli.jobs.report import Report

MEGA = 1e6


@dataclass(frozen=True)
class Skipped:
    """A picture that needed no work."""

    source: Path
    output: Path
    why: str


@dataclass(frozen=True)
class LeftOut:
    """A picture, or a folder of them (without ``output``), that could not be done."""

    source: Path
    output: Path | None
    error: PcsrError


@dataclass
class Tally:
    """Counts while a run goes on; ``waiting`` are the pictures nothing has become of yet, ``others`` no pictures."""

    others: int = 0
    waiting: int = 0
    reports: "list[Report]" = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)

    def skip(self, source: Path, output: Path, why: str) -> None:
        """Count one that needs no work."""
        self.skipped.append(Skipped(source, output, why))

    def fail(self, source: Path, output: Path | None, error: PcsrError) -> None:
        """Count one that could not be done."""
        self.failed.append(LeftOut(source, output, error))

    def totals(self) -> dict[str, Any]:
        """The counts, and sums over what was done."""
        return {
            "done": len(self.reports),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
            "not_begun": self.waiting,
            "no_pictures": self.others,
            "output_pixels": sum(width * height for width, height in (report.output_size for report in self.reports)),
            "seconds": {
                part: sum(getattr(report.seconds, part) for report in self.reports)
                for part in ("load", "compute", "save")
            },
            "gflops_paper": sum(report.paper.pcsr for report in self.reports),
            "gflops_executed": sum(report.executed.pcsr for report in self.reports),
        }

    def as_document(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "reports": [report.as_document() for report in self.reports],
            "skipped": [{"source": str(one.source), "output": str(one.output), "why": one.why} for one in self.skipped],
            "failed": [
                {
                    "source": str(one.source),
                    "output": None if one.output is None else str(one.output),
                    "error": printable(one.error.sentence),
                    "next_step": printable(one.error.next_step),
                }
                for one in self.failed
            ],
            "totals": self.totals(),
        }

    def show(self, console: Console, told: tuple[str, ...] = ()) -> None:
        """Draw the table, without the notes that were ``told`` before."""
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
            about = "" if str(one.source) in one.error.sentence else f"{one.source}: "
            table.add_row("", "", Text(printable(f"{about}{one.error}"), style="red"))
        if self.waiting:
            table.add_row("not begun", f"{self.waiting:,}", "run the same command again to go on")
        if self.others:
            table.add_row("no pictures", f"{self.others:,}", "files of other kinds, left alone")
        console.print(table)
        notes = Counter(note for report in self.reports for note in report.notes if note not in told)
        for note, count in notes.items():
            among = f" ({count:,} of {len(self.reports):,})" if len(self.reports) > 1 else ""
            console.print(Text(printable(f"Note: {note}{among}.")))

    def _sums(self) -> str:
        if not self.reports:
            return ""
        totals = self.totals()
        seconds = ", ".join(f"{part} {value:,.2f}" for part, value in totals["seconds"].items())
        return f"{totals['output_pixels'] / MEGA:,.1f} megapixels; seconds, overlapping: {seconds}"
