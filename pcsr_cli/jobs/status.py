"""The state of an output folder, from its journal: the results, the failures, and the runs that worked on it."""

import sqlite3
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pcsr_cli.errors import InputError
from pcsr_cli.images.files import exists
from pcsr_cli.images.objects import ObjectPath, to_path
from pcsr_cli.jobs.claims import RUNNING, is_live
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.journal import HIDDEN, Entry, Failure, RunInfo, parse_line, read_lines, segments

RATE_SECONDS = 600.0
"""The rate is measured over at most this many seconds, which end at the last result."""

SLOWEST = 5


@dataclass(frozen=True)
class RunStatus:
    """What one run did. A journal of an earlier version counts as one run without an id.

    ``last`` is the time of its last image, or of its start."""

    info: RunInfo
    live: bool = False
    done: int = 0
    failed: int = 0
    last: float = 0.0


class Status:
    """The state of an output folder when the object is made.

    ``done`` counts the results that are listed and in place. ``failed`` counts the images that failed and have no
    result, and ``reasons`` counts their reasons. ``last`` is the time of the last image. ``slowest`` has the names and
    seconds of the slowest images. A temporary database holds the images, so that the memory does not depend on their
    number."""

    def __init__(self, folder: Path) -> None:
        """Read the journal. Raises InputError if there is none, OutputError if it cannot be read."""
        self._folder = folder
        self._images = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._images.close)
        self._images.executescript(
            """PRAGMA journal_mode = OFF;
            CREATE TABLE images (name BLOB PRIMARY KEY, path BLOB, source BLOB, error TEXT, at REAL, seconds REAL);
            CREATE INDEX paths ON images (path);
            CREATE INDEX sources ON images (source);
            BEGIN"""
        )
        self._runs: dict[str, RunStatus] = {}
        if isinstance(folder, ObjectPath):  # listing all results takes fewer requests than a look at each
            self._images.execute("CREATE TABLE present (name BLOB PRIMARY KEY)")
            names = ((_key(name),) for name, _ in folder.objects(recursive=True))
            self._images.executemany("INSERT OR IGNORE INTO present VALUES (?)", names)
        for path in segments(folder):
            self._read(path)
        self.runs = tuple(self._runs.values())
        if not self.runs:
            raise InputError(f"{folder} has no journal.", "Give a folder with results of upscale.")
        self.last = max(run.last for run in self.runs)
        self.reasons = Counter(error for (error,) in self._select("error FROM images WHERE error NOT NULL"))
        self.failed = self.reasons.total()
        self.done = self._count("error IS NULL")
        slowest = self._select(f"name, seconds FROM images WHERE error IS NULL ORDER BY seconds DESC LIMIT {SLOWEST}")
        self.slowest = tuple((_text(name), seconds) for name, seconds in slowest if seconds)

    @property
    def per_second(self) -> float:
        """The results per second in the last ten minutes of work, 0 if it is unknown."""
        ((first, last),) = self._select("min(at), max(at) FROM images WHERE error IS NULL")
        if first == last:  # also without a result
            return 0.0
        seconds = min(RATE_SECONDS, float(last - first))
        return self._count(f"error IS NULL AND at > {last - seconds}") / seconds

    def failures(self) -> Iterator[tuple[Path, Path]]:
        """Yield the source of each failed image, and its path in the searched folder."""
        for source, path in self._select("source, path FROM images WHERE error NOT NULL ORDER BY path"):
            yield to_path(_text(source)), Path(_text(path))

    def count_remaining(self, tasks: Iterable[Task]) -> int:
        """Count the listed images that are neither done nor failed."""
        return sum(not self._count("path = ? OR source = ?", _key(task.path), _key(task.source)) for task in tasks)

    def _select(self, query: str, *values: bytes) -> sqlite3.Cursor:
        return self._images.execute(f"SELECT {query}", values)

    def _count(self, condition: str, *values: bytes) -> int:
        ((count,),) = self._select(f"count(*) FROM images WHERE {condition}", *values)
        return int(count)

    def _is_present(self, name: str) -> bool:
        if not isinstance(self._folder, ObjectPath):
            return exists(self._folder / name)
        return next(self._select("1 FROM present WHERE name = ?", _key(name)), None) is not None

    def _read(self, segment: Path) -> None:
        """Add the lines of a segment. In a store, several segments may belong to one run."""
        run = RunStatus(RunInfo("", "", 0, "", 0.0))
        for line, _ in read_lines(segment):
            match parse_line(line):
                case RunInfo(id) if id in self._runs:
                    run = self._runs[id]
                case RunInfo() as info:
                    live = is_live(self._folder / HIDDEN / RUNNING / info.id, time.time())
                    run = replace(run, info=info, live=live, last=info.began)
                case Failure() as failure:
                    self._add_failure(failure)
                    run = replace(run, failed=run.failed + 1, last=max(run.last, failure.at))
                case Entry() as entry if self._is_present(entry.name):
                    at = float(entry.info.get("at", 0))
                    self._add_result(entry, at)
                    run = replace(run, done=run.done + 1, last=max(run.last, at))
        self._runs[run.info.id or str(segment)] = run

    def _add_result(self, entry: Entry, at: float) -> None:
        source = str(entry.info.get("source", ""))
        path = str(entry.info.get("path", source))
        self._images.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, NULL, ?, ?)",
            (_key(entry.name), _key(path), _key(source), at, entry.info.get("seconds")),
        )

    def _add_failure(self, failure: Failure) -> None:
        reason = failure.error
        for name, text in ((failure.source, "the image"), (str(self._folder / failure.name), "the result")):
            reason = reason.replace(name, text)
        self._images.execute(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE "
            "SET error = excluded.error, at = excluded.at WHERE error NOT NULL",
            (_key(failure.name), _key(failure.path), _key(failure.source), reason, failure.at),
        )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _key(name: str | Path) -> bytes:
    return str(name).encode("utf-8", "surrogatepass")
