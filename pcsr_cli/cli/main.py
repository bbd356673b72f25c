"""The ``pcsr`` command."""

import signal
import sys
import warnings
from types import FrameType
from typing import Annotated

import typer

import pcsr_cli
from pcsr_cli.cli import bench, doctor, failures, help, models, options, plan, report, sweep, train, upscale, verify
from pcsr_cli.cli.streams import give_up_stdout, set_up_streams

app = typer.Typer(
    name="pcsr",
    help="Enlarge pictures with PCSR networks: compute goes where the picture needs it.",
    cls=help.GroupedCommands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upscale", cls=help.GroupedCommand, rich_help_panel=help.ENLARGE)(upscale.command)
app.command("plan", cls=help.GroupedCommand, rich_help_panel=help.ENLARGE)(plan.command)
app.command("bench", cls=help.GroupedCommand, rich_help_panel=help.MEASURE)(bench.command)
app.command("sweep", cls=sweep.Command, rich_help_panel=help.MEASURE)(sweep.command)
app.command("report", cls=help.GroupedCommand, rich_help_panel=help.MEASURE)(report.command)
app.command("verify", cls=help.GroupedCommand, rich_help_panel=help.CHECK)(verify.command)
app.command("doctor", cls=help.GroupedCommand, rich_help_panel=help.CHECK)(doctor.command)
app.command("train", cls=help.GroupedCommand, rich_help_panel=help.MODELS)(train.command)
app.add_typer(models.app, name="models", rich_help_panel=help.MODELS)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"pcsr {pcsr_cli.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit: the one place where errors become sentences and exit codes."""
    _clean_up_when_stopped()
    warnings.filterwarnings("ignore", module="PIL")  # on odd metadata, in Pillow's own words
    set_up_streams()
    try:
        options.check_arguments(sys.argv[1:])
        code = app(prog_name="pcsr", standalone_mode=False) or 0
        sys.stdout.flush()
    except typer.TyperException as error:
        code = failures.misused(error)
    except typer.Abort:
        code = failures.INTERRUPTED
    except BrokenPipeError:  # whoever read stdout has seen enough
        code = 1
    except Exception as error:
        code = failures.fail(error)
    if code == failures.INTERRUPTED:
        failures.tell("interrupted; no half-written file was left.")
    give_up_stdout()
    sys.exit(code)


def _clean_up_when_stopped() -> None:
    """Being told to stop unwinds as Ctrl-C does, so that no temporary file is left; not where that was ignored."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
