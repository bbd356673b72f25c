"""The ``pcsr`` command."""

import copy
import logging
import os
import re
import signal
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from typer.main import get_command

import pcsr_cli
from pcsr_cli.cli import (
    bench,
    compare,
    config,
    console,
    doctor,
    export,
    models,
    options,
    plan,
    report,
    status,
    sweep,
    train,
    upscale,
    verify,
)
from pcsr_cli.cli.upscale_options import ShortHelp, complete_values
from pcsr_cli.errors import InputError
from pcsr_cli.images.files import exists
from pcsr_cli.jobs.find import is_pattern

OWN_OPTIONS = {"--version", "-V", "--help", "-h", "--install-completion", "--show-completion"}
"""The options of ``pcsr`` without a command."""

UPSCALE, EVALUATE, CHECK, MODELS, DEFAULTS = "Upscale", "Evaluate", "Check", "Models", "Defaults"
"""Panels of the help."""

app = typer.Typer(
    name="pcsr",
    help="Enlarge images with PCSR networks, which compute more where an image needs it.",
    epilog=options.examples(
        "pcsr upscale in.png out.png  # four times larger, with the best model",
        "pcsr upscale folder results --scale 2  # a folder of images",
        "pcsr verify in.png  # check that the result is exact",
    ),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": options.usual_name},
)
app.command("upscale", cls=ShortHelp, epilog=upscale.EXAMPLES, rich_help_panel=UPSCALE)(upscale.command)
app.command("plan", cls=config.Command, epilog=plan.EXAMPLES, rich_help_panel=UPSCALE)(plan.command)
app.command("status", epilog=status.EXAMPLES, rich_help_panel=UPSCALE)(status.command)
app.command("bench", cls=config.Command, epilog=bench.EXAMPLES, rich_help_panel=EVALUATE)(bench.command)
app.command("sweep", cls=config.Command, epilog=sweep.EXAMPLES, rich_help_panel=EVALUATE)(sweep.command)
app.command("report", cls=config.Command, epilog=report.EXAMPLES, rich_help_panel=EVALUATE)(report.command)
app.command("compare", epilog=compare.EXAMPLES, rich_help_panel=EVALUATE)(compare.command)
app.command("verify", cls=config.Command, epilog=verify.EXAMPLES, rich_help_panel=CHECK)(verify.command)
app.command("doctor", epilog=doctor.EXAMPLES, rich_help_panel=CHECK)(doctor.command)
app.command("train", cls=config.Command, rich_help_panel=MODELS)(train.command)
app.command("export", epilog=export.EXAMPLES, rich_help_panel=MODELS)(export.command)
app.add_typer(models.app, name="models", rich_help_panel=MODELS)
app.add_typer(config.app, name="config", rich_help_panel=DEFAULTS)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"pcsr {pcsr_cli.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand in config.COMMANDS:
        context.default_map = config.defaults_of_commands()


SIGNALLED = 128
"""The exit code after a signal is this number plus the number of the signal."""

STATISTICS = Path("/proc/stat")
"""The file in which Linux counts the threads that run now, this one included."""

CLICK_ERROR = typer.BadParameter.__mro__[2]
"""Click's ``ClickException``, or the same class in the copy of Click that newer versions of Typer contain."""


def main() -> None:
    """Run the command line and exit."""
    _unwind_when_terminated()
    _silence_libraries()
    prepare_threads()
    console.set_up_streams()
    code = run(sys.argv[1:])
    console.flush_stdout()
    if code >= SIGNALLED:
        sys.stderr.flush()
        os._exit(code)  # sys.exit waits for the threads, and a decoder may take long
    sys.exit(code)


def prepare_threads() -> None:
    """Let waiting threads sleep if other programs run on at least half of the processors, unless the user chose.

    The threads of torch wait for each other in a loop. This loop is the fastest way to wait on an idle machine. On a
    busy machine, a waiting thread takes the processor from a computing thread. torch reads the variable when it is
    imported.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        return
    try:
        running = re.search(r"^procs_running (\d+)$", STATISTICS.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return
    if running and 2 * (int(running[1]) - 1) >= (os.cpu_count() or 1):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code. Only this function turns errors into messages and exit codes."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        code = console.INTERRUPTED
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:  # the reader of stdout, such as `head`, has finished
        code = 1
    except Exception as error:
        if isinstance(error, CLICK_ERROR):
            command = " ".join(["pcsr", *(name for name in arguments[:1] if name in _commands())])
            code = console.report_usage_error(error, command, options.advice(arguments))
        else:
            code = console.report_error(error)
    if code == console.INTERRUPTED:
        console.print_error("interrupted; no half-written file was left.")
    return code


def _run(arguments: list[str]) -> int:
    if not arguments and "_PCSR_COMPLETE" not in os.environ:
        # Versions of Click print the help to different streams, with different exit codes.
        with redirect_stdout(sys.stderr):
            app(["--help"], prog_name="pcsr", standalone_mode=False)
        return console.USAGE
    options.check_no_empty_argument(arguments)
    try:
        Path.cwd()
    except FileNotFoundError as error:  # PyTorch ends the process there
        raise InputError("The current folder does not exist.", "Change to another folder.") from error
    if len(arguments) == 2 and arguments[0] in {"--show-completion", "--install-completion"}:
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # the option takes the name of a shell
    if arguments and _means_upscale(arguments[0]):
        arguments = ["upscale", *arguments]
    arguments = complete_values(_with_two_dashes(arguments))
    return _narrowed(arguments[:1])(arguments, prog_name="pcsr", standalone_mode=False) or 0


def _narrowed(names: list[str]) -> typer.Typer:
    """Return the application with only the named command, which is built faster, or with all commands."""
    narrowed = copy.copy(app)
    narrowed.registered_commands = [command for command in app.registered_commands if command.name in names]
    narrowed.registered_groups = [group for group in app.registered_groups if group.name in names]
    return narrowed if narrowed.registered_commands or narrowed.registered_groups else app


def _commands() -> set[str | None]:
    return {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}


def _means_upscale(word: str) -> bool:
    """Return whether the first word is an image, folder, pattern, URL, stream or option of upscale, not a command."""
    if word.startswith("-"):
        return word not in OWN_OPTIONS
    path = Path(word)
    return word not in _commands() and ("/" in word or exists(path) or path.suffix != "" or is_pattern(path))


def _with_two_dashes(arguments: list[str]) -> list[str]:
    """Spell ``-quality`` as ``--quality``. ImageMagick and ffmpeg have one dash before a word."""
    if not any(re.match("-[a-z]{3}", argument) for argument in arguments):
        return arguments
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {name for command in commands for parameter in command.params for name in parameter.opts}
    return [f"-{argument}" if f"-{argument}" in known else argument for argument in arguments]


def _unwind_when_terminated() -> None:
    """Raise SystemExit on SIGTERM and SIGHUP, so that temporary files are removed as after Ctrl-C.

    A signal that is ignored stays ignored."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(SIGNALLED + number)


def _silence_libraries() -> None:
    """Keep warnings and log messages of Python libraries off stderr, unless the user asks for them.

    Messages of libraries do not help a user of the command, and pcsr itself reports the problems of an image."""
    if not sys.warnoptions and os.environ.get("PCSR_DEBUG") != "1":
        warnings.simplefilter("ignore")
        logging.getLogger().addHandler(logging.NullHandler())
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
