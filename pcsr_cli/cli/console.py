"""Print the output of commands: data on stdout, messages and errors on stderr.

An error becomes one line on stderr and an exit code: 1 for a failure, 2 for an invalid request, 130 for an
interruption. ``PCSR_DEBUG=1`` shows the traceback.

The library is also used without the command line, so its errors mention no options. An error names the setting that
solves the problem, and ``explain`` adds the option::

    raise RefusedOutputError(f"{path} already exists.", "Choose another name.", setting="overwrite")
    # pcsr: a.png already exists. Choose another name. To replace it, use --overwrite.
    raise UsageError("PNG has no quality setting.", "Write JPEG or WebP.", setting="quality")
    # pcsr: PNG has no quality setting. Write JPEG or WebP. See --quality.

An error without a setting is printed as it is.
"""

import io
import json
import os
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from pcsr_cli.errors import OutOfMemoryError, OutputError, PcsrError, UsageError, is_out_of_memory
from pcsr_cli.images.files import finite, reason

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PROGRESS_SECONDS = 10
"""The time between two lines of progress where stderr is not a terminal."""

USAGE = 2
INTERRUPTED = 130

HINTS = {
    "accept_damaged": "To enlarge what can be decoded, use upscale --accept-damaged.",
    "allow_huge": "If you trust the file, use --allow-huge (upscale, plan, compare).",
    "background": "To replace the transparency, use upscale --background white.",
    "existing": "Use --skip-existing or --overwrite.",
    "overwrite": "To replace it, use --overwrite.",
    "tile": "Use a smaller --tile.",
}
"""Hints by an error's setting. For a setting that is not listed, the hint is the name of the option."""


@cache
def stderr_console() -> "Console":
    """Return the only Rich console for stderr. Messages and progress bars share it, so messages appear above a bar."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout_console() -> "Console":
    """Return a Rich console that writes to stdout."""
    from rich.console import Console

    return Console(highlight=False)


def facts_table(facts: Iterable[tuple[str, object]]) -> "Table":
    """Return a table of names in bold and values."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(printable(str(value))))
    return table


def figures_table(first: str, *headings: str, gap: int = 2, wrap: bool = False) -> "Table":
    """Return an empty table without lines: the first column is text, the others are figures that may ``wrap``."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=not wrap, overflow="fold")
    return table


def print_message(text: str) -> None:
    """Print a message on stderr, above a progress bar if there is one. Lines are wrapped only on a terminal."""
    if not sys.stderr.isatty():
        sys.stderr.write(printable(text) + "\n")
        return
    from rich.text import Text

    stderr_console().print(Text(printable(text), overflow="fold"))


def printable(text: str) -> str:
    """Escape control characters: file names and downloaded files may contain sequences that change a terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


class Spool:
    """A list of JSON documents in a temporary file, so that the memory does not grow with the list."""

    def __init__(self) -> None:
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(2**20, "w+", encoding="utf-8")  # noqa: SIM115 - closed below
        weakref.finalize(self, self._file.close)

    def append(self, document: object) -> None:
        """Add a document."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(finite(document), default=_as_json) + "\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        self._file.seek(0)
        return map(json.loads, self._file)


class _Streamed(list[Any]):
    """A list that reads its elements from a ``Spool`` while JSON is encoded."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._spool)


