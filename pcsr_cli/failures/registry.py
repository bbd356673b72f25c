"""What can be wrong with a registry of models, and with asking it."""

from pcsr_cli.errors import RegistryError, UnknownModelError
from pcsr_cli.failures import Failure

CORRECT = "Correct it there."

# Asking.
NO_SUCH_MODEL = Failure(
    UnknownModelError,
    "There is no model {name!r}, nor a file or folder of that name.",
    "Known models: {known}. Or give user/repo on the Hub, a folder, a .safetensors or a .pth.",
)
NO_ORDER = Failure(RegistryError, "The registry has no order for --model auto.", "Name a model with --model.")

# The file.
UNREADABLE = Failure(
    RegistryError, "The registry {path} cannot be read: {reason}.", "Check --registry and PCSR_REGISTRY."
)
NOT_TOML = Failure(RegistryError, "The registry {path} is not valid TOML: {reason}.", CORRECT)
OTHER_TABLES = Failure(
    RegistryError, "The registry {path} holds tables models.NAME and auto, a list of names, nothing else.", CORRECT
)
UNKNOWN_CHOICE = Failure(RegistryError, "The registry {path} chooses among models it does not know: {names}.", CORRECT)

# An entry as a whole; ``entry`` names the file and the model.
BAD_NAME = Failure(RegistryError, "{entry}: a name is made of a-z, 0-9, dot, dash and underscore.", CORRECT)
NOT_A_TABLE = Failure(RegistryError, "{entry} is not a table.", CORRECT)
KEYS_MISSING = Failure(RegistryError, "{entry} lacks keys: {keys}.", "Give them there.")
KEYS_UNKNOWN = Failure(RegistryError, "{entry} has unknown keys: {keys}.", "Remove or correct them there.")
NOT_WELL_FORMED = Failure(RegistryError, "{entry} is not well formed: {reason}.", CORRECT)

# A part of an entry, to be told within it.
FEW_BRANCHES = Failure(RegistryError, "samplers has fewer than two branches.", CORRECT)
NOT_A_LIST = Failure(RegistryError, "{key} is not made of lists.", CORRECT)
NOT_WHOLE = Failure(RegistryError, "{key} is not a whole number from 1.", CORRECT)
NOT_TEXT = Failure(RegistryError, "{key} is not text.", CORRECT)
NO_SUCH_ORIGINAL = Failure(RegistryError, "original is none of {known}.", CORRECT)
NO_LOCATION = Failure(RegistryError, "it needs one of repo, folder and packaged.", CORRECT)
BAD_REPO = Failure(RegistryError, "{repo!r} is not a repository of the form user/name.", CORRECT)
BAD_REVISION = Failure(RegistryError, "revision is not a full commit of 40 hexadecimal digits.", CORRECT)
BAD_SHA256 = Failure(RegistryError, "sha256 is not a checksum of 64 hexadecimal digits.", CORRECT)
BAD_FILE_NAME = Failure(RegistryError, "files are plain names, without folders.", CORRECT)
BAD_FOLDER = Failure(RegistryError, "folder {folder!r} is no path of a folder.", CORRECT)
BAD_PACKAGED = Failure(RegistryError, "packaged {name!r} is no plain name of a folder in the package.", CORRECT)
