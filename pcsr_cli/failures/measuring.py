"""What can be wrong with measuring: methods, grids, models that do not fit, pairs, sizes, figures."""

from pcsr_cli.errors import InputError, OutputError, PlotError, UsageError
from pcsr_cli.failures import Failure

# What is to be compared.
NO_METHOD = Failure(UsageError, "--methods names no method.", "Choose among {known}.")
NO_SUCH_METHOD = Failure(
    UsageError, "There is no method {text!r}.", "Known: {known}; threshold, k and patch take =VALUE."
)
BAD_METHOD = Failure(UsageError, "{text!r} is no method.", "Such as threshold=0.3, k=1 or patch=64 (LR pixels).")
BUDGET_IN_SECONDS = Failure(
    UsageError, "Over a folder a budget is in GFLOPs: seconds depend on more than the cut.", "Such as 60%."
)
NO_GRID = Failure(UsageError, "--{option} {text!r} is no grid of numbers.", "Give START:STOP:STEP or a comma list.")
GRID_LENGTH = Failure(UsageError, "--{option} {text!r} has {count} points.", "Give 1 to {most}.")
GRID_RANGE = Failure(UsageError, "--{option} {value} is out of range.", "Choose from {low} to {high}.")

# What the model is not made for.
NOT_TRAINED = Failure(
    UsageError,
    "The model {name} was trained for {scales}, not x{scale}.",
    "Measure it at what it was trained for, with --scale.",
)
MORE_BRANCHES = Failure(
    UsageError, "Cuts are compared between two branches, but this model has {branches}.", "Choose another model."
)
METHODS_OF_TWO = Failure(
    UsageError, "The model has {branches} branches, not two: no {methods}.", "Compare k, adm, heavy and light instead."
)
NO_ORIGINAL_WEIGHTS = Failure(
    UsageError, "The original network comes without weights.", "Give them with --original PATH."
)
ORIGINAL_SCALE = Failure(UsageError, "The original network enlarges x{scale}.", "Leave --original out.")

# Pairs of HR and LR.
NO_USE_OF_LR = Failure(
    UsageError, "Without a reference every picture is LR, and --lr has no use.", "Leave one of them out."
)
FRACTIONAL_SCALE = Failure(
    UsageError, "LR pictures are x{scale} smaller only for whole scales.", "Or measure --no-reference."
)
NO_PATH = Failure(InputError, "There is no file or folder {path}.", "Check the path.")
NO_PICTURE = Failure(InputError, "There is no picture in {folder}.", "Give a folder with {known} files.")
NO_LR_FOLDER = Failure(
    InputError, "{lr} is no folder of LR pictures.", "Give --lr a folder, or one picture for one picture."
)
NO_COMMON_NAME = Failure(
    InputError, "No picture of {lr} has the name of one in {folder}.", "LR and HR go together by name."
)
UNEQUAL_PAIR = Failure(InputError, "{lr} and {hr} do not go together at x{scale}: {sizes}.", "Check --scale.")
SMALLER_THAN_PATCH = Failure(
    InputError, "{name} is smaller than a patch of {side} LR pixels.", "Leave --protocol paper out."
)
SMALLER_THAN_PIXEL = Failure(
    InputError, "A picture of {size} is smaller than one x{scale} LR pixel.", "Measure larger pictures."
)
UNEQUAL_SIZES = Failure(
    InputError, "Pictures of {result} and {truth} (rows, columns) cannot be compared.", "Give pictures of one size."
)
NOTHING_LEFT = Failure(
    InputError, "Nothing is left of a picture of {size} inside a border of {border} pixels.", "Measure larger pictures."
)
NOTHING_MEASURED = Failure(InputError, "No picture could be measured.", "{reason}")

# A figure.
NO_MATPLOTLIB = Failure(PlotError, "Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.")
PLOT_FORMAT = Failure(OutputError, "A plot is not written as {name!r}.", "Use one of {known}.")
