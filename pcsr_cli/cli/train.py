"""``pcsr train``: train a model from a recipe."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, print_message, progress_bar
from pcsr_cli.cli.options import option
from pcsr_cli.engine.rules import check_device_name
from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError
from pcsr_cli.images.paths import check_source

if TYPE_CHECKING:
    from pcsr_cli.training.log import Event, Observer, Progress, Validated

SECONDS_BETWEEN_LINES = 30
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
Recipe = Annotated[Path, typer.Argument(metavar="CONFIG", help="Train with this recipe, a TOML file.")]
Folder = Annotated[
    Path | None,
    option("--out", "Write the state, the log and the model here.", short="-o", metavar="DIR", default="runs/NAME"),
]
Resume = Annotated[bool, option("--resume", "Continue the run in the folder.")]
Start = Annotated[
    Path | None, option("--from", "Continue from this state file, of this run or another.", metavar="FILE")
]


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
    check_device_name(device)
    for file in filter(None, (recipe, start)):
        check_source(file)
    from pcsr_cli.training.config import LOG_NAME, STATE_NAME, load_config

    config = load_config(recipe)
    folder = out or Path("runs") / config.name
    state = folder / STATE_NAME
    if state.exists() and not resume and start is None:
        raise RefusedOutputError(
            f"{folder} already contains a run.", "Use --resume to continue the run, or another --out."
        )
    from pcsr_cli.training.log import Decoded
    from pcsr_cli.training.session import is_leader, train

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
    """Yield an observer that prints lines about a run, and shows a progress bar for each part of it on a terminal."""
    from pcsr_cli.training.log import Decoded, Progress, Skipped, Validated, ignore

    shown, next_line = "", 0.0
    set_share: Callable[[float], None]

    def show_bar(part: str, share: float) -> None:
        nonlocal shown, set_share
        if part != shown:
            bars.close()
            shown, set_share = part, bars.enter_context(progress_bar(f"{name}, {part}", quiet))
        set_share(share)

    def observe(event: "Event") -> None:
        nonlocal next_line
        match event:
            case Skipped():
                print_message(f"Skipped {event.path}: {event.reason}")
            case Decoded():
                show_bar("cutting images", event.done / event.total)
            case Progress():
                show_bar(f"stage {event.stage} of 2", event.step / event.last_step)
                if event.seconds >= next_line:
                    next_line = event.seconds + SECONDS_BETWEEN_LINES
                    print_message(f"stage {event.stage}: {_describe_progress(event)}")
            case Validated():
                quality = _describe_quality(event)
                print_message(f"stage {event.stage}, iteration {event.step:,}, x{event.scale}: {quality}")

    with ExitStack() as bars:
        yield ignore if quiet else observe


def _describe_progress(event: "Progress") -> str:
    heavy = "" if event.heavy_share is None else f"heavy share {event.heavy_share:.1%}, "
    return (
        f"iteration {event.step:,} of {event.last_step:,}, loss {event.loss:.5g}, {heavy}"
        f"learning rate {event.learning_rate:.2g}, {event.rate:.1f} iterations/s ({event.crops:.0f} crops/s), "
        f"{timedelta(seconds=round(event.seconds_left))} left"
    )


def _describe_quality(event: "Validated") -> str:
    text = f"{event.psnr:.2f} dB ({event.psnr - event.psnr_bicubic:+.2f} over bicubic"
    if event.stage == 2:
        text += f", {event.heavy_share:.1%} heavy, all heavy {event.psnr_heavy:.2f} dB"
    return f"{text}), {event.flops / 1e9:.2f} GFLOPs per image"
