"""The journal of an output folder: one line of JSON per result, so that an interrupted run can resume.

Each run appends to a file of its own, a segment, so that runs on several machines never write to one file. The journal
is all segments together. A line is on the disk before its result is moved into place, and the line counts only while
the result has the checksum in the line. A killed run therefore leaves neither a line for an incomplete result nor a
complete result without a line.
"""

import contextlib
import io
import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pcsr_cli.engine.rules import Adaptive, Allowance, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, exists, fingerprint, open_shared, reason, share, sync, version
from pcsr_cli.images.objects import ObjectPath, look_up

HIDDEN = ".pcsr"
"""The folder for the files of pcsr in an output folder."""

SEGMENTS = "journal"
OLD_NAME = ".pcsr-journal.jsonl"
"""The journal of earlier versions, which is read as a segment."""

VERSION = 2
MAX_LINES = 200
MAX_SEARCHED = 1000
"""Maximum number of lines that are searched for the models of the last results."""

SETTLED_NS = 2 * 10**9
"""The coarsest clock of a file system, in nanoseconds."""

RUN_VERSION = 3
"""The version of the lines about a run and about failures, which earlier versions ignore."""


@dataclass(frozen=True)
class Entry:
    """The line of a result.

    ``name`` is the path of the result relative to the output folder, with slashes. ``source`` and ``result`` are the
    fingerprints of the two files. ``settings`` is a JSON document with the options and weights on which the result
    depends. ``info`` has further facts about the result: the source and its path in the searched folder, the version of
    pcsr, the id of the run, the time (``at``) and the seconds that the image took."""

    name: str
    source: Fingerprint
    settings: Mapping[str, Any]
    result: Fingerprint
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """The line of an image that failed. ``path`` is its path in the searched folder, ``at`` the time."""

    name: str
    source: str
    path: str
    error: str
    at: float


@dataclass(frozen=True)
class RunInfo:
    """The first line of a segment. ``shard`` is the part of the images that the run enlarges, empty for all."""

    id: str
    host: str
    pid: int
    shard: str
    began: float


class Segment:
    """The lines that one run adds to the journal. The file is made with the first line.

    In a store, where nothing can be appended, a run has several objects of MAX_LINES lines each. To add a line, the
    last object is replaced by one that has the line too. Several threads may call ``append``."""

    def __init__(self, folder: Path, run: RunInfo) -> None:
        self.path = folder / HIDDEN / SEGMENTS / f"{run.id}.jsonl"
        self._head = _line(RUN_VERSION, {"run": asdict(run)})
        self._lines: list[bytes] = []
        self._number = 1
        self._lock = threading.Lock()

    def append(self, line: Entry | Failure) -> None:
        """Add a line and sync it to the disk, or put it into the store. After an OutputError or a StoreError, the
        segment is unchanged."""
        failed = {"failed": asdict(line)}
        content = _line(VERSION, asdict(line)) if isinstance(line, Entry) else _line(RUN_VERSION, failed)
        with self._lock:
            if isinstance(self.path, ObjectPath):
                if len(self._lines) == MAX_LINES:
                    self._lines, self._number = [], self._number + 1
                path = self.path.with_name(f"{self.path.stem}-{self._number:06}.jsonl")
                path.write_bytes(b"".join((self._head, *self._lines, content)))
                self._lines.append(content)
                return
            try:
                for folder in (self.path.parent.parent, self.path.parent):
                    make_shared(folder)
                _append(self.path, content if self.path.exists() else self._head + content)
            except OSError as error:
                raise OutputError(
                    f"Cannot write the journal {self.path}: {reason(error)}.", "Free some disk space."
                ) from error


def _line(version: int, document: Mapping[str, Any]) -> bytes:
    return json.dumps({"version": version, **document}, sort_keys=True).encode() + b"\n"


def make_shared(folder: Path) -> None:
    """Make a folder with the permissions of its parent if it does not exist. Raises OSError."""
    if not isinstance(folder, ObjectPath) and not folder.is_dir():
        folder.mkdir(exist_ok=True)
        share(folder)


