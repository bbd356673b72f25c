"""The folder results go to: made if need be, held by one run at a time, rid of what killed runs have left."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pcsr_cli.failures import folders
from pcsr_cli.files import exists, is_folder, reason, remove_leftovers

LOCK_NAME = ".pcsr-lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and hold it: nobody else gets it until this block ends, or its process does, in whatever way.

    Raises OutputError where another run holds it or nothing can be written there, RefusedOutputError for a file."""
    if exists(folder) and not is_folder(folder):
        raise folders.A_FILE_IN_THE_WAY(folder=folder)
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise folders.IN_USE(folder=folder) from error
    except OSError as error:
        raise folders.NOT_WRITABLE(folder=folder, reason=reason(error)) from error
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
            raise folders.NOT_WRITABLE(folder=place, reason=reason(error)) from error
        remove_leftovers(place)
