"""Everything a user can cause, as one tree of exceptions.

Each error is one sentence and, where there is one, a next step. What only a bug can cause is an
``assert``, never one of these.
"""

from typing import Self


class PcsrError(Exception):
    """A mistake or a mishap a user can act on.

    ``sentence`` says what is wrong, ``next_step`` (possibly empty) what to do about it.
    ``exit_code`` is what the command line returns: 1 for a failure, 2 for wrong usage.
    """

    exit_code = 1

    def __init__(self, sentence: str, next_step: str = "") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}".rstrip()

    def within(self, origin: str) -> Self:
        """The same error, told of the file or table it was found in."""
        return type(self)(f"{origin}: {self.sentence}", self.next_step)


class UsageError(PcsrError):
    """The request itself does not make sense: options that exclude each other, values out of range."""

    exit_code = 2


class ScaleError(UsageError):
    """The model cannot enlarge by the scale asked for."""


class DeviceError(UsageError):
    """The device or precision asked for is not there."""


class InputError(PcsrError):
    """The picture to read is missing, broken, or of a kind that cannot be handled."""


class OutputError(PcsrError):
    """The result cannot be written where it was asked for."""


class RefusedOutputError(UsageError):
    """Writing there would lose something: the output exists, is the input, or has no known format."""


class ModelError(PcsrError):
    """The model's files are wrong: missing, of another architecture, not finite."""


class UnknownModelError(UsageError):
    """No model goes by that name."""


class RegistryError(PcsrError):
    """A registry file (``weights.toml``) is not what it should be."""


class HubError(PcsrError):
    """The Hugging Face Hub cannot be reached, or refuses."""


class TrainingError(PcsrError):
    """A training run cannot start, or cannot go on."""


class PlotError(PcsrError):
    """A figure cannot be drawn."""


class OutOfMemoryError(PcsrError):
    """The machine or the device has too little memory for the work as asked."""


class CheckError(PcsrError):
    """A check of this installation, or of what is promised, found something wrong."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, by whoever's word.

    torch, which need not be loaded, has a type for CUDA devices and only messages for others; a thread that finds no
    room for its stack has another."""
    if isinstance(error, MemoryError | OutOfMemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and any(sign in told for sign in _SHORT_OF_MEMORY)


_SHORT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "Storage size calculation",
    "MPS backend out of memory",
    "Invalid buffer size",  # MPS, too: more than any one buffer may have
    "can't start new thread",
)


def in_full(number: float) -> str:
    """A number as it was given, such as 4, 0.5 or 4.0000001: one that was rounded could seem to be within a limit."""
    return repr(float(number)).removesuffix(".0")
