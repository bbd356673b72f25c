"""What can be wrong with training: the recipe, its pictures, the run's files and its progress."""

from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError, TrainingError, UsageError
from pcsr_cli.failures import Failure

CORRECT = "Correct the recipe."
NAME_FOLDERS = "data.sources names folders of pictures."
START_ANEW = "Start anew, without --resume."

# The recipe; ``origin`` names the file and the table in it.
NO_RECIPE = Failure(TrainingError, "There is no recipe {path}.", "Check the path.")
NOT_TOML = Failure(TrainingError, "{path} is not a readable TOML file: {reason}.", CORRECT)
NOT_A_TABLE = Failure(TrainingError, "{origin} is not a table.", CORRECT)
KEY_UNKNOWN = Failure(TrainingError, "{origin}: unknown key {key}.", "Known ones: {known}.")
KEY_MISSING = Failure(TrainingError, "{origin}: {key} is missing.", CORRECT)
ANOTHER_TYPE = Failure(TrainingError, "{origin} is not of type {kind}: {value!r}.", CORRECT)
NO_NUMBER = Failure(TrainingError, "{origin} is no number to train with: {value}.", CORRECT)
NO_CHOICE = Failure(TrainingError, "{origin} is one of {known}, not {value!r}.", CORRECT)
NOT_A_LIST = Failure(TrainingError, "{origin} is not a list.", CORRECT)
ANOTHER_LENGTH = Failure(TrainingError, "{origin} is not a list of {count}.", CORRECT)

# What a table must say, told within it.
SOURCES = Failure(TrainingError, "data.sources names at least one folder.", CORRECT)
REDUCTIONS = Failure(TrainingError, "data.sources.reductions are numbers of at least 1.", CORRECT)
KEEP = Failure(TrainingError, "data.keep is a share above 0, at most 1.", CORRECT)
SAMPLERS = Failure(TrainingError, "model.samplers lists the hidden sizes of at least two branches.", CORRECT)
NO_SCALES = Failure(TrainingError, "scales lists at least one range.", CORRECT)
SCALES = Failure(TrainingError, "scales go from 1 upward, low to high.", CORRECT)
SCALE_SHARE = Failure(TrainingError, "a share is above 0.", CORRECT)
STAGE = Failure(
    TrainingError, "a stage's iterations, batch, crop, pixels, learning_rate and clip are above 0.", CORRECT
)
STAGE_FROM_0 = Failure(TrainingError, "a stage's final_learning_rate, warmup and balance are at least 0.", CORRECT)
EMA = Failure(TrainingError, "a stage's ema is at least 0 and below 1.", CORRECT)
TAILS = Failure(TrainingError, "a stage's float32_tail and square_tail are shares, 0 to 1.", CORRECT)
HEAVY_SHARE = Failure(TrainingError, "a stage's heavy_share is a share between 0 and 1.", CORRECT)
SEED = Failure(TrainingError, "seed is at least 0.", CORRECT)
EVERY = Failure(TrainingError, "report_every, checkpoint_every and validation.every are at least 1.", CORRECT)
VALIDATION_SCALES = Failure(TrainingError, "validation.scales lists at least one scale, none below 1.", CORRECT)
UNEVEN_BATCH = Failure(
    TrainingError, "stage{stage}.batch of {batch} cannot be shared evenly by {processes} processes.", CORRECT
)

# The pictures.
NO_FOLDER = Failure(TrainingError, "There is no folder {folder}.", NAME_FOLDERS)
NO_PICTURE = Failure(TrainingError, "There is no picture in {folder}.", NAME_FOLDERS)
SMALL_PATCHES = Failure(
    TrainingError, "Patches of {side} pixels are too small.", "Set data.patch to at least {smallest}."
)
SMALL_PICTURES = Failure(TrainingError, "No picture holds a patch of {side} pixels.", "Set data.patch smaller.")
NOTHING_TO_VALIDATE = Failure(
    TrainingError, "There is no picture to validate on in {folder}.", "validation.path names a folder of them."
)

# A state to go on from.
NO_STATE = Failure(TrainingError, "There is no state {path} to go on from.", START_ANEW)
BROKEN_STATE = Failure(TrainingError, "{path} is no readable state of a run.", START_ANEW)
ANOTHER_STATE = Failure(TrainingError, "{path} is no state of a run, or of another version's.", START_ANEW)
ANOTHER_ARCHITECTURE = Failure(
    TrainingError,
    "{path} belongs to another architecture than the recipe's [model].",
    "Restore [model], or start anew.",
)
ANOTHER_OPTIMIZER = Failure(TrainingError, "The state's optimizer belongs to another network.", START_ANEW)

# The run.
DIVERGED = Failure(
    TrainingError,
    "The loss or the weights are no numbers any more at iteration {step}.",
    "Lower the stage's learning_rate; --resume goes on from the last good state, if one was saved.",
)
NOT_WRITTEN = Failure(
    OutputError, "{what} cannot be written to {place}: {reason}.", "Free space, or choose another folder."
)
NOTHING_TO_PLOT = Failure(PlotError, "{log} tells of no iteration yet.", "Train on until it does.")

# The command.
NOTHING_TO_REWIND = Failure(UsageError, "--rewind needs a state to go on from.", "Give --resume or --from.")
REWIND = Failure(UsageError, "--rewind {rewind} is out of range.", "Choose from 0 (the start) to below 1.")
MINUTES = Failure(UsageError, "--minutes {minutes} is no time.", "Give a number above 0.")
RUN_EXISTS = Failure(
    RefusedOutputError, "{folder} holds a run already.", "Go on with --resume, or choose another --out."
)
