"""Which results are there already, which are to be made, and which stand in the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.files import exists, reason
from pcsr_cli.folders.journal import Entry, Journal, is_content_of, same_way
from pcsr_cli.folders.naming import Task

Existing = Literal["refuse", "skip", "overwrite"]
"""What to do about a file in the way: one that is not as this very command has made it."""


class Why(StrEnum):
    """Why a picture is not done again."""

    DONE_BEFORE = "done before"
    EXISTS = "there already"


@dataclass(frozen=True)
class Work:
    """What is to be done, in order, and what not."""

    todo: tuple[Task, ...]
    skipped: tuple[tuple[Task, Why], ...]


def sort_out(
    tasks: Sequence[Task],
    folder: Path,
    journal: Journal,
    way: Callable[[Task], Mapping[str, Any]],
    existing: Existing,
    progress: Callable[[float], None] = lambda share: None,
) -> Work:
    """Compare what is asked for with what is there; ``way`` tells how a result would be made (``Entry.way``).

    A result is done if the journal says that it was made of this content in this way and the file has the hash it
    names. Whatever else is in its place, by whomever it was put or changed, is in the way: RefusedOutputError, unless
    ``existing`` says what to do. ``progress`` hears the share of the tasks that was looked at."""
    todo: list[Task] = []
    skipped: list[tuple[Task, Why]] = []
    refused: list[Path] = []
    for number, task in enumerate(tasks):
        progress(number / len(tasks))
        output = folder / task.output
        if not exists(task.source.path) or not _is_there(output):  # that a source is gone, reading it will tell
            todo.append(task)
        elif _is_done(task, output, journal.find(task.output), way(task)):
            skipped.append((task, Why.DONE_BEFORE))
        elif existing == "skip":
            skipped.append((task, Why.EXISTS))
        else:
            todo.append(task)
            refused.append(output)
    if refused and existing == "refuse":
        more = f" and {len(refused) - 1} other results are" if len(refused) > 1 else " is"
        raise RefusedOutputError(
            f"{refused[0]}{more} in the way: changed since, or not made by this very command.",
            "Say --skip-existing or --overwrite, or give another folder.",
        )
    return Work(tuple(todo), tuple(skipped))


def _is_done(task: Task, output: Path, entry: Entry | None, way: Mapping[str, Any]) -> bool:
    """Whether a result is what the journal has made of this very content, with these options and weights."""
    return (
        entry is not None
        and same_way(entry, way)
        and is_content_of(entry.source, task.source.path)
        and is_content_of(entry.result, output)
    )


def _is_there(output: Path) -> bool:
    try:
        output.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{output} cannot be written: {reason(error)}.", "Choose another name.") from error
    return True
