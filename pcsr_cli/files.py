"""Files written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcsr_cli.errors import OutputError


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A temporary file beside ``output``: move it over with ``put_in_place``; what is left is removed in any case.

    Raises OutputError where the folder is missing, read-only or full."""
    try:
        handle, name = tempfile.mkstemp(prefix=".pcsr-", suffix=".part", dir=output.parent)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {_reason(error)}.", "Choose a folder that exists and can be written."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        _give_usual_mode(temporary)
        yield temporary
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {_reason(error)}.", "Free space, or choose another.") from error
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, output: Path) -> None:
    """Move a finished file to its name, replacing what is there, in one step."""
    os.replace(temporary, output)  # noqa: PTH105 - atomic on every system, which rename() is not


def _give_usual_mode(path: Path) -> None:
    """Temporary files are private; the result should be as readable as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
