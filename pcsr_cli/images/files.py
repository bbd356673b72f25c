"""Write files atomically, lock them, and compare them by content."""

import errno
import hashlib
import math
import os
import re
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images.objects import ObjectPath

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, because no lock shows whether a run was killed
    fcntl = None  # type: ignore[assignment]

TEMPORARY_PREFIX = ".pcsr-"
TEMPORARY_SUFFIX = ".part"
TEMPORARY_NAME = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]{{16}}{re.escape(TEMPORARY_SUFFIX)}")

WITHOUT = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.EBADF}
"""Errors of file systems that do not support an operation."""

DAY_SECONDS = 86400.0

FOLDER_HINT = "Choose a folder that exists and can be written."

MAX_TEXT = 2**22
"""Maximum bytes of a configuration file. Parsed JSON takes up to 30 times as much memory."""


def exists(path: Path) -> bool:
    """Whether the path exists, following symbolic links. The function never raises for a file, unlike ``Path.exists``
    before Python 3.14. Raises StoreError for an object."""
    return path.exists() if isinstance(path, ObjectPath) else os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether the path is a regular file, following symbolic links, or an object. Raises StoreError."""
    return path.is_file() if isinstance(path, ObjectPath) else os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether the path is a folder, following symbolic links, or a folder of objects. Raises StoreError."""
    return path.is_dir() if isinstance(path, ObjectPath) else os.path.isdir(path)  # noqa: PTH112


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes. Raises OSError. Refuses pipes and devices, which may never end."""
    if exists(path) and not is_file(path) and not is_folder(path):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size > limit:
            raise OSError(errno.EFBIG, f"the file has {before.st_size:,} bytes, more than the limit of {limit:,}")
        content = file.read(before.st_size)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.EAGAIN, "the file changed while it was read")
    return content


def read_text(path: Path) -> str:
    """Read a file of at most MAX_TEXT bytes as UTF-8. Raises OSError and ValueError."""
    return read_bytes(path, MAX_TEXT).decode()


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
    """Yield an empty, locked file in the folder of ``output``. Remove it when the block ends. Raises OutputError.

    If ``output`` exists, the temporary file has the same readers as ``output``. The temporary file of an object is in
    the folder for temporary files, where only this user can read it."""
    mode = 0o666
    with ExitStack() as stack:
        try:
            if isinstance(output, ObjectPath):
                place, mode = Path(tempfile.gettempdir(), output.name), 0o600
            else:
                place = follow_links(output)
                with suppress(FileNotFoundError):
                    mode = stat.S_IRUSR | stat.S_IWUSR | place.stat().st_mode & 0o066
            temporary = stack.enter_context(temporary_path(place.parent, mode))
        except OSError as error:
            raise cannot_write(output, error, FOLDER_HINT) from error
        yield temporary


@contextmanager
def temporary_path(folder: Path, mode: int, is_folder: bool = False) -> Iterator[Path]:
    """Yield an empty file or folder with this mode, less the umask. When the block ends, it is unlocked and removed.

    ``remove_leftovers`` removes it later if that fails. Raises OSError if the file or folder cannot be made."""
    handle = None
    while True:
        path = folder / f"{TEMPORARY_PREFIX}{machine()}{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        path.mkdir(mode) if is_folder else path.touch(mode, exist_ok=False)
        if fcntl is None:  # Windows cannot move an open file
            break
        with suppress(FileNotFoundError):
            handle = _open_to_lock(path)
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if exists(path):  # otherwise another run removed it before it was locked
                break
            os.close(handle)
    try:
        yield path
    finally:
        if handle is not None:
            os.close(handle)
        with suppress(OSError):
            _remove(path)


def _open_to_lock(path: Path) -> int:
    return os.open(path, os.O_RDONLY if is_folder(path) else os.O_RDWR)


def _remove(path: Path) -> None:
    """Remove a temporary file, or a temporary folder and the empty files in it. Raises OSError."""
    if not is_folder(path):
        path.unlink()
        return
    for each in path.iterdir():
        if not each.lstat().st_size:
            each.unlink()
    path.rmdir()


def commit(temporary: Path, output: Path, replace: bool = True) -> None:
    """Move a finished file to its name in one step, after its content is on the disk.

    The new file gets the permissions of the file it replaces. Raises OutputError, StoreError, and without ``replace``
    RefusedOutputError if the output exists, even if it was created a moment ago."""
    try:
        if isinstance(output, ObjectPath):
            output.put(temporary, replace)
            return
        place = follow_links(output)
        with temporary.open("rb+") as file:
            sync(file.fileno())
        with suppress(FileNotFoundError):
            if replace:
                _copy_permissions(place.stat(), temporary)
        if replace or not _link(temporary, place):
            os.replace(temporary, place)  # noqa: PTH105 - atomic on every system, unlike Path.rename
    except FileExistsError as error:
        raise already_exists(output) from error
    except OSError as error:
        raise cannot_write(output, error, "Choose another output.") from error


def sync(handle: int) -> None:
    """Wait until the content of an open file is on the disk, if the file system supports syncing. Raises OSError."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in WITHOUT:
            raise


