"""The exceptions of pcsr.

``PcsrError`` and its subclasses report problems that a user can fix. Each error has one sentence that states the
problem and, if possible, a next step. Bugs in pcsr raise ``AssertionError`` and other built-in exceptions."""

import errno
import sys
from typing import Self


class PcsrError(Exception):
    """A problem that the user can fix.

    ``sentence`` states what failed and why, ``next_step`` (may be empty) what to do. ``setting`` (may be empty) is the
    name of the setting that solves the problem, such as ``"overwrite"``. The library's sentences do not quote options:
    the command line adds ``--overwrite`` itself. ``exit_code`` is the exit code of the command: 1 if the work failed,
    2 if the request is invalid."""

    exit_code = 1
    setting = ""

    def __init__(self, sentence: str, next_step: str = "", *, setting: str = "") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step
        self.setting = setting or type(self).setting

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}".rstrip()

    def within(self, origin: str) -> Self:
        """Return the same error with the name of the file or table that caused it."""
        return type(self)(f"{origin}: {self.sentence}", self.next_step, setting=self.setting)

    def about(self, file: str) -> Self:
        """Return the error with ``file`` before the sentence, unless the sentence already contains ``file``."""
        return self if file in self.sentence else self.within(file)


class UsageError(PcsrError):
    """The request is invalid: settings exclude each other or a value is out of range."""

    exit_code = 2


class ScaleError(UsageError):
    """The model does not support the scale."""

    setting = "scale"


class DeviceError(UsageError):
    """The device or the precision is not available."""

    setting = "device"


class InputError(PcsrError):
    """The input is missing, damaged or not supported."""


class OutputError(PcsrError):
    """The output cannot be written."""


class RefusedOutputError(UsageError):
    """The output exists, is also an input, or has an unknown format."""


class ModelError(PcsrError):
    """The files of a model are missing, damaged or of an unknown architecture."""


class UnknownModelError(UsageError):
    """No model has this name."""


class RegistryError(PcsrError):
    """A registry file (``weights.toml``) is invalid."""


class HubError(PcsrError):
    """The Hugging Face Hub is not reachable or refuses the request."""


class HubSettingError(HubError):
    """A setting of the Hub's client, such as HF_ENDPOINT or a proxy, is invalid."""

    exit_code = 2


class TrainingError(PcsrError):
    """A training run cannot start or continue."""


class PlotError(PcsrError):
    """A figure cannot be drawn."""


class StoreError(PcsrError):
    """The store of an object cannot be reached, or refuses the request."""


class ClusterError(PcsrError):
    """The cluster cannot be reached, or has no room for workers."""


class OutOfMemoryError(PcsrError):
    """The machine or the device does not have enough memory."""

    setting = "tile"


class CheckError(PcsrError):
    """``pcsr verify`` or ``pcsr doctor`` found a problem."""


_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "Storage size calculation",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "Invalid buffer size",  # MPS: larger than one buffer may be
    "can't start new thread",  # no memory for its stack, or a limit on threads
    "bad_alloc",
    "failed to map segment",  # no memory for a library
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the machine or the device is out of memory.

    torch raises its own type on CUDA, and a RuntimeError with a message on other devices. This function does not import
    torch: before another module imports torch, no error comes from torch."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError | OutOfMemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def in_full(number: float) -> str:
    """Format a number without rounding (4, 0.5, 4.0000001), because a rounded number could seem to be within a
    limit."""
    return repr(float(number)).removesuffix(".0")
