"""What can go wrong with anything: too little memory, and mistakes of pcsr's own."""

from pcsr_cli.errors import OutOfMemoryError, PcsrError
from pcsr_cli.failures import Failure

NO_MEMORY = Failure(
    OutOfMemoryError,
    "There is not enough memory for this.",
    "Use a smaller --tile, close other programs, or cut the picture.",
)
OWN_MISTAKE = Failure(
    PcsrError,
    "pcsr stumbled over its own mistake ({kind}: {reason}).",
    "Run it again with PCSR_DEBUG=1 and report what it prints.",
)
