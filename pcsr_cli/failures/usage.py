"""Requests that make no sense as they stand: options that exclude each other, values that are none."""

from pcsr_cli.errors import UsageError
from pcsr_cli.failures import Failure

EMPTY = Failure(UsageError, "{what} is empty.", "Say what is meant; the current folder is a dot.")
EXCLUDE = Failure(UsageError, "{options} exclude each other.", "Give one of them.")
REFINE = Failure(
    UsageError, "--refine {refine} is out of range.", "Choose 0 (smooth all light pixels) to {never} (none)."
)
TILE = Failure(
    UsageError, "--tile {tile} is no size.", "Give auto or a number of LR pixels from {smallest}, such as 256."
)
MEMORY = Failure(UsageError, "--memory {memory} is no amount.", "Give auto, or a number with M or G, such as 512M.")
