"""What can be wrong with where, and how precisely, to compute."""

from pcsr_cli.errors import DeviceError
from pcsr_cli.failures import Failure

NO_DEVICE = Failure(DeviceError, "{name!r} is no device.", "Choose auto, cpu, cuda, cuda:1, ... or mps.")
NOT_AVAILABLE = Failure(DeviceError, "The device {name} is not available here.", "Use --device cpu, or auto.")
NO_PRECISION = Failure(DeviceError, "{precision!r} is no precision.", "Choose one of {known}.")
NO_BF16 = Failure(DeviceError, "bf16 is not supported on mps.", "Use fp16 or fp32.")
WEIGHTS_TOO_LARGE = Failure(DeviceError, "The weights of {name} do not fit {precision}.", "Use --precision fp32.")