def _copy_permissions(old: os.stat_result, path: Path) -> None:
    """Give a file the owner, group and mode of another, as far as the user and the file system permit.

    If the group differs, the group gets only the permissions of everybody."""
    mode = stat.S_IMODE(old.st_mode)
    if hasattr(os, "chown"):
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with suppress(OSError):
                os.chown(path, owner, group)
        if path.stat().st_gid != old.st_gid:
            mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    with suppress(OSError):  # some file systems have no modes
        path.chmod(mode)


def cannot_write(output: object, error: OSError, hint: str = "Free space, or choose another output.") -> OutputError:
    """Return the OutputError for an OSError."""
    return OutputError(f"{output} cannot be written: {reason(error)}.", hint)


def already_exists(output: object) -> RefusedOutputError:
    """The error for an output that exists and must not be replaced."""
    return RefusedOutputError(f"{output} already exists.", "Choose another name.", setting="overwrite")


def _link(temporary: Path, place: Path) -> bool:
    """Give a file a second name that must be new. Returns False if the file system has no hard links.

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
    """Return the target of a path. A result replaces the target of a link, never the link. Raises OSError for a loop of
    links."""
    try:
        return output.resolve() if output.is_symlink() else output
    except RuntimeError as error:  # raised by Python up to 3.12
        raise OSError(errno.ELOOP, "too many levels of symbolic links") from error


@cache
def machine() -> str:
    """Return eight letters for the running system, on which a lock shows whether a process is running."""
    name = socket.gethostname()
    with suppress(OSError):
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files and folders of killed processes from a folder. Returns the number of removed ones.

    Leftovers of other machines, whose locks may have no effect here, are removed after a day."""
    paths = (path for path in folder.glob(f"{TEMPORARY_PREFIX}*") if TEMPORARY_NAME.fullmatch(path.name))
    ours = (path for path in paths if (is_file(path) or is_folder(path)) and not path.is_symlink())
    return sum(map(_remove_if_unlocked, ours))


def _remove_if_unlocked(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        if not path.name.startswith(TEMPORARY_PREFIX + machine()) and time.time() - path.stat().st_mtime < DAY_SECONDS:
            return False
        handle = _open_to_lock(path)
    except OSError:  # already removed, or owned by another user
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Lock a file, which is made if necessary, until the block ends. Yield False if the file system has no locks.

    A lock file that belongs to another user may be read-only. Raises BlockingIOError if another process holds the lock,
    and OSError."""
    if fcntl is None:
        from filelock import FileLock, Timeout

        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BlockingIOError from error
        try:
            yield True
        finally:
            lock.release()
        return
    try:
        handle = open_shared(path, os.O_RDWR)
    except PermissionError:
        handle = open_shared(path, os.O_RDONLY)
    try:
        locked = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT:
                raise
            locked = False
        yield locked
    finally:
        os.close(handle)


def open_shared(path: Path, flags: int, create: bool = True) -> int:
    """Open a regular file of a folder, or make it with the permissions of the folder, so that the users of the folder
    share the file.

    The function does not follow a link or wait for a pipe. Raises OSError."""
    flags |= sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    if path.is_symlink():
        raise OSError(errno.ELOOP, "the path is a symbolic link")
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        if not create:
            raise
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # another process made it just now
            return open_shared(path, flags)
        share(path)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "the path is not a regular file")
    return handle


def share(path: Path) -> None:
    """Give a new file or folder the group and mode of its folder if other users may write to that folder."""
    above = path.parent.stat()
    if not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    with suppress(OSError, AttributeError):  # Windows has no groups
        os.chown(path, -1, above.st_gid)
    with suppress(OSError):
        path.chmod(stat.S_IMODE(above.st_mode) & (0o7777 if path.is_dir() else 0o666))


def reason(error: Exception) -> str:
    """Return the system's message for an OSError, in lower case, or a parser's message without advice about Python."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error).partition("; use sys.")[0]


@dataclass(frozen=True)
class Fingerprint:
    """The content of a file: its size in bytes and its sha256.

    ``modified`` is the time in nanoseconds at which the file got the content, or the version of an object, None if it
    is unknown."""

    size: int
    sha256: str
    modified: int | str | None = field(default=None, compare=False)


def version(path: Path) -> tuple[int, int | str | None]:
    """The size of a file and its time of modification in nanoseconds, or the version of an object. Raises OSError,
    StoreError."""
    if isinstance(path, ObjectPath):
        return path.state().size, path.state().version
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def fingerprint(path: Path) -> Fingerprint:
    """The current content of a file or an object. Raises OSError, StoreError."""
    if isinstance(path, ObjectPath):
        content = path.read_bytes()
        return Fingerprint(len(content), hashlib.sha256(content).hexdigest())
    with path.open("rb") as file:
        modified = os.fstat(file.fileno()).st_mtime_ns
        digest = hashlib.file_digest(file, "sha256")
        return Fingerprint(file.tell(), digest.hexdigest(), modified)


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
