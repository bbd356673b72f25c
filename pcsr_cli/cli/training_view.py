"""What is seen of a run: on a terminal a live panel, elsewhere a line now and then."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import print_message, printable, stderr_console
from pcsr_cli.training.events import Decoded, Event, Observer, Progress, Saved, Skipped, Validated, ignore

BARS = "▁▂▃▄▅▆▇█"
CURVE = 48
LINES_APART = 30.0
"""Seconds between two lines about progress where there is no terminal."""


@contextmanager
def watching(name: str, quiet: bool) -> Iterator[Observer]:
    """The observer that shows a run while the context lasts."""
    console = stderr_console()
    if quiet:
        yield ignore
    elif console.is_terminal:
        view = View(name)
        with Live(get_renderable=view.draw, console=console, refresh_per_second=4):
            yield view
    else:
        yield Lines()


class Lines:
    """Says what happens, line by line, progress only every half minute."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        """Say an event, unless it is a minor one."""
        match event:
            case Skipped():
                print_message(_skipped(event))
            case Progress() if event.seconds >= self._next:
                self._next = event.seconds + LINES_APART
                print_message(f"stage {event.stage}: " + ", ".join(f"{key} {value}" for key, value in _progress(event)))
            case Validated():
                print_message(f"stage {event.stage}, iteration {event.step:,}, {_validated(event)}")
            case _:
                pass


class View:
    """Everything at a glance: where the run is, its loss, its PSNR, its pace, what went wrong."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoded: Decoded | None = None
        self._progress: Progress | None = None
        self._losses: list[float] = []
        self._validated: dict[int, Validated] = {}
        self._saved: Saved | None = None
        self._skipped: list[Skipped] = []

    def __call__(self, event: Event) -> None:
        """Remember an event for the next drawing."""
        match event:
            case Decoded():
                self._decoded = event
            case Progress():
                if self._progress is not None and self._progress.stage != event.stage:
                    self._losses.clear()
                self._progress = event
                self._losses.append(event.loss)
            case Validated():
                self._validated[event.scale] = event
            case Saved():
                self._saved = event
            case Skipped():
                self._skipped.append(event)

    def draw(self) -> RenderableType:
        """The panel as things stand."""
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold", no_wrap=True)
        facts.add_column()
        parts: list[RenderableType] = [facts]
        if self._progress is not None:
            for key, value in _progress(self._progress):
                facts.add_row(key, value)
            facts.add_row("curve", sparkline(self._losses))
            parts.append(ProgressBar(total=self._progress.last_step, completed=self._progress.step, width=60))
        elif self._decoded is not None:
            facts.add_row("decoding", f"{self._decoded.done} of {self._decoded.total} pictures")
        for scale, validated in sorted(self._validated.items()):
            facts.add_row(f"PSNR x{scale}", _validated(validated))
        if self._saved is not None:
            facts.add_row("saved", Text(f"{self._saved.path}, iteration {self._saved.step:,}"))
        parts += [Text(_skipped(event), style="yellow") for event in self._skipped[-5:]]
        stage = f", stage {self._progress.stage} of 2" if self._progress is not None else ""
        return Panel(Group(*parts), title=Text(printable(self._name) + stage), title_align="left")


def sparkline(values: list[float]) -> str:
    """The values as a row of bars, the newest at the right; thinned out evenly if there are many."""
    count = min(CURVE, len(values))
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in shown)


def _progress(event: Progress) -> list[tuple[str, str]]:
    rows = [
        ("iteration", f"{event.step:,} of {event.last_step:,}"),
        ("loss", f"{event.loss:.5g}"),
        ("rate", f"{event.learning_rate:.2g}"),
        ("pace", f"{event.rate:.1f} iterations/s ({event.crops:.0f} crops/s)"),
        ("left", str(timedelta(seconds=round(event.seconds_left)))),
    ]
    if event.heavy_share is not None:
        rows.insert(2, ("heavy share", f"{event.heavy_share:.1%}"))
    return rows


def _validated(event: Validated) -> str:
    told = f"x{event.scale}: {event.psnr:.2f} dB ({event.psnr - event.psnr_bicubic:+.2f} over bicubic"
    if event.stage == 2:
        told += f", {event.heavy_share:.1%} heavy, all heavy {event.psnr_heavy:.2f} dB"
    return f"{told}), {event.flops / 1e9:.2f} GFLOPs a picture"


def _skipped(event: Skipped) -> str:
    return printable(f"Skipped {event.path}: {event.reason}")
