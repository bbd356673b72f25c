"""``pcsr train``: a recipe in, a model's folder out; may be interrupted and resumed at any moment."""

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, print_message
from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError, UsageError, in_full

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
    float | None,
    typer.Option("--rewind", help="Take the learning rate's curve up again here: from 0, its start, to below 1."),
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
    from pcsr_cli.training.session import LOG_NAME, train

    config = load_config(recipe)
    folder = out or Path("runs") / config.name
    run_options = _options(folder, resume, start, rewind, minutes, device)
    leads = leads_here()
    with watching(config.name, quiet or json or not leads) as show, Stopping() as stopping:

        def observe(event: "Event") -> None:
            show(event)
            if isinstance(event, Decoded):
                stopping.obey()  # no iteration yet, so there is nothing to save

        model = train(config, folder, observe, run_options, lambda: stopping.asked is not None)
    if stopping.asked is not None and model is None:
        if leads:
            print_message(f"The run's state is saved; go on with: pcsr train {recipe} --out {folder} --resume")
        raise SystemExit(128 + stopping.asked)
    if not leads:
        return
    plot = _plot(folder / LOG_NAME, folder / "curve.png", quiet)
    if json:
        print_document({"model": str(model), "log": str(folder / LOG_NAME), "plot": plot and str(plot)})
    elif not quiet:
        print_message(f"The model is in {model}: use it with --model {model}.")


def _options(
    folder: Path, resume: bool, start: Path | None, rewind: float | None, minutes: float | None, device: str
) -> "RunOptions":
    """The library's options. Raises UsageError, and RefusedOutputError where a run would be overwritten."""
    from pcsr_cli.training.session import STATE_NAME, RunOptions

    if resume and start is not None:
        raise UsageError("--resume and --from exclude each other.", "Give one of them.")
    if rewind is not None and not (resume or start is not None):
        raise UsageError("--rewind needs a state to go on from.", "Give --resume or --from.")
    if rewind is not None and not 0 <= rewind < 1:
        raise UsageError(f"--rewind {in_full(rewind)} is out of range.", "Choose from 0 (the start) to below 1.")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UsageError(f"--minutes {in_full(minutes)} is no time.", "Give a number above 0.")
    state = folder / STATE_NAME
    if state.exists() and not resume and start is None:
        raise RefusedOutputError(f"{folder} holds a run already.", "Go on with --resume, or choose another --out.")
    return RunOptions(state if resume else start, rewind, minutes, device)


def _plot(log: Path, output: Path, quiet: bool) -> Path | None:
    """Draw the run; where that is impossible, say so."""
    from pcsr_cli.training.report import plot_run

    try:
        plot_run(log, output)
    except (PlotError, OutputError) as error:
        if not quiet:
            print_message(f"No plot was drawn. {error}")
        return None
    return output


class Stopping:
    """While in use, a request to stop is taken down instead of obeyed; a second Ctrl-C has its usual effect.

    Only that: whoever closes a terminal, and some who terminate, tell a process twice. What is ignored stays ignored.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        usual = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in names}
        self._usual = {number: handler for number, handler in usual.items() if handler != signal.SIG_IGN}

    def __enter__(self) -> "Stopping":
        for number in self._usual:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Let the request have its usual effect after all, if there was one."""
        if self.asked is not None:
            signal.signal(self.asked, self._usual[self.asked])
            signal.raise_signal(self.asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = signal.Signals(number)
        elif number == signal.SIGINT:
            self.asked = signal.SIGINT
            self.obey()
