"""The journal of an output folder: one line of JSON per result, so that an interrupted run can resume.

A line is on the disk before its result is moved into place, and the line counts only while the result has the checksum
in the line. A killed run therefore never leaves a line for an incomplete result or a complete result without a line.
"""

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcsr_cli.engine.routing import Adaptive, Allowance, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, fingerprint, reason

NAME = ".pcsr-journal.jsonl"
VERSION = 2


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    ``name`` is the path of the result relative to the output folder, with slashes. ``source`` and ``result`` are the
    fingerprints of the two files. ``settings`` are the options and weights that decide the result, as a JSON document.
    ``info`` is for people: the name of the source, the version of pcsr."""

    name: str
    source: Fingerprint
    settings: Mapping[str, Any]
    result: Fingerprint
    info: Mapping[str, Any]


class Journal:
    """The journal of one output folder. The last line about a result counts; damaged lines are ignored."""

    def __init__(self, folder: Path) -> None:
        """Read the journal if there is one. Raises OutputError for a journal that cannot be read."""
        self.path = folder / NAME
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(
                f"Cannot read the journal {self.path}: {reason(error)}.",
                "Remove the journal, or choose another folder.",
            ) from error
        for line in content.split(b"\n"):
            entry = _parse(line)
            if entry is not None:
                self._entries[entry.name] = entry

    def find(self, output: Path) -> Entry | None:
        """Return the entry of a result, whose path is relative to the folder."""
        return self._entries.get(output.as_posix())

    def append(self, entry: Entry) -> None:
        """Add a line and sync it to the disk. Several threads may call this method.

        Raises OutputError; the journal is then unchanged."""
        line = json.dumps({"version": VERSION, **asdict(entry)}, sort_keys=True).encode() + b"\n"
        with self._lock:
            try:
                self._append(line)
            except OSError as error:
                raise OutputError(
                    f"Cannot write the journal {self.path}: {reason(error)}.", "Free some disk space."
                ) from error
            self._entries[entry.name] = entry

    def _append(self, line: bytes) -> None:
        with self.path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # the rest of a line from a run that was killed
                    line = b"\n" + line
            try:
                written = file.write(line)
                while written < len(line):  # a disk that is nearly full accepts only a part
                    written += file.write(line[written:])
                os.fsync(file.fileno())
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
