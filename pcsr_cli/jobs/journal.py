"""The journal of an output folder: one line of JSON per result, so that an interrupted run can resume.

A line is on the disk before its result is moved into place, and the line counts only while the result has the checksum
in the line. A killed run therefore leaves neither a line for an incomplete result nor a complete result without a line.
"""

import contextlib
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcsr_cli.engine.rules import Adaptive, Allowance, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, atomic_write, fingerprint, open_shared, reason, share, sync

NAME = ".pcsr-journal.jsonl"
STARTED_NAME = ".pcsr-started.jsonl"
VERSION = 2

MAX_STARTS = 3
"""An image during which this many runs were killed is not tried again. A single kill may have had another reason."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    ``name`` is the path of the result relative to the output folder, with slashes. ``source`` and ``result`` are the
    fingerprints of the two files. ``settings`` are the options and weights that decide the result, as a JSON document.
    ``info`` informs readers of the journal: the name of the source, the version of pcsr."""

    name: str
    source: Fingerprint
    settings: Mapping[str, Any]
    result: Fingerprint
    info: Mapping[str, Any]


class Journal:
    """The journal of one output folder. The last line about a result counts. Damaged lines are ignored."""

    def __init__(self, folder: Path) -> None:
        """Read the journal if there is one. Raises OutputError for a journal that cannot be read."""
        self.path = folder / NAME
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        try:
            for line in _read(self.path).split(b"\n"):
                entry = _parse(line)
                if entry is not None:
                    self._entries[entry.name] = entry
        except OSError as error:
            raise OutputError(
                f"Cannot read the journal {self.path}: {reason(error)}.",
                "Remove the journal, or choose another folder.",
            ) from error

    def check_writable(self) -> None:
        """Check, before any work, that lines can be added. A journal of another user is replaced by a copy.

        Raises OutputError."""
        try:
            if self.path.exists():
                os.close(open_shared(self.path, os.O_RDWR))
        except PermissionError:
            with atomic_write(self.path) as copy:
                copy.write_bytes(_read(self.path))
            share(self.path)

    def find(self, output: Path) -> Entry | None:
        """Return the entry of a result, whose path is relative to the folder."""
        return self._entries.get(output.as_posix())

    def append(self, entry: Entry) -> None:
        """Add a line and sync it to the disk. Several threads may call this method.

        After an OutputError, the journal is unchanged."""
        line = json.dumps({"version": VERSION, **asdict(entry)}, sort_keys=True).encode() + b"\n"
        with self._lock:
            try:
                _append(self.path, line)
            except OSError as error:
                raise OutputError(
                    f"Cannot write the journal {self.path}: {reason(error)}.", "Free some disk space."
                ) from error
            self._entries[entry.name] = entry


class Started:
    """The images that runs have started and not ended, so that an image that kills the process is not tried again and
    again.

    A file in the output folder lists the started images. Errors of the file are ignored, because the file is only a
    precaution."""

    def __init__(self, folder: Path) -> None:
        """Read the file of earlier runs if it exists."""
        self.path = folder / STARTED_NAME
        self._before: Counter[str] = Counter()
        self._running: dict[Path, str] = {}
        with contextlib.suppress(OSError):
            for line in _read(self.path).decode("utf-8", "replace").splitlines():
                if line.startswith("+"):
                    self._before[line[1:]] += 1
                else:
                    del self._before[line[1:]]

    def count(self, output: Path, source: Path) -> int:
        """Return how many runs were killed while they made ``output`` from ``source``, which has not changed since."""
        return self._before[_identity(output, source)]

    def start(self, output: Path, source: Path) -> None:
        """Record an image before it is read."""
        self._running[output] = _identity(output, source)
        self._append(f"+{self._running[output]}")

    def end(self, output: Path) -> None:
        """Record that a result is done or has failed."""
        identity = self._running.pop(output)
        del self._before[identity]
        self._append(f"-{identity}")

    def close(self) -> None:
        """Record that all images of this run ended. A file without images of earlier runs is removed."""
        for output in tuple(self._running):
            self.end(output)
        for identity in [one for one, count in self._before.items() if count < MAX_STARTS]:
            del self._before[identity]  # such as an image that was done just before a kill
            self._append(f"-{identity}")
        if not self._before:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _append(self, line: str) -> None:
        with contextlib.suppress(OSError):
            _append(self.path, f"{line}\n".encode(), durable=False)


def _identity(output: Path, source: Path) -> str:
    """Return the name of a result, and the name, size and time of its image, as a line of JSON."""
    content = []
    with contextlib.suppress(OSError):
        content = [source.stat().st_size, source.stat().st_mtime_ns]
    return json.dumps([str(output), str(source), *content])


def _read(path: Path) -> bytes:
    """Read a regular file, or return no bytes for a missing file. Raises OSError, also for a link or a pipe."""
    try:
        with os.fdopen(open_shared(path, os.O_RDONLY, create=False), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _append(path: Path, line: bytes, durable: bool = True) -> None:
    """Add a line to a file, completely or not at all. Raises OSError."""
    with os.fdopen(open_shared(path, os.O_RDWR | os.O_APPEND), "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # the rest of a line from a run that was killed
                line = b"\n" + line
        try:
            written = file.write(line)
            while written < len(line):  # a disk that is nearly full accepts only a part
                written += file.write(line[written:])
            if durable:
                sync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def has_content(path: Path, content: Fingerprint) -> bool:
    """Return whether a file has this content; false for a file that cannot be read."""
    try:
        return path.stat().st_size == content.size and fingerprint(path) == content
    except OSError:
        return False


def same_settings(entry: Entry, settings: Mapping[str, Any]) -> bool:
    """Return whether a result was made with these options and weights."""
    return bool(entry.settings == json.loads(json.dumps(settings)))


def routing_settings(routing: Routing | Allowance) -> dict[str, Any]:
    """Return a routing as part of the settings of an entry. The document does not depend on names in the code."""
    match routing:
        case Threshold(cut):
            return {"threshold": cut}
        case Tradeoff(k):
            return {"k": k}
        case Adaptive():
            return {"adm": True}
        case SingleBranch(heavy):
            return {"all": "heavy" if heavy else "light"}
        case Budget(gflops):
            return {"budget": f"{gflops}G"}
        case Allowance():
            return {"budget": str(routing)}


def _parse(line: bytes) -> Entry | None:
    try:
        document = json.loads(line)
        version = document.pop("version")
        if version == 1:
            document = _from_version_1(document)
        elif version != VERSION:
            return None
        source, result = Fingerprint(**document.pop("source")), Fingerprint(**document.pop("result"))
        entry = Entry(source=source, result=result, **document)
        return entry if isinstance(entry.name, str) and isinstance(entry.settings, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _from_version_1(document: dict[str, Any]) -> dict[str, Any]:
    """Convert a line of pcsr 0.1, which stored the routing as the ``repr`` of a dataclass, or a budget as its text."""
    settings, info = document.pop("way"), document.pop("told")
    name, _, argument = settings["routing"].removesuffix(")").partition("(")
    routing: dict[str, Any] = {"budget": name}
    if name in {"Threshold", "Tradeoff"}:
        key, _, value = argument.partition("=")
        routing = {"threshold" if key == "cut" else "k": float(value)}
    elif name == "Adaptive":
        routing = {"adm": True}
    return {**document, "settings": {**settings, "routing": routing}, "info": info}
