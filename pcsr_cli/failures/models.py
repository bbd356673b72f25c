"""What can be wrong with a model: its config, its weights, and how they go together."""

from pcsr_cli.errors import ModelError
from pcsr_cli.failures import Failure

CORRECT = "Correct it, or fetch the model again."
FETCH_AGAIN = "Fetch or copy it again."
OTHER_TRAINING = "Fetch or train it again."
CORRECT_REGISTRY = "Correct its entry in the registry."

# The config; ``origin`` names the file and the table in it.
NOT_A_TABLE = Failure(ModelError, "{origin} is not a table of settings.", CORRECT)
KEY_MISSING = Failure(ModelError, "{origin}: {key} is missing.", CORRECT)
KEYS_UNKNOWN = Failure(ModelError, "{origin} has unknown keys: {keys}.", CORRECT)
ANOTHER_TYPE = Failure(ModelError, "{origin}: {key} is not of type {kind}.", CORRECT)
ANOTHER_KIND = Failure(ModelError, "{origin}: there is no {name!r}, only {known}.", CORRECT)
UPSAMPLING = Failure(
    ModelError, "{origin}: no_upsampling has to be true: PCSR needs features at LR resolution.", CORRECT
)

# What a config, a registry or a recipe says, told within it.
NO_SUCH_BACKBONE = Failure(ModelError, "There is no backbone {name!r}.", "Known ones: {known}.")
NO_BACKBONE_SIZES = Failure(
    ModelError, "The sizes of backbone {name} are whole numbers from 1 to {largest:,} (in fours for carn).", CORRECT
)
NO_HIDDEN_SIZES = Failure(
    ModelError, "Hidden sizes are lists of at most {most} whole numbers from 1 to {largest:,}.", CORRECT
)
NOT_THREE_NUMBERS = Failure(ModelError, "{name} is not three numbers from {least:g} to {most:g}.", CORRECT)
NO_SCALES = Failure(
    ModelError, "A model's trained scales are numbers from 1 to {largest:,}, and at least one of them.", CORRECT
)
NOT_CONTINUOUS = Failure(ModelError, "continuous is either true or false.", CORRECT)

# The files.
NO_MODEL = Failure(ModelError, "{path} is no model.", "Give a folder with config.json, a .safetensors or a .pth.")
NO_FILE = Failure(ModelError, "There is no file {path}.", "Check the path.")
NO_CONFIG = Failure(ModelError, "{path} cannot be read: {reason}.", "It has to lie with the weights.")
NOT_JSON = Failure(ModelError, "{path} is not valid JSON: {reason}.", FETCH_AGAIN)
NO_WEIGHTS = Failure(ModelError, "{path} is missing.", "It has to lie with its config.json.")
NO_SAFETENSORS = Failure(ModelError, "{path} is no whole safetensors file: {reason}.", FETCH_AGAIN)
NO_CHECKPOINT = Failure(ModelError, "{path} is no readable PyTorch checkpoint.", FETCH_AGAIN)
MORE_THAN_TENSORS = Failure(
    ModelError,
    "{path} holds more than tensors, or is damaged, and was not opened.",
    "Only files that weights_only loading accepts are safe to read.",
)
ANOTHER_LAYOUT = Failure(
    ModelError,
    "{path} is not laid out as a published PCSR checkpoint (model: name, args, sd).",
    "Give a .pth as its authors publish it, or a folder with config.json and model.safetensors.",
)
NOT_NAMED_TENSORS = Failure(ModelError, "{path}: its state dict holds more than named tensors.", FETCH_AGAIN)

# The weights.
OTHER_KEYS = Failure(
    ModelError, "{origin} does not fit its config: keys {keys}.", "Check that the two belong together."
)
NOT_FINITE = Failure(ModelError, "{origin} holds numbers that are not finite: {keys}.", OTHER_TRAINING)
ANOTHER_TENSOR = Failure(ModelError, "{origin} is not an ordinary tensor of {dtype}.", OTHER_TRAINING)
ANOTHER_NETWORK = Failure(
    ModelError, "The files of {name} describe another network than the registry does.", CORRECT_REGISTRY
)
WRONG_WEIGHTS = Failure(
    ModelError,
    "The weights of {name} are not those its registry entry names: their sha256 is {found}.",
    "Install pcsr again, or copy the weights again.",
)
ANOTHER_RADIUS = Failure(
    ModelError, "The registry gives {name} a receptive radius its backbone does not have.", CORRECT_REGISTRY
)

# A network to compare with.
NO_ORIGINAL = Failure(ModelError, "{path} holds none of the original networks.", "Known at x4: {known}.")
NO_STATE_DICT = Failure(ModelError, "{path} holds no state dict.", "Give the original network's weights.")
