"""What can go wrong with anything: too little memory, and mistakes of pcsr's own."""

from pcsr_cli.errors import OutOfMemoryError, PcsrError
from pcsr_cli.failures import Failure

NO_MEMORY = Failure(
    OutOfMemoryError,
    "There is not enough memory for this.",
    "Close other programs, or take less at once: a smaller picture or --tile, in training a smaller batch.",
)
OWN_MISTAKE = Failure(
    PcsrError,
    "pcsr stumbled over its own mistake ({kind}: {reason}).",
    "Run it again with PCSR_DEBUG=1 and report what it prints.",
)
