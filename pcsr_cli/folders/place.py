"""The folder results go to: made if need be, held by one run at a time, rid of what killed runs have left."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.files import exists, is_folder, reason, remove_leftovers

LOCK_NAME = ".pcsr-lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and hold it: nobody else gets it until this block ends, or its process does, in whatever way.

    Raises OutputError where another run holds it or nothing can be written there, RefusedOutputError for a file."""
    if exists(folder) and not is_folder(folder):
        raise RefusedOutputError(
            f"{folder} is no folder, and the results of many pictures need one.", "Give another name."
        )
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"Another pcsr is writing into {folder}.", "Wait until it has finished, or give another folder."
        ) from error
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to the folder {folder}: {reason(error)}.",
            "Check its permissions, or give another.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def make_room(folder: Path, outputs: Iterable[Path]) -> None:
    """Make the folders that relative ``outputs`` go to, and rid them of leftovers. Raises OutputError."""
    for place in sorted({folder, *((folder / output).parent for output in outputs)}):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Nothing can be written to the folder {place}: {reason(error)}.",
                "Check its permissions, or give another.",
            ) from error
        remove_leftovers(place)
