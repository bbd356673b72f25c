"""Write output files atomically, check their paths before any work, and compare them by content."""

import errno
import hashlib
import math
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, RefusedOutputError

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, because no lock tells a live run from a killed one
    fcntl = None  # type: ignore[assignment]

TEMPORARY_PREFIX = ".pcsr-"
TEMPORARY_SUFFIX = ".part"


def exists(path: Path) -> bool:
    """Whether the path exists, following symbolic links. The function never raises, unlike ``Path.exists`` before
    Python 3.14."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether the path is a regular file, following symbolic links. Never raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether the path is a folder, following symbolic links. Never raises."""
    return os.path.isdir(path)  # noqa: PTH112


def read_text(path: Path) -> str:
    """Read a regular file as UTF-8. Raises OSError (also for a pipe, which may never end) and ValueError."""
    if exists(path) and not is_file(path) and not is_folder(path):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_text(encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents if they do not exist. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {reason(error)}.", "Choose another folder.") from error


@contextmanager
def atomic_write(output: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary file that becomes ``output`` when the block ends. After an error, the temporary file is
    removed.

    An OSError inside the block becomes an OutputError about ``output``. Raises OutputError, RefusedOutputError."""
    with temporary_file(output) as temporary:
        try:
            yield temporary
        except OSError as error:
            raise cannot_write(output, error) from error
        commit(temporary, output, replace)


@contextmanager
def temporary_file(output: Path) -> Iterator[Path]:
    """Yield an empty, locked file in the folder of ``output``; remove it when the block ends. Raises OutputError."""
    try:
        temporary, handle = _new_file(follow_links(output).parent)
    except OSError as error:
        raise cannot_write(output, error, "Choose a folder that exists and can be written.") from error
    if fcntl is None:  # Windows cannot move an open file
        os.close(handle)
    try:
        yield temporary
    finally:
        if fcntl is not None:
            os.close(handle)
        temporary.unlink(missing_ok=True)


def commit(temporary: Path, output: Path, replace: bool = True) -> None:
    """Move a finished file to its name in one step, after its content is on the disk.

    The new file gets the permissions of the file it replaces. Raises OutputError, and without ``replace``
    RefusedOutputError if the output exists, even if it was created a moment ago."""
    try:
        place = follow_links(output)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            if replace:
                temporary.chmod(stat.S_IMODE(place.stat().st_mode))
        if replace or not _link(temporary, place):
            os.replace(temporary, place)  # noqa: PTH105 - atomic on every system, unlike Path.rename
    except FileExistsError as error:
        raise already_exists(output) from error
    except OSError as error:
        raise cannot_write(output, error, "Choose a folder that exists and can be written.") from error


def cannot_write(output: object, error: OSError, hint: str = "Free space, or choose another output.") -> OutputError:
    """Return the OutputError for an OSError."""
    return OutputError(f"{output} cannot be written: {reason(error)}.", hint)


def _link(temporary: Path, place: Path) -> bool:
    """Give a file a second name that must be new; False if the file system has no hard links.

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


def follow_links(output: Path) -> Path:
    """Return the target of a path. Results replace the target, never a link. Raises OSError for a loop of links."""
    try:
        return output.resolve() if output.is_symlink() else output
    except RuntimeError as error:  # raised by Python up to 3.12
        raise OSError(errno.ELOOP, "too many levels of symbolic links") from error


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files of killed runs from a folder. Returns the number of removed files."""
    paths = folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}")
    return sum(_remove_if_unlocked(path) for path in paths if path.is_file() and not path.is_symlink())


def _remove_if_unlocked(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # already removed, or owned by another user
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
    """Return the system's message for an error, in lower case."""
    return (error.strerror or str(error)).lower()


def _new_file(folder: Path) -> tuple[Path, int]:
    """Create an empty file with default permissions. The file is locked while the returned handle is open."""
    while True:
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        except FileExistsError:
            continue
        if fcntl is None:
            return path, handle
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # zero if another run removed the file before it was locked
            return path, handle
        os.close(handle)


@dataclass(frozen=True)
class Fingerprint:
    """The content of a file: its size in bytes and its sha256."""

    size: int
    sha256: str


def fingerprint(path: Path) -> Fingerprint:
    """The current content of a file. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Fingerprint(file.tell(), digest.hexdigest())


def check_outputs(results: Sequence[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Check output paths before any work starts. Symbolic links are followed.

    Raises RefusedOutputError for a file that exists (unless ``overwrite``), for anything but a regular file, for one of
    the ``sources``, and for two results with the same path. Raises OutputError if a folder is missing or not writable.
    """
    files = [_resolve(output) for output in results]
    _check_distinct(files)
    read = [source for source in sources if exists(source)]
    for output in results:
        if exists(output):
            _check_replaceable(output, read, overwrite)
    for file in {file.parent: file for file in files}.values():
        with temporary_file(file):
            pass


def _resolve(output: Path) -> Path:
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            output.lstat()
        return follow_links(output)
    except OSError as error:  # such as a name that is too long
        raise cannot_write(output, error, "Choose another name.") from error


def _check_distinct(files: Sequence[Path]) -> None:
    names = set()
    for file in files:
        path = file.parent.resolve() / file.name
        name = fold_case(path) if ignores_case(path.parent) else str(path)
        if name in names:
            raise RefusedOutputError(f"Two results have the path {file}.", "Give each result its own name or folder.")
        names.add(name)


def _check_replaceable(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if is_folder(output):
        raise RefusedOutputError(f"The output {output} is a folder.", "Give the name of a file in the folder.")
    if any(output.samefile(source) for source in sources):
        raise RefusedOutputError(f"The output {output} is also an input.", "Give the result another name.")
    if not is_file(output):
        raise RefusedOutputError(f"The output {output} is not a regular file.", "Give the name of a file, or -.")
    if not overwrite:
        raise already_exists(output)


def already_exists(output: object) -> RefusedOutputError:
    """The error for an output that exists and must not be replaced."""
    return RefusedOutputError(f"{output} already exists.", "Choose another name.", setting="overwrite")


def ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder, which need not exist, ignores case. The test uses the folder's name."""
    for path in (folder.absolute(), *folder.absolute().parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if other.name == path.name or not exists(path):
            continue
        try:
            return os.path.samestat(path.stat(), other.stat())
        except OSError:
            return False
    return False


def fold_case(path: Path) -> str:
    """Return a key that compares paths without case."""
    return unicodedata.normalize("NFC", str(path).casefold())


def finite(value: Any) -> Any:
    """Replace every number that is not finite in a JSON value by None, at any depth."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
    return value
