"""Files written whole or not at all, what killed runs left, what a name stands for, and what content is known by."""

import errno
import hashlib
import math
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, RefusedOutputError

try:
    import fcntl
except ImportError:  # Windows: nothing tells a live run from a dead one, so nothing is cleaned up
    fcntl = None  # type: ignore[assignment]

TEMPORARY_PREFIX = ".pcsr-"
TEMPORARY_SUFFIX = ".part"


# Unlike those of ``Path`` before Python 3.14, these never raise: a name that is too long for a file is none.


def exists(path: Path) -> bool:
    """Whether there is something of that name; a link counts as what it leads to."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether there is an ordinary file of that name."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name."""
    return os.path.isdir(path)  # noqa: PTH112


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError, also for what is no ordinary file, as a pipe may never end; ValueError."""
    if exists(path) and not is_file(path) and not is_folder(path):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return path.read_text(encoding="utf-8")


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A temporary file beside ``output``: move it over with ``put_in_place``; what is left is removed in any case.

    Raises OutputError where the folder is missing, read-only or full."""
    with temporary_beside(output) as temporary:
        try:
            yield temporary
        except OSError as error:
            raise OutputError(
                f"{output} cannot be written: {reason(error)}.", "Free space, or choose another."
            ) from error


@contextmanager
def temporary_beside(output: Path) -> Iterator[Path]:
    """The same, for a block whose own mishaps are not those of this file."""
    try:
        temporary, handle = _new_file(target(output).parent)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {reason(error)}.", "Choose a folder that exists and can be written."
        ) from error
    if fcntl is None:  # Windows would not move a file that is open, and has no use for the handle
        os.close(handle)
    try:
        yield temporary
    finally:
        if fcntl is not None:
            os.close(handle)
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, output: Path, replace: bool = True) -> None:
    """Move a finished file to its name in one step: in the place of what is there, or without ``replace`` only if
    nothing is, which somebody may have put there meanwhile. Raises OutputError, RefusedOutputError."""
    try:
        place = target(output)
        if replace or not _linked(temporary, place):
            os.replace(temporary, place)  # noqa: PTH105 - atomic on every system, which rename() is not
    except FileExistsError as error:
        raise RefusedOutputError(f"{output} exists already.", "Choose another name, or say --overwrite.") from error
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {reason(error)}.", "Choose a folder that exists and can be written."
        ) from error


def _linked(temporary: Path, place: Path) -> bool:
    """Whether a file has got a second name, which no other file had; False where there are no links.

    Raises FileExistsError."""
    try:
        os.link(temporary, place)
    except FileExistsError:
        raise
    except OSError:
        if exists(place):
            raise FileExistsError from None
        return False
    return True


def target(output: Path) -> Path:
    """The file that a name stands for: symbolic links are followed, not replaced. OSError where they go in a circle."""
    try:
        return output.resolve() if output.is_symlink() else output
    except RuntimeError as error:  # how Python up to 3.12 says so
        raise OSError(f"symbolic links in a circle: {output}") from error


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files in a folder that runs which were killed have left; how many these were."""
    names = folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}")
    return sum(_remove_if_left(path) for path in names if path.is_file() and not path.is_symlink())


def _remove_if_left(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # gone meanwhile, or somebody else's
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def reason(error: OSError) -> str:
    """Why the system refused, in its words."""
    return (error.strerror or str(error)).lower()


def _new_file(folder: Path) -> tuple[Path, int]:
    """An empty file that is locked as long as the handle is open, readable as any new file is."""
    while True:
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        except FileExistsError:
            continue
        if fcntl is None:
            return path, handle
        with suppress(OSError):  # file systems without locks do without
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else it was taken for a leftover before it was locked
            return path, handle
        os.close(handle)


@dataclass(frozen=True)
class Fingerprint:
    """The content of a file: its size in bytes and its sha256."""

    size: int
    sha256: str


def fingerprint(path: Path) -> Fingerprint:
    """The content of a file as it is now. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Fingerprint(file.tell(), digest.hexdigest())


def check_outputs(results: Sequence[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Refuse, before any work, results that cannot or must not be written.

    Raises RefusedOutputError for an existing file (unless ``overwrite``), for what is no file, for one of the
    ``sources`` whether ``overwrite`` or not, and for two results of one name; OutputError where a folder is missing or
    not writable. A link stands for the file it leads to.
    """
    files = [_check_name(output) for output in results]
    _check_apart(files)
    read = [source for source in sources if exists(source)]
    for output in results:
        if exists(output):
            _check_replaceable(output, read, overwrite)
    for file in {file.parent: file for file in files}.values():
        with written_whole(file):
            pass


def _check_name(output: Path) -> Path:
    """The file that a name stands for."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            output.lstat()
        return target(output)
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{output} cannot be written: {reason(error)}.", "Choose another name.") from error


def _check_apart(files: Sequence[Path]) -> None:
    taken = set()
    for file in files:
        place = file.parent.resolve() / file.name
        name = folded(place) if ignores_case(place.parent) else str(place)
        if name in taken:
            raise RefusedOutputError(
                f"{file} would be the name of two results.", "Give each a name, or a folder, of its own."
            )
        taken.add(name)


def _check_replaceable(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if is_folder(output):
        raise RefusedOutputError(f"The output {output} is a folder.", "Give the name of a file in it.")
    if any(output.samefile(source) for source in sources):
        raise RefusedOutputError(f"The output {output} is an input, too.", "Give the result another name.")
    if not is_file(output):
        raise RefusedOutputError(f"The output {output} is no ordinary file.", "Give the name of a file, or -.")
    if not overwrite:
        raise RefusedOutputError(f"{output} exists already.", "Choose another name, or say --overwrite.")


def ignores_case(folder: Path) -> bool:
    """Whether names in a folder, which need not exist yet, are the same in either case; told by its own name."""
    for place in (folder.absolute(), *folder.absolute().parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if other.name == place.name or not exists(place):
            continue
        try:
            return os.path.samestat(place.stat(), other.stat())
        except OSError:
            return False
    return False


def folded(path: Path) -> str:
    """What names are compared by where case does not count."""
    return unicodedata.normalize("NFC", str(path).casefold())


def finite(value: Any) -> Any:
    """A value made of plain ones, None in the place of every number that is not finite, however deep it lies."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
    return value
