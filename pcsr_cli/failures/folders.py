"""What can go wrong with many pictures and the folder their results go to."""

from pcsr_cli.errors import InputError, OutputError, RefusedOutputError, UsageError
from pcsr_cli.failures import Failure

# What to enlarge.
NOTHING_FOUND = Failure(InputError, "There is no picture in {places}.", "Pictures are {suffixes}.")
NO_MATCH = Failure(InputError, "No file matches {pattern}.", "Check the pattern.")
NO_FOLDER = Failure(InputError, "The folder {folder} cannot be read: {reason}.", "Check its permissions.")

# Where to.
NO_OUTPUT = Failure(UsageError, "There is no output.", "Give OUT, or --out-dir DIR. See `pcsr upscale --help`.")
SEVERAL_NEED_A_FOLDER = Failure(
    UsageError, "Several pictures need a folder for their results.", "Say --out-dir DIR. See `pcsr upscale --help`."
)
ONLY_FOR_MANY = Failure(
    UsageError, "{option} is for folders and many pictures.", "Leave it out, or say where to with --out-dir."
)
ONE_BECOMES_A_FILE = Failure(
    UsageError, "{output} is the name of a folder, and one picture becomes a file.", "Say --out-dir {output}."
)
A_FILE_IN_THE_WAY = Failure(
    RefusedOutputError, "{folder} is no folder, and the results of many pictures need one.", "Give another name."
)
INTO_ITSELF = Failure(
    RefusedOutputError,
    "{folder} is read from and cannot take the results: they would be pictures to enlarge, too.",
    "Give another folder; one within it will do.",
)
NOT_WRITABLE = Failure(
    OutputError, "Nothing can be written to the folder {folder}: {reason}.", "Check its permissions, or give another."
)
IN_USE = Failure(
    OutputError, "Another pcsr is writing into {folder}.", "Wait until it has finished, or give another folder."
)

# Under which names.
BAD_TEMPLATE = Failure(
    UsageError, "--name {template} is no template: {reason}.", "Such as {example}; there are {fields}."
)
SAME_NAME = Failure(
    RefusedOutputError,
    "{first} and {second} would both become {output}{more}.",
    "Give --name with {{name}} in it, or enlarge them into folders of their own.",
)
WOULD_REPLACE_A_SOURCE = Failure(
    RefusedOutputError, "The result {output} would replace a picture to enlarge.", "Give another --name or folder."
)
RESULT_IS_A_FOLDER = Failure(RefusedOutputError, "The result {output} is a folder.", "Give another --name.")
RESULTS_EXIST = Failure(
    RefusedOutputError,
    "{output}{more} in the way: changed since, or not made by this very command.",
    "Say --skip-existing or --overwrite, or give another folder.",
)

# On the way.
CHANGED_MEANWHILE = Failure(InputError, "{path} was changed while it was read.", "Run the command again.")
JOURNAL_UNREADABLE = Failure(
    OutputError, "The journal {path} cannot be read: {reason}.", "Remove it, or give another folder."
)
JOURNAL_UNWRITABLE = Failure(OutputError, "The journal {path} cannot be written: {reason}.", "Free space there.")
DISK_FULL = Failure(OutputError, "The disk is full: stopped at {output}.", "Free space and run the command again.")

# Streams.
STREAM_NEEDS_A_FORMAT = Failure(UsageError, "A result on stdout has no suffix.", "Say which format: --format png.")
JSON_AND_STDOUT = Failure(UsageError, "--json and the picture cannot both go to stdout.", "Give the result a file.")
STREAM_AMONG_MANY = Failure(UsageError, "- stands for one picture and cannot be one of many.", "Save it as a file.")
PICTURE_ON_TERMINAL = Failure(UsageError, "stdout is a terminal, which no picture is for.", "Redirect it to a file.")
NOTHING_ON_STDIN = Failure(InputError, "There is nothing on stdin.", "Pipe a picture in.")