def print_document(document: object) -> None:
    """Print one JSON document on stdout. Numbers that are not finite become null. A ``Spool`` is printed as a list."""
    encoder = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False, default=_as_json)
    for piece in encoder.iterencode(finite(document)):
        try:
            piece.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            piece = "".join(letter if letter.isascii() else json.dumps(letter)[1:-1] for letter in piece)
        sys.stdout.write(piece)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _as_json(value: object) -> object:
    if isinstance(value, Spool):
        return _Streamed(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal, elsewhere a line every ten seconds. Yield a function that takes the share
    done, from 0 to 1, and any new label."""
    if quiet:
        yield lambda share, label="": None
        return
    if not sys.stderr.isatty():
        yield _progress_lines(label)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr_console(), transient=True) as progress:
        task = progress.add_task(printable(label), total=1.0)
        yield lambda share, label="": progress.update(task, completed=share, description=printable(label) or None)


def _progress_lines(label: str) -> Callable[..., None]:
    last = time.monotonic()

    def update(share: float, new: str = "") -> None:
        nonlocal last, label
        label = new or label
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            print_message(f"{label}: {share:.0%}")

    return update


def explain(error: Exception) -> PcsrError:
    """Return the error to show to the user, with the option that helps."""
    if not isinstance(error, PcsrError):
        if not is_out_of_memory(error):
            return PcsrError(
                f"Internal error in pcsr ({type(error).__name__}: {error}).",
                "Run the command again with PCSR_DEBUG=1 and report the traceback.",
            )
        if "start new thread" in str(error):
            sentence = "The limit on the number of threads is reached."
            return PcsrError(sentence, "Raise the limit on processes of ulimit -u, or of the container.")
        error = OutOfMemoryError("There is not enough memory.", "Close other programs, or use a smaller image.")
    if not error.setting:
        return error
    hint = HINTS.get(error.setting) or f"See --{error.setting.replace('_', '-')}."
    return type(error)(error.sentence, f"{error.next_step} {hint}".strip())


def report_error(error: Exception) -> int:
    """Print an error on stderr and return the exit code. With PCSR_DEBUG=1, raise the error again."""
    if os.environ.get("PCSR_DEBUG") == "1":
        raise error
    explained = explain(error)
    print_error(str(explained))
    return explained.exit_code


def report_usage_error(error: Exception, command: str, advice: str = "") -> int:
    """Print a Click error (an unknown option, a missing argument) and advice on stderr and return the exit code.

    ``command`` is the command of an error that does not name one."""
    context = getattr(error, "ctx", None)
    command = command if context is None else context.command_path
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    sentence = " ".join(message.replace("Value error, ", "").split()).removesuffix(".")
    if advice:
        sentence = sentence.partition(" (Possible options:")[0]
    if command == "pcsr":
        sentence = sentence.replace("No such command", "No such command or file")
    print_error(f"{sentence}{'' if sentence.endswith('?') else '.'} {advice or f'See `{command} --help`.'}")
    return USAGE


def print_error(text: str) -> None:
    """Print an error on stderr, in one line."""
    sys.stderr.write(f"pcsr: {printable(text)}\n")


class SafeStdout(io.TextIOWrapper):
    """A stdout that reports write errors, and that escapes the characters which its encoding lacks.

    Raises OutputError, or BrokenPipeError if the reader of a pipe has closed it."""

    def write(self, text: str) -> int:
        """Write text."""
        if text == "":  # `require_stdout` writes nothing to test a closed stdout
            return 0
        with self._checked():
            return super().write(text)

    def flush(self) -> None:
        """Write the buffered text."""
        with self._checked():
            super().flush()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python flushes stdout again when it exits, which must not fail a second time.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"Cannot write to stdout: {reason(error)}.", "Free space, or redirect stdout.") from error


class ClosedStdout(io.TextIOBase):
    """Replaces a closed stdout. Every write raises UsageError."""

    encoding = "utf-8"

    def write(self, text: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError("stdout is closed, but the output goes to stdout.", "Redirect stdout to a file.")

    @property
    def buffer(self) -> BinaryIO:
        """Raise UsageError."""
        return self.write("")


def set_up_streams() -> None:
    """Replace stdout by ``SafeStdout`` or ``ClosedStdout``, and a closed stderr by one that discards its text."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass  # the next file opened, such as a result, must not get the number of a closed stream
        os.close(number)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, lines, through = sys.stdout.encoding, sys.stdout.line_buffering, sys.stdout.write_through
        sys.stdout = SafeStdout(sys.stdout.detach(), encoding, "backslashreplace", None, lines, through)
    else:
        sys.stdout = sys.stdout or ClosedStdout()


def require_stdout() -> None:
    """Raise UsageError if stdout is closed, before any work starts."""
    sys.stdout.write("")


def flush_stdout() -> None:
    """Write the buffered text, ignoring errors: they were reported before."""
    with suppress(BrokenPipeError, OutputError):
        sys.stdout.flush()
