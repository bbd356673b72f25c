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
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
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
    with show_run(config.name, quiet or json or not is_leader()) as show, record_signals() as received:

        def observe(event: "Event") -> None:
            show(event)
            if isinstance(event, Decoded) and received:  # there is no state to save before training starts
                raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])

        start = state if resume else start
        model = train(config, folder, observe, resume=start, device=device, stop=lambda: bool(received))
    if model is None:
        if is_leader():
            print_message(f"The state is saved. Continue with: pcsr train {recipe} --out {folder} --resume")
        raise SystemExit(128 + [*received, signal.SIGTERM][0])  # another process may have received the signal
    if is_leader():
        _finish(model, folder / LOG_NAME, folder / "curve.png", json, quiet)


def _finish(model: Path, log: Path, plot: Path, json: bool, quiet: bool) -> None:
    """Plot the run if possible and print where the files are."""
    from pcsr_cli.training.log import plot_run

    drawn = None
    try:
        plot_run(log, plot)
        drawn = str(plot)
    except (PlotError, OutputError) as error:
        if not quiet:
            print_message(f"No plot: {error}")
    if json:
        print_document({"model": str(model), "log": str(log), "plot": drawn})
    elif not quiet:
        print_message(f"The model is in {model}. Use it with --model {model}.")


@contextmanager
def record_signals() -> Iterator[list[signal.Signals]]:
    """Append SIGINT, SIGTERM and SIGHUP to the yielded list instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt. Closing a terminal and some process managers send a signal twice, so a
    second SIGTERM or SIGHUP has no effect. A signal that was ignored stays ignored.
    """
    received: list[signal.Signals] = []

    def record(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    usual = {number: signal.getsignal(number) for number in signal.Signals if number.name in STOP_SIGNALS}
    handlers = {number: handler for number, handler in usual.items() if handler != signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, record)
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def show_run(name: str, quiet: bool) -> Iterator["Observer"]:
    """Yield an observer that shows a run in a panel, or in lines if stderr is not a terminal."""
    from rich.live import Live

    from pcsr_cli.training.log import Progress, Skipped, Validated, ignore

    console, panel = stderr_console(), RunPanel(name)
    next_line = 0.0

    def print_line(event: "Event") -> None:
        nonlocal next_line
        match event:
            case Skipped():
                print_message(f"Skipped {event.path}: {event.reason}")
            case Progress() if event.seconds >= next_line:
                next_line = event.seconds + 30
                facts = ", ".join(f"{key} {value}" for key, value in _describe_progress(event))
                print_message(f"stage {event.stage}: {facts}")
            case Validated():
                print_message(
                    f"stage {event.stage}, iteration {event.step:,}, x{event.scale}: {_describe_quality(event)}"
                )

    if quiet or not console.is_terminal:
        yield ignore if quiet else print_line
        return
    with Live(get_renderable=panel.draw, console=console, refresh_per_second=4):
        yield panel


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
                self._facts.pop("decoded", None)
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
    count = min(48, len(values))
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
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
    text = f"{event.psnr:.2f} dB ({event.psnr - event.psnr_bicubic:+.2f} over bicubic"
    if event.stage == 2:
        text += f", {event.heavy_share:.1%} heavy, all heavy {event.psnr_heavy:.2f} dB"
    return f"{text}), {event.flops / 1e9:.2f} GFLOPs per image"
