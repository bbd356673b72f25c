"""Where talk goes: stderr, without bars or colours when nobody watches."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pcsr_cli.images.files import finite


def talk() -> Console:
    """The console on stderr."""
    return Console(stderr=True, highlight=False)


def say(sentence: str) -> None:
    """Say one line on stderr."""
    talk().print(printable(sentence), markup=False, soft_wrap=True)


def data() -> Console:
    """The console on stdout."""
    return Console(highlight=False)


def printable(text: str) -> str:
    """Text in one line that cannot steer a terminal: file names and downloaded files may hold anything."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def print_document(document: object) -> None:
    """Print one JSON document on stdout, in plain ASCII where stdout cannot take more; what is not finite is null."""
    said = finite(document)
    text = json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(said, indent=2, allow_nan=False, default=_plain)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left, on a terminal; gives the function to report the share done with."""
    console = talk()
    if quiet or not console.is_terminal:
        yield lambda share: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(printable(label), total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