class Journal:
    """The results in all segments of an output folder. Damaged lines are ignored.

    A temporary database holds the lines, so that the memory does not depend on their number."""

    def __init__(self, folder: Path) -> None:
        """Read the segments. Raises OutputError for a segment that cannot be read."""
        self._folder = folder
        self._ends: dict[Path, int] = {}
        self._lines = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._lines.close)
        self._lines.execute("PRAGMA journal_mode = OFF")
        self._lines.execute("CREATE TABLE lines (name BLOB, line BLOB)")
        self._lines.execute("CREATE INDEX names ON lines (name)")
        self.refresh()

    def refresh(self) -> None:
        """Read the lines that were added since the last call. Raises OutputError."""
        self._lines.execute("BEGIN")
        for path in segments(self._folder):
            for line, end in read_lines(path, self._ends.get(path, 0)):
                self._ends[path] = end
                if isinstance(entry := parse_line(line), Entry):
                    self._lines.execute("INSERT INTO lines VALUES (?, ?)", (_key(entry.name), line))
        self._lines.execute("COMMIT")

    def find(self, output: Path) -> tuple[Entry, ...]:
        """Return the entries of a result, last read first. ``output`` is relative to the folder.

        A result that several runs replaced has several entries. The entry with the content of the file counts."""
        found = self._lines.execute(
            "SELECT line FROM lines WHERE name = ? ORDER BY rowid DESC", (_key(output.as_posix()),)
        )
        return tuple(entry for (line,) in found if isinstance(entry := parse_line(line), Entry))

    def models(self, scale: float | str) -> tuple[str, ...]:
        """Return the names of the models that made the last results, the latest first. ``scale`` is the scale or the
        target of the results, as in ``settings_key``.

        Results that are removed do not count."""
        found = self._lines.execute("SELECT line FROM lines ORDER BY rowid DESC LIMIT ?", (MAX_SEARCHED,))
        entries = [entry for (line,) in found if isinstance(entry := parse_line(line), Entry)]
        own = [one for one in entries if one.settings.get("scale") == scale]
        results = look_up(self._folder / one.name for one in own)
        kept = (one for one, result in zip(own, results, strict=True) if exists(result))
        names = (model.get("name") for one in kept if isinstance(model := one.settings.get("model"), dict))
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # a file name may hold bytes that are not UTF-8


def segments(folder: Path) -> list[Path]:
    """Return the files of the journal of an output folder, oldest first."""
    old = folder / OLD_NAME
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = sorted(path for path in (folder / HIDDEN / SEGMENTS).iterdir() if path.suffix == ".jsonl")
    return [old, *found] if not isinstance(folder, ObjectPath) and os.path.lexists(old) else found


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the lines of a segment from the byte ``start`` on, each with the byte where the next complete line starts.

    Raises OutputError if the file cannot be read, or is a link or a pipe, and StoreError."""
    try:
        with _opened(path, start) as file:
            for line in file:
                start += len(line) if line.endswith(b"\n") else 0
                yield line, start
    except OSError as error:
        raise OutputError(
            f"Cannot read the journal {path}: {reason(error)}.", "Remove the journal, or choose another folder."
        ) from error


def _opened(path: Path, start: int) -> BinaryIO:
    """Open a segment at a byte. Raises OSError, StoreError."""
    if isinstance(path, ObjectPath):
        return io.BytesIO(path.read_bytes(start) if path.state().size > start else b"")
    file = os.fdopen(open_shared(path, os.O_RDONLY, create=False), "rb")
    file.seek(start)
    return file


def _append(path: Path, line: bytes) -> None:
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
            sync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def is_unchanged(path: Path, content: Fingerprint) -> bool:
    """Return whether a file still has the size of ``content``, and its time of modification or its version."""
    try:
        return version(path) == (content.size, content.modified)
    except OSError:
        return False


def has_content(path: Path, content: Fingerprint) -> bool:
    """Return whether a file has this content; false for a file that cannot be read.

    A file with the same size and time of modification is not read."""
    try:
        return is_unchanged(path, content) or (version(path)[0] == content.size and fingerprint(path) == content)
    except OSError:
        return False


def settled(content: Fingerprint) -> Fingerprint:
    """Return a fingerprint, without the time of modification if the file changed a moment ago: the file could change
    again and keep the same time."""
    if not isinstance(content.modified, int) or time.time_ns() - content.modified > SETTLED_NS:
        return content
    return replace(content, modified=None)


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


def parse_line(line: bytes) -> Entry | Failure | RunInfo | None:
    """Return the content of a line in a segment. Return None if the line is damaged or has a later version."""
    try:
        document = json.loads(line)
        version = document.pop("version")
        if version == RUN_VERSION:
            return RunInfo(**document["run"]) if "run" in document else Failure(**document["failed"])
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
