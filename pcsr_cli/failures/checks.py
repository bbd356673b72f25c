"""What `pcsr verify` and `pcsr doctor` find wrong."""

from pcsr_cli.errors import CheckError, HubError
from pcsr_cli.failures import Failure

PROMISE_BROKEN = Failure(
    CheckError,
    "{broken} of {checks} checks of {picture} went beyond what pcsr promises.",
    "Report it with what `pcsr verify --json` and `pcsr doctor --json` print.",
)
UNHEALTHY = Failure(CheckError, "{broken} of {checks} things do not work.", "What to do is said beside each.")
NO_HUB = Failure(
    HubError,
    "No model can be fetched: {reason}.",
    "What is cached, and builtin, work without; else check the network, HF_ENDPOINT and the proxy.",
)
