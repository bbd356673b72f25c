"""stdout and stderr as pcsr finds them: closed, full, or in an encoding that cannot take every name."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, NoReturn

from pcsr_cli.errors import OutputError, UsageError
from pcsr_cli.images.files import reason


class Stdout(io.TextIOWrapper):
    """stdout that can tell every name, in another way where its encoding cannot, and says what keeps it from taking
    more. Raises OutputError, and BrokenPipeError where whoever read it has seen enough."""

    def write(self, text: str) -> int:
        """Write text."""
        if text == "":  # some only try whether they could
            return 0
        with self._told():
            return super().write(text)

    def flush(self) -> None:
        """Hand over what waits."""
        with self._told():
            super().flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # else Python would try again at its end
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(
                f"stdout cannot be written: {reason(error)}.", "Free space, or redirect it elsewhere."
            ) from error


class ClosedStdout(io.TextIOBase):
    """Stands where stdout was closed, and tells whoever wants to write there. Raises UsageError."""

    encoding = "utf-8"

    def write(self, text: str) -> NoReturn:
        """Refuse, whatever it is."""
        raise UsageError("stdout is closed, and what was asked for goes there.", "Redirect it to a file.")

    @property
    def buffer(self) -> BinaryIO:
        """Refused, too."""
        raise UsageError("stdout is closed, and what was asked for goes there.", "Redirect it to a file.")


def set_up_streams() -> None:
    """Put streams of pcsr's own in the place of stdout, and of a stderr that is closed."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass  # else the next file opened, such as a result, would get the number of a closed stream
        os.close(number)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _own(sys.stdout)
    else:
        sys.stdout = sys.stdout or ClosedStdout()


def expect_stdout() -> None:
    """Raise UsageError, before any work, where what is asked for on stdout would go nowhere."""
    sys.stdout.write("")


def give_up_stdout() -> None:
    """Hand over what still waits for stdout if that is possible; that it is not was told before."""
    with suppress(BrokenPipeError, OutputError):
        sys.stdout.flush()


def _own(stdout: io.TextIOWrapper) -> Stdout:
    encoding, line_buffering, write_through = stdout.encoding, stdout.line_buffering, stdout.write_through
    return Stdout(
        stdout.detach(),
        encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )
