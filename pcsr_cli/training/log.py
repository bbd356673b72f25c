"""The run's diary: one JSON object a line, appended as things happen, read back for the plot."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError
from pcsr_cli.training.events import Event


class Log:
    """An observer that writes every event to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Append an event. Raises OutputError."""
        entry = {"event": type(event).__name__.lower(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps({**entry, **asdict(event)}, default=str)
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise OutputError(
                f"The log cannot be written to {self._path}: {error.strerror}.", "Free space, or choose another folder."
            ) from error


def read_log(path: Path, event: str) -> Iterator[dict[str, Any]]:
    """The log's entries of one kind, oldest first; none without a log. A line cut short by a crash is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == event:
            yield entry
