"""``pcsr train``: a recipe in, a model's folder out; may be interrupted and resumed at any moment."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, say
from pcsr_cli.cli.failures import INTERRUPTED
from pcsr_cli.errors import PlotError
from pcsr_cli.failures import training, usage

if TYPE_CHECKING:
    from pcsr_cli.training.events import Event
    from pcsr_cli.training.session import RunOptions

Recipe = Annotated[Path, typer.Argument(metavar="CONFIG", help="The recipe, a TOML file.")]
Folder = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run's folder: state, log, model. [default: runs/NAME]")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the state in the run's folder.")]
Start = Annotated[Path | None, typer.Option("--from", help="Go on from this state, of this run or another.")]
Rewind = Annotated[
    float | None, typer.Option("--rewind", help="Take the learning rate's curve up again at this point, 0 to 1.")
]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Plan the stages to end after so many minutes.")]


def command(
    recipe: Recipe,
    out: Folder = None,
    resume: Resume = False,
    start: Start = None,
    rewind: Rewind = None,
    minutes: Minutes = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model: both stages of a recipe."""
    options.check_talk(json, quiet)
    from pcsr_cli.cli.training_view import watching
    from pcsr_cli.training.config import load_config
    from pcsr_cli.training.events import Decoded
    from pcsr_cli.training.processes import leads_here
    from pcsr_cli.training.run import LOG_NAME
    from pcsr_cli.training.session import train

    config = load_config(recipe)
    folder = out or Path("runs") / config.name
    run_options = _options(folder, resume, start, rewind, minutes, device)
    leads = leads_here()
    with watching(config.name, quiet or json or not leads) as show, _stopping_gently() as stop:

        def observe(event: "Event") -> None:
            show(event)
            if isinstance(event, Decoded) and stop():
                raise KeyboardInterrupt  # no iteration yet, so there is nothing to save

        model = train(config, folder, observe, run_options, stop)
    if not leads:
        return
    if model is None:
        say(f"The run's state is saved; go on with: pcsr train {recipe} --out {folder} --resume")
        raise SystemExit(INTERRUPTED)
    plot = _plot(folder / LOG_NAME, folder / "curve.png", quiet)
    if json:
        print_document({"model": str(model), "log": str(folder / LOG_NAME), "plot": plot and str(plot)})
    elif not quiet:
        say(f"The model is in {model}: use it with --model {model}.")


def _options(
    folder: Path, resume: bool, start: Path | None, rewind: float | None, minutes: float | None, device: str
) -> "RunOptions":
    """The library's options. Raises UsageError, and RefusedOutputError where a run would be overwritten."""
    from pcsr_cli.training.run import STATE_NAME
    from pcsr_cli.training.session import RunOptions

    if resume and start is not None:
        raise usage.EXCLUDE(options="--resume and --from")
    if rewind is not None and not (resume or start is not None):
        raise training.NOTHING_TO_REWIND()
    if rewind is not None and not 0 <= rewind < 1:
        raise training.REWIND(rewind=rewind)
    if minutes is not None and not 0 < minutes < 1e6:
        raise training.MINUTES(minutes=minutes)
    state = folder / STATE_NAME
    if state.exists() and not resume and start is None:
        raise training.RUN_EXISTS(folder=folder)
    return RunOptions(state if resume else start, rewind, minutes, device)


def _plot(log: Path, output: Path, quiet: bool) -> Path | None:
    """Draw the run; where that is impossible, say so."""
    from pcsr_cli.training.curve import plot_run

    try:
        plot_run(log, output)
    except PlotError as error:
        if not quiet:
            say(f"No plot was drawn. {error}")
        return None
    return output


@contextmanager
def _stopping_gently() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl-C or request to terminate only asks to stop; the second has its usual effect."""
    asked = False
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, usual[signal.Signals(number)])

    for number in usual:
        signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
