"""Failures of the page that ``pcsr report`` makes."""

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.failures import Failure

NOT_HTML = Failure(RefusedOutputError, "A report is not written as {name}.", "Give it a name that ends in .html.")
TOO_MANY_CUTS = Failure(UsageError, "A report holds at most {most} cuts, not {count}.", "Give a coarser grid.")
