"""From an exception to what the user sees: one sentence, a next step, and an exit code.

0 is success, 1 a failure, 2 wrong usage, 130 an interruption. PCSR_DEBUG=1 shows tracebacks.
"""

import os
import sys

from pcsr_cli.errors import OutOfMemoryError, PcsrError

INTERRUPTED = 130
NO_MEMORY = OutOfMemoryError(
    "There is not enough memory for this.", "Use a smaller --tile, close other programs, or cut the picture."
)


def explain(error: Exception) -> PcsrError:
    """The error as a user should read it."""
    if isinstance(error, PcsrError):
        return error
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return NO_MEMORY
    return PcsrError(
        f"pcsr stumbled over its own mistake ({type(error).__name__}: {error}).",
        "Run it again with PCSR_DEBUG=1 and report what it prints.",
    )


def fail(error: Exception) -> int:
    """Tell the user on stderr; returns the exit code. With PCSR_DEBUG=1 the error goes on as it came."""
    if os.environ.get("PCSR_DEBUG") == "1":
        raise error
    told = explain(error)
    sys.stderr.write(f"pcsr: {told}\n")
    return told.exit_code


def _is_torch_out_of_memory(error: Exception) -> bool:
    """Without importing torch, which may not be loaded: on a device a type, on the CPU only a message."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)
