"""What can be wrong with a picture that is to be read."""

from pcsr_cli.errors import InputError
from pcsr_cli.failures import Failure

NO_FILE = Failure(InputError, "There is no file {path}.", "Check the path.")
IS_A_FOLDER = Failure(InputError, "{path} is a folder, not a picture.", "Give one picture file.")
NOT_A_FILE = Failure(InputError, "{path} is no ordinary file.", "Give a picture file, or - for standard input.")
NOT_ALLOWED = Failure(InputError, "{path} may not be read.", "Check its permissions.")
NOT_READ = Failure(InputError, "{path} cannot be read: {reason}.", "Check the path.")
NOT_A_PICTURE = Failure(InputError, "{path} is not a picture of a known format.", "Known: {known}.")
NO_PLUG_IN = Failure(
    InputError, "{path} is {format}, which needs a plug-in that is not installed.", "Run: pip install {package}."
)
EMPTY = Failure(InputError, "{path} is empty.", "Copy or export it again.")
DAMAGED = Failure(InputError, "{path} is truncated or damaged: {reason}.", "Copy or export it again.")
TOO_LARGE = Failure(
    InputError,
    "{path} claims {width} x {height} pixels, more than the {limit} that are safe to open unasked.",
    "If you trust it, upscale and plan open it with --allow-huge.",
)
NO_PIXELS = Failure(InputError, "The picture has no pixels.", "Give another.")
IS_FLOAT = Failure(
    InputError,
    "Pictures of floating-point numbers have no fixed white, and are not read.",
    "Convert it to 16 bits a channel.",
)
TOO_WIDE = Failure(InputError, "Pictures of 32 bits a channel are not read.", "Convert it to 16 bits a channel.")
UNKNOWN_MODE = Failure(InputError, "Pictures of mode {mode} are not supported.", "Convert it to RGB.")
NO_ANIMATION = Failure(InputError, "{path} has one frame only.", "Leave --frames out.")
