"""Which results are there already, which are to be made, and which stand in the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pcsr_cli.failures import folders, outputs
from pcsr_cli.files import fingerprint, reason
from pcsr_cli.folders.journal import Journal, result_stands, same_way
from pcsr_cli.folders.naming import Task

Existing = Literal["refuse", "skip", "overwrite"]
"""What to do about a file in the way that this very command has not made."""


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
    tasks: Sequence[Task], folder: Path, journal: Journal, way: Callable[[Task], Mapping[str, Any]], existing: Existing
) -> Work:
    """Compare what is asked for with what is there; ``way`` tells how a result would be made (``Entry.way``).

    A result is done if the journal says that it was made of this content in this way and the file has the hash it
    names. One that was made so but has been changed since is made again. Raises RefusedOutputError for other files."""
    todo: list[Task] = []
    skipped: list[tuple[Task, Why]] = []
    refused: list[Path] = []
    for task in tasks:
        output = folder / task.output
        if not _exists(output) or not _exists(task.source.path):  # that a source is gone, reading it will tell
            todo.append(task)
        elif _was_made_so(task, journal, way(task)):
            entry = journal.find(task.output)
            assert entry is not None
            if result_stands(entry, output):
                skipped.append((task, Why.DONE_BEFORE))
            else:
                todo.append(task)
        elif existing == "skip":
            skipped.append((task, Why.EXISTS))
        else:
            todo.append(task)
            refused.append(output)
    if refused and existing == "refuse":
        more = f" and {len(refused) - 1} other results are" if len(refused) > 1 else " is"
        raise folders.RESULTS_EXIST(output=refused[0], more=more)
    return Work(tuple(todo), tuple(skipped))


def _was_made_so(task: Task, journal: Journal, way: Mapping[str, Any]) -> bool:
    """Whether the journal has this result made of this very content, with these options and weights."""
    entry = journal.find(task.output)
    if entry is None or not same_way(entry, way):
        return False
    try:
        if task.source.path.stat().st_size != entry.source.size:
            return False
        return fingerprint(task.source.path) == entry.source
    except OSError:
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # such as a name that is too long
        raise outputs.BAD_NAME(output=path, reason=reason(error)) from error
