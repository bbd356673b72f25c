"""Claims: which run works on which image, so that several runs can share an output folder.

While a run is running, it holds a lock on a file in the output folder and changes the file's time every few seconds. A
claim is another name of this file, which only one run can create. A claim counts until its run ends or is killed: then
the lock is free, or, for a run on another machine, the time of the file is old.

In a store, the file and the claims are objects, and the lock is on a file in the folder for temporary files.
"""

import hashlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from pcsr_cli.errors import StoreError
from pcsr_cli.images.files import DAY_SECONDS, cannot_write, exists, hold_lock, machine, open_shared, version
from pcsr_cli.images.objects import ObjectPath
from pcsr_cli.jobs.journal import HIDDEN, RunInfo, make_shared

CLAIMS = "claims"
RUNNING = "running"

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
"""A run on another machine counts as killed when its file reaches this age."""

MAX_STARTS = 3
"""An image during which this many runs were killed is not tried again. A single kill may have had another reason."""

NO_LIMIT = 2**31

BUSY = -1
"""The result of ``take`` for an image that another run works on."""


def describe_run(shard: str = "") -> RunInfo:
    """Return the description of a new run of this process. Its id sorts by time and is the name of its files."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return RunInfo(
        f"{stamp}-{machine()}-{os.getpid()}-{secrets.token_hex(4)}", socket.gethostname(), os.getpid(), shard, now
    )


class Claims:
    """The claims of one run in an output folder, which is made if necessary. Use it as a context manager.

    An image during which ``max_starts`` runs were killed is not tried again."""

    def __init__(self, folder: Path, run: RunInfo, max_starts: int = MAX_STARTS) -> None:
        self.max_starts = max_starts
        self._folder = folder
        self._run = run.id
        self._claims = folder / HIDDEN / CLAIMS
        self._file = folder / HIDDEN / RUNNING / run.id
        self._held: dict[Path, tuple[str, int]] = {}
        self._left: set[str] = set()
        with suppress(OSError):
            self._left = {file.stem for file in self._claims.iterdir()}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the run. Raises OutputError for a folder that cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for folder in (self._claims.parent, self._claims, self._file.parent):
                make_shared(folder)
            if not isinstance(self._file, ObjectPath):
                os.close(open_shared(self._file, os.O_RDWR))
            self._file.write_bytes(self._run.encode())
            self._stack.enter_context(hold_lock(lock_of(self._file)))
            self._remove_old_files()
        except OSError as error:
            self._stack.close()
            raise cannot_write(
                f"The folder {self._folder}", error, "Check its permissions, or choose another."
            ) from error
        stop = threading.Event()
        threading.Thread(target=self._beat, args=(stop,), daemon=True).start()
        self._stack.callback(stop.set)
        return self

    def __exit__(self, *error: object) -> None:
        for output in tuple(self._held):
            self.release(output)
        with suppress(OSError, StoreError):
            self._file.unlink()
        if isinstance(self._file, ObjectPath):
            lock_of(self._file).unlink(missing_ok=True)
        self._stack.close()

    def take(self, output: Path, source: Path, most_kills: int = 0) -> int | None:
        """Claim an image if at most ``most_kills`` runs were killed while they worked on it.

        Returns None if this call claimed the image, BUSY if another run has it, or the number of killed runs if it is
        above ``most_kills``. Raises OutputError."""
        if output in self._held:  # two images have one output
            return BUSY
        key = _key(output, source)
        for kills in range(self.max_starts):
            if kills > most_kills:
                return kills
            path = self._claims / f"{key}.{kills + 1}"
            try:
                self._create(path)
            except FileExistsError:
                if self._is_live(path):
                    return BUSY
            except OSError as error:
                raise cannot_write(path, error) from error
            else:
                self._held[output] = key, kills + 1
                return None
        return self.max_starts

    def release(self, output: Path) -> None:
        """End the claim of an image that is done or has failed, and forget the runs that were killed during it."""
        key, count = self._held.pop(output)
        self._remove(key, count)

    def forget(self, output: Path, source: Path) -> None:
        """Remove the claims of a killed run on an image that turned out to be done."""
        if self._left and (key := _key(output, source)) in self._left:
            self._remove(key, MAX_STARTS)

    def _remove(self, key: str, count: int) -> None:
        for number in range(1, count + 1):
            with suppress(OSError, StoreError):
                (self._claims / f"{key}.{number}").unlink()

    def _create(self, path: Path) -> None:
        """Create a claim. Raises FileExistsError if it exists, OSError, StoreError."""
        if isinstance(path, ObjectPath):
            try:
                path.create(self._run.encode())
            except FileExistsError:
                with suppress(FileNotFoundError):
                    if path.read_bytes() == self._run.encode():  # a request is repeated if its answer is lost
                        return
                raise
            return
        with suppress(OSError):
            if os.name != "nt":  # a locked file cannot be read there
                os.link(self._file, path)
                return
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # a file system without hard links
        with os.fdopen(handle, "w") as file:
            file.write(self._run)

    def _is_live(self, claim: Path) -> bool:
        """Return whether the run of a claim is running. It counts as running if the claim was just removed."""
        run = ""
        with suppress(OSError):
            if isinstance(claim, ObjectPath):
                run = claim.read_bytes().decode()
            else:
                with os.fdopen(open_shared(claim, os.O_RDONLY, create=False)) as file:
                    run = file.read()
        try:  # an empty claim is about to be written, unless its run was killed
            return self.is_running(run) if run else self._age(claim) < STALE_SECONDS
        except OSError:
            return True

    def is_running(self, run: str) -> bool:
        """Return whether the run with this id is running. Raises OSError."""
        file = self._file.with_name(Path(run).name)
        return file == self._file or is_live(file, self._file.stat().st_mtime)

    def _age(self, path: Path) -> float:
        """Return the age of a file by the clock of the file system. Raises OSError."""
        return self._file.stat().st_mtime - path.stat().st_mtime

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            with suppress(OSError, StoreError):
                if isinstance(self._file, ObjectPath):
                    self._file.write_bytes(self._run.encode())
                else:
                    os.utime(self._file)

    def _remove_old_files(self) -> None:
        """Remove the old files of killed runs, except the claims on images that are not tried again."""
        now = self._file.stat().st_mtime
        for file in (*self._file.parent.iterdir(), *self._claims.iterdir()):
            with suppress(OSError):
                last = self._claims / f"{file.stem}.{MAX_STARTS}"
                if now - file.stat().st_mtime > DAY_SECONDS and not last.exists():
                    file.unlink()


def is_live(file: Path, now: float) -> bool:
    """Return whether the run to which ``file`` belongs is still running. ``now`` is the time of the file system."""
    try:
        age = now - file.stat().st_mtime
        lock = lock_of(file)
        if file.name.split("-")[1:2] == [machine()] and exists(lock):
            with hold_lock(lock) as locked:
                if locked:
                    return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file of another user
        pass
    return age < STALE_SECONDS


def lock_of(file: Path) -> Path:
    """Return the file that a run locks: its own file, or one of this machine if its file is in a store."""
    return Path(tempfile.gettempdir(), f"pcsr-{file.name}.lock") if isinstance(file, ObjectPath) else file


def _key(output: Path, source: Path) -> str:
    """Return a name for an output that is made from ``source`` with its present size and time of modification."""
    content: tuple[int | str | None, ...] = ()
    with suppress(OSError):
        content = version(source)
    return hashlib.sha256(json.dumps([output.as_posix(), *content]).encode()).hexdigest()[:32]
