"""What can be wrong with how pixels are to be routed: thresholds, k, budgets."""

from pcsr_cli.errors import UsageError
from pcsr_cli.failures import Failure

NO_PROBABILITY = Failure(UsageError, "A threshold of {cut} is not a probability.", "Choose one from 0 to 1.")
K_OUT_OF_RANGE = Failure(UsageError, "k = {k} is out of range.", "Choose one from -100 to 100; -1 to 2 is useful.")
MORE_BRANCHES = Failure(
    UsageError, "{what} cuts between two branches, but this model has {branches}.", "Use --k or --adm."
)

NO_BUDGET = Failure(UsageError, "A budget of {text!r} is none.", "Such as 60% (of the original), 50G (FLOPs) or 8s.")
BUDGET_OUT_OF_REACH = Failure(
    UsageError,
    "A budget of {budget} cannot be met.",
    "This takes {least}G (all light) to {most}G (all heavy){percent}.",
)
SECONDS_OUT_OF_REACH = Failure(
    UsageError,
    "A budget of {seconds}s cannot be met.",
    "Here this takes about {least:.2f}s (all light) to {most:.2f}s (all heavy) of computing.",
)
