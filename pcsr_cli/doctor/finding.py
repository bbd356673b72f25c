"""What was found about one thing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """``FINE``; ``SHORT``: less than there could be, and pcsr works; ``BROKEN``: something pcsr needs does not work."""

    FINE = "fine"
    SHORT = "short"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing: what is so in a few words, what to do about it where it is not fine, and the facts as data."""

    subject: str
    state: State
    said: str
    next_step: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
