"""The journal of a folder of results: a line of JSON for every result, so that a run which was stopped goes on exactly.

A line is written and synced before its file is put in place and therefore counts only together with a file of the hash
it names: whenever the run is killed, the journal never vouches for a file that is not whole, nor forgets one that is.
"""

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, fingerprint, reason

NAME = ".pcsr-journal.jsonl"
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One line: the ``result`` of this name (relative, with slashes) was made of ``source`` in this ``way``.

    The way is all that decides the result's pixels and its form: options, weights."""

    name: str
    source: Fingerprint
    way: Mapping[str, Any]
    result: Fingerprint
    told: Mapping[str, Any]
    """For people: the source's name, versions."""


class Journal:
    """A folder's journal; of several lines about one result the last counts, lines that are damaged do not."""

    def __init__(self, folder: Path) -> None:
        """Read what there is. Raises OutputError where it cannot be read."""
        self.path = folder / NAME
        self._entries: dict[str, Entry] = {}
        self._one_at_a_time = threading.Lock()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(
                f"The journal {self.path} cannot be read: {reason(error)}.", "Remove it, or give another folder."
            ) from error
        for line in content.split(b"\n"):
            entry = _parse(line)
            if entry is not None:
                self._entries[entry.name] = entry

    def find(self, output: Path) -> Entry | None:
        """What is said of a result, ``output`` being relative to the folder."""
        return self._entries.get(output.as_posix())

    def append(self, entry: Entry) -> None:
        """Add a line, which is on the disk when this returns; from any thread.

        Raises OutputError, and then nothing was added."""
        line = json.dumps({"version": VERSION, **asdict(entry)}, sort_keys=True).encode() + b"\n"
        with self._one_at_a_time:
            try:
                self._append(line)
            except OSError as error:
                raise OutputError(
                    f"The journal {self.path} cannot be written: {reason(error)}.", "Free space there."
                ) from error
            self._entries[entry.name] = entry

    def _append(self, line: bytes) -> None:
        with self.path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a line that was being written when a run was killed
                    line = b"\n" + line
            try:
                written = file.write(line)
                while written < len(line):  # the disk may take part of it before it is full
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise


def is_content_of(known: Fingerprint, path: Path) -> bool:
    """Whether a file has this content, byte by byte; one that cannot be read has not."""
    try:
        return path.stat().st_size == known.size and fingerprint(path) == known
    except OSError:
        return False


def same_way(entry: Entry, way: Mapping[str, Any]) -> bool:
    """Whether a result was made with these options and weights."""
    return json.dumps(entry.way, sort_keys=True) == json.dumps(way, sort_keys=True)


def _parse(line: bytes) -> Entry | None:
    try:
        told = json.loads(line)
        if told.pop("version") != VERSION:
            return None
        source, result = Fingerprint(**told.pop("source")), Fingerprint(**told.pop("result"))
        entry = Entry(source=source, result=result, **told)
        return entry if isinstance(entry.name, str) and isinstance(entry.way, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
