"""What cannot be enlarged: scales no model has, things that are no picture, too little memory."""

from pcsr_cli.errors import InputError, ScaleError, UsageError
from pcsr_cli.failures import Failure

DOES_NOT_ENLARGE = Failure(ScaleError, "A scale of {scale} does not enlarge.", "Give a number of at least 1.")
NOT_TRAINED = Failure(
    ScaleError,
    "The model {model} was trained for {scales} and cannot enlarge x{scale}.",
    "Ask for at most x{largest}, or choose another model.",
)
OUT_OF_RANGE = Failure(
    UsageError, "refine={refine}, tile={tile} is out of range.", "refine is 0 to 9, tile None or at least 1."
)
NO_PICTURE = Failure(InputError, "A {kind} is no picture.", "Give a tensor, an array or a PIL picture.")
NO_RGB_ARRAY = Failure(InputError, "An array of {dtype} {shape} is no RGB picture.", "Give uint8 or uint16 (h, w, 3).")
NO_RGB_TENSOR = Failure(
    InputError, "A tensor of {dtype} {shape} is no RGB picture.", "Give float (1, 3, h, w) in [0, 1]."
)
NOT_NUMBERS = Failure(
    InputError, "The tensor's values are not in [0, 1].", "Divide 8-bit levels by 255, 16-bit ones by 65535."
)
