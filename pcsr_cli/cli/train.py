"""``pcsr train``: train a model from a recipe, with a live panel on a terminal and a few lines elsewhere."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, print_message, printable, stderr_console
from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pcsr_cli.training.log import Event, Observer, Progress, Validated

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 48
SECONDS_BETWEEN_LINES = 30.0

Recipe = Annotated[Path, typer.Argument(metavar="CONFIG", help="The recipe, a TOML file.")]
Folder = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The folder of the run: state, log and model. [default: runs/NAME]"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")]
Start = Annotated[Path | None, typer.Option("--from", help="Continue from this state file, of this run or another.")]


def command(
    recipe: Recipe,
    out: Folder = None,
    resume: Resume = False,
    start: Start = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model from a recipe, in two stages."""
    options.check_output_mode(json, quiet)
    options.check_exclusive({"--resume": resume, "--from": start is not None})
    from pcsr_cli.training.config import load_config
    from pcsr_cli.training.log import Decoded
    from pcsr_cli.training.session import LOG_NAME, STATE_NAME, is_leader, train

    config = load_config(recipe)
    folder = out or Path("runs") / config.name
    state = folder / STATE_NAME
    if state.exists() and not resume and start is None:
        raise RefusedOutputError(f"{folder} already contains a run.", "Use --resume to continue it, or another --out.")
    with show_run(config.name, quiet or json or not is_leader()) as show, StopSignals() as signals:

        def observe(event: "Event") -> None:
            show(event)
            if isinstance(event, Decoded):
                signals.raise_received()  # training has not started, so there is no state to save

        start = state if resume else start
        model = train(config, folder, observe, resume=start, device=device, stop=lambda: signals.received is not None)
    if model is None and signals.received is not None:
        if is_leader():
            print_message(f"The state is saved. Continue with: pcsr train {recipe} --out {folder} --resume")
        raise SystemExit(128 + signals.received)
    if is_leader():
        plot = _plot(folder / LOG_NAME, folder / "curve.png", quiet)
        if json:
            print_document({"model": str(model), "log": str(folder / LOG_NAME), "plot": plot and str(plot)})
        elif not quiet:
            print_message(f"The model is in {model}. Use it with --model {model}.")


def _plot(log: Path, output: Path, quiet: bool) -> Path | None:
    """Plot the run. Print a message and return None if that fails."""
    from pcsr_cli.training.log import plot_run

    try:
        plot_run(log, output)
    except (PlotError, OutputError) as error:
        if not quiet:
            print_message(f"No plot: {error}")
        return None
    return output


class StopSignals:
    """Records SIGINT, SIGTERM and SIGHUP instead of ending the process while in use.

    A second Ctrl-C ends the process. Closing a terminal and some process managers send a signal twice, so a second
    SIGTERM or SIGHUP has no effect. A signal that was ignored stays ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        usual = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in names}
        self._usual = {number: handler for number, handler in usual.items() if handler != signal.SIG_IGN}

    def __enter__(self) -> "StopSignals":
        for number in self._usual:
            signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def raise_received(self) -> None:
        """Handle the received signal, if there is one, as if it had not been recorded."""
        if self.received is not None:
            signal.signal(self.received, self._usual[self.received])
            signal.raise_signal(self.received)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            self.received = signal.SIGINT
            self.raise_received()


@contextmanager
def show_run(name: str, quiet: bool) -> Iterator["Observer"]:
    """Yield an observer that shows the events of a run."""
    console = stderr_console()
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        from rich.live import Live

        panel = RunPanel(name)
        with Live(get_renderable=panel.draw, console=console, refresh_per_second=4):
            yield panel
    else:
        yield RunLines()


class RunLines:
    """Prints events as lines, the progress every 30 seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, event: "Event") -> None:
        """Print an event."""
        from pcsr_cli.training.log import Progress, Skipped, Validated

        match event:
            case Skipped():
                print_message(f"Skipped {event.path}: {event.reason}")
            case Progress() if event.seconds >= self._next:
                self._next = event.seconds + SECONDS_BETWEEN_LINES
                facts = ", ".join(f"{key} {value}" for key, value in _describe_progress(event))
                print_message(f"stage {event.stage}: {facts}")
            case Validated():
                print_message(f"stage {event.stage}, iteration {event.step:,}, {_describe_quality(event)}")


class RunPanel:
    """Shows progress, loss, PSNR and skipped images in one panel."""

    def __init__(self, name: str) -> None:
        self._title = printable(name)
        self._facts: dict[str, str] = {}
        self._progress: Progress | None = None
        self._losses: list[float] = []
        self._skipped: list[str] = []

    def __call__(self, event: "Event") -> None:
        """Store an event for the next drawing."""
        from pcsr_cli.training.log import Decoded, Progress, Saved, Skipped, Validated

        match event:
            case Decoded():
                self._facts["decoded"] = f"{event.done} of {event.total} images"
            case Progress():
                if self._progress is not None and self._progress.stage != event.stage:
                    self._losses.clear()
                self._progress = event
                self._losses.append(event.loss)
                self._facts |= {**dict(_describe_progress(event)), "curve": sparkline(self._losses)}
            case Validated():
                self._facts[f"PSNR x{event.scale}"] = _describe_quality(event)
            case Saved():
                self._facts["saved"] = printable(f"{event.path}, iteration {event.step:,}")
            case Skipped():
                self._skipped.append(printable(f"Skipped {event.path}: {event.reason}"))

    def draw(self) -> "RenderableType":
        """Draw the current state of the run."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold", no_wrap=True)
        for key, value in self._facts.items():
            facts.add_row(key, Text(value))
        parts: list[RenderableType] = [facts]
        title = self._title
        if self._progress is not None:
            title += f", stage {self._progress.stage} of 2"
            parts.append(ProgressBar(total=self._progress.last_step, completed=self._progress.step, width=60))
        parts += [Text(line, style="yellow") for line in self._skipped[-5:]]
        return Panel(Group(*parts), title=Text(title), title_align="left")


def sparkline(values: list[float]) -> str:
    """Draw values as a row of at most 48 bars, the newest on the right."""
    count = min(CURVE_WIDTH, len(values))
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in shown)


def _describe_progress(event: "Progress") -> list[tuple[str, str]]:
    share = [] if event.heavy_share is None else [("heavy share", f"{event.heavy_share:.1%}")]
    return [
        ("iteration", f"{event.step:,} of {event.last_step:,}"),
        ("loss", f"{event.loss:.5g}"),
        *share,
        ("learning rate", f"{event.learning_rate:.2g}"),
        ("speed", f"{event.rate:.1f} iterations/s ({event.crops:.0f} crops/s)"),
        ("time left", str(timedelta(seconds=round(event.seconds_left)))),
    ]


def _describe_quality(event: "Validated") -> str:
    text = f"x{event.scale}: {event.psnr:.2f} dB ({event.psnr - event.psnr_bicubic:+.2f} over bicubic"
    if event.stage == 2:
        text += f", {event.heavy_share:.1%} heavy, all heavy {event.psnr_heavy:.2f} dB"
    return f"{text}), {event.flops / 1e9:.2f} GFLOPs per image"
