"""All of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pcsr_cli.doctor.finding import Finding, State
from pcsr_cli.doctor.formats import examine_formats
from pcsr_cli.doctor.machine import examine_machine
from pcsr_cli.doctor.models import examine_models


@dataclass(frozen=True)
class Examination:
    """What was found, thing by thing."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> int:
        """How many things do not work."""
        return sum(finding.state is State.BROKEN for finding in self.findings)


def examine(own_registry: Path | None = None, observe: Callable[[Finding], None] = lambda finding: None) -> Examination:
    """Look at everything, which takes seconds; ``observe`` is told of each finding as it comes."""

    def told() -> Iterator[Finding]:
        for part in (examine_machine(), examine_models(own_registry), examine_formats()):
            for finding in part:
                observe(finding)
                yield finding

    return Examination(tuple(told()))
