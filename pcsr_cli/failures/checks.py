"""What `pcsr verify` and `pcsr doctor` find wrong."""

from pcsr_cli.errors import CheckError
from pcsr_cli.failures import Failure

PROMISE_BROKEN = Failure(
    CheckError,
    "{broken} of {checks} checks of {picture} went beyond what pcsr promises.",
    "Report it with what `pcsr verify --json` and `pcsr doctor --json` print.",
)
UNHEALTHY = Failure(CheckError, "{broken} of {checks} things are broken.", "What to do about each is said above.")
