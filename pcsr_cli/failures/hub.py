"""What can be wrong between here and the Hugging Face Hub, and with its cache."""

from pcsr_cli.errors import HubError
from pcsr_cli.failures import Failure

ONCE_WITH_A_NETWORK = (
    "Run `pcsr models fetch {name}` once with a network, or name a folder with config.json and model.safetensors."
)

# What was asked for.
BAD_NAME = Failure(HubError, "{repo!r} is not a name the Hub accepts.", "It has the form user/repo.")
BAD_REVISION = Failure(HubError, "{revision!r} is no revision.", "Give a branch, tag or commit of the repository.")
BAD_REQUEST = Failure(
    HubError, "{repo} cannot be asked for: {reason}.", "Check HF_ENDPOINT, HF_TOKEN and the proxy settings."
)
NO_ADDRESS = Failure(
    HubError, "HF_ENDPOINT, {endpoint!r}, is no address of a Hub.", "Such as https://huggingface.co; or unset it."
)

# What the Hub answers.
NO_REPOSITORY = Failure(
    HubError, "The Hub has no repository {repo}.", "If it is private, set HF_TOKEN to a token that may read it."
)
GATED = Failure(HubError, "{repo} is gated.", "Ask for access on its page, then set HF_TOKEN.")
NO_REVISION = Failure(HubError, "{repo} has no revision {revision}.", "Give a branch, tag or commit it has.")
NO_MODEL = Failure(HubError, "{repo} lacks {config} or {weights}.", "Give a repository that holds a PCSR model.")
NOT_THE_HUB = Failure(
    HubError, "What answers at {endpoint} is not the Hub.", "Check HF_ENDPOINT and the network's login page."
)
WRONG_BYTES = Failure(
    HubError,
    "What the Hub sent for {file} of {repo} does not match the checksum it names.",
    "Nothing was kept; try again, or check the proxy between here and the Hub.",
)

# What the cache holds; ``name`` is the model's, as ``pcsr models fetch`` takes it.
NOT_CACHED = Failure(
    HubError,
    "{repo} is not in the cache, and {why}.",
    ONCE_WITH_A_NETWORK,
)
DAMAGED = Failure(
    HubError,
    "{file} of {repo} is damaged in the cache, and {why}.",
    ONCE_WITH_A_NETWORK,
)
CACHE_UNUSABLE = Failure(
    HubError,
    "The Hub cache {folder} cannot be used: {reason}.",
    "Free space or point HF_HOME to a folder that can be written.",
)
