"""From an exception to what the user sees: one sentence, a next step, and an exit code.

0 is success, 1 a failure, 2 wrong usage, 130 an interruption. PCSR_DEBUG=1 shows tracebacks.
"""

import os
import sys

from pcsr_cli.cli.console import printable
from pcsr_cli.errors import OutOfMemoryError, PcsrError, is_out_of_memory

USAGE = 2
INTERRUPTED = 130


def explain(error: Exception) -> PcsrError:
    """The error as a user should read it."""
    if isinstance(error, PcsrError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            "There is not enough memory for this.",
            "Close other programs, or take less at once: a smaller picture or --tile, in training a smaller batch.",
        )
    return PcsrError(
        f"pcsr stumbled over its own mistake ({type(error).__name__}: {error}).",
        "Run it again with PCSR_DEBUG=1 and report what it prints.",
    )


def fail(error: Exception) -> int:
    """Tell the user on stderr; returns the exit code. With PCSR_DEBUG=1 the error goes on as it came."""
    if os.environ.get("PCSR_DEBUG") == "1":
        raise error
    told = explain(error)
    tell(str(told))
    return told.exit_code


def misused(error: Exception) -> int:
    """Tell of a command line that could not be parsed (or, for a bare command, its help); returns the exit code."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if context is not None and message == context.get_help():
        sys.stderr.write(f"{message}\n")
    else:
        command = "pcsr" if context is None else context.command_path
        sentence = " ".join(message.split()).removesuffix(".")
        tell(f"{sentence}{'' if sentence.endswith('?') else '.'} See `{command} --help`.")
    return USAGE


def tell(sentence: str) -> None:
    """Say something on stderr, in one line."""
    sys.stderr.write(f"pcsr: {printable(sentence)}\n")
