"""What can be wrong with where, and as what, a result is to be written."""

from pcsr_cli.errors import OutputError, RefusedOutputError, UsageError
from pcsr_cli.failures import Failure

UNKNOWN_SUFFIX = Failure(
    RefusedOutputError, "The output format of {output} is unknown.", "Use one of {known}, or say --format."
)
UNKNOWN_FORMAT_NAME = Failure(UsageError, "There is no output format {name}.", "Use one of {known}.")
NO_PLUG_IN = Failure(UsageError, "{format} needs a plug-in that is not installed.", "Run: pip install {package}.")

QUALITY_OUT_OF_RANGE = Failure(UsageError, "A quality of {quality} is out of range.", "Give a number from 1 to 100.")
COMPRESSION_OUT_OF_RANGE = Failure(
    UsageError, "A compression of {compression} is out of range.", "Give a number from 0 (fast) to 9 (small)."
)
NO_QUALITY = Failure(UsageError, "{format} has no quality to choose.", "Leave --quality out, or write {others}.")
NO_LOSSLESS = Failure(UsageError, "{format} cannot be lossless.", "Leave --lossless out, or write {others}.")
LOSSLESS_HAS_NO_QUALITY = Failure(UsageError, "A lossless file has no quality to choose.", "Leave one of them out.")
NO_COMPRESSION = Failure(
    UsageError, "{format} has no compression to choose.", "Leave --compression out, or write {others}."
)

SIDE_TOO_LONG = Failure(
    RefusedOutputError, "{format} holds at most {longest} pixels a side, not {size}.", "Write a {able}."
)
TOO_MANY_PIXELS = Failure(RefusedOutputError, "{format} cannot hold as much as {size} pixels.", "Write a {able}.")
NO_ALPHA = Failure(RefusedOutputError, "{format} cannot hold the picture's transparency.", "Write one of {able}.")

NOT_ANIMATED = Failure(RefusedOutputError, "{format} holds one frame only.", "Write {able}, or leave --frames out.")

IS_A_FOLDER = Failure(RefusedOutputError, "The output {output} is a folder.", "Give the name of a file in it.")
NOT_A_FILE = Failure(RefusedOutputError, "The output {output} is no ordinary file.", "Give the name of a file, or -.")
IS_AN_INPUT = Failure(RefusedOutputError, "The output {output} is an input, too.", "Give the result another name.")
TWICE = Failure(
    RefusedOutputError, "{output} would be the name of two results.", "Give each a name, or a folder, of its own."
)
EXISTS = Failure(RefusedOutputError, "{output} exists already.", "Choose another name, or say --overwrite.")
BAD_NAME = Failure(OutputError, "{output} cannot be written: {reason}.", "Choose another name.")
NO_FOLDER = Failure(OutputError, "The folder {folder} cannot be made: {reason}.", "Choose another.")
NO_PLACE = Failure(
    OutputError, "{output} cannot be written: {reason}.", "Choose a folder that exists and can be written."
)
NO_SPACE = Failure(OutputError, "{output} cannot be written: {reason}.", "Free space, or choose another.")
NOT_ENCODED = Failure(OutputError, "{output} cannot be written as {format}: {reason}.", "Write a .png.")

STDOUT_CLOSED = Failure(UsageError, "stdout is closed, and what was asked for goes there.", "Redirect it to a file.")
STDOUT_FAILED = Failure(OutputError, "stdout cannot be written: {reason}.", "Free space, or redirect it elsewhere.")
