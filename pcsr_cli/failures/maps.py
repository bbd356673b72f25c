"""Failures of maps, and of masks that a person made."""

from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.failures import Failure

MASK_SIZE = Failure(
    InputError,
    "The mask {mask} is {size}, not {lr} like the picture or {hr} like its result.",
    "Give it one of these sizes.",
)
MASKS_CLASH = Failure(
    InputError, "The masks force {count:,} pixels of the result to be both heavy and light.", "Clear one of the two."
)
UNKNOWN_FORMAT = Failure(
    RefusedOutputError, "A map is not written as {name!r}.", "Use .png, or .npy for p_heavy as numbers."
)
ONLY_DATA = Failure(
    UsageError, "A .npy file holds p_heavy as numbers, not the style {style}.", "Write a .png, or leave it out."
)
STYLE_ALONE = Failure(UsageError, "--map-style has no use without a map.", "Say where it goes with --map FILE.")
ONLY_FOR_ONE = Failure(UsageError, "{option} is for a single picture.", "Leave it out, or enlarge one picture.")
