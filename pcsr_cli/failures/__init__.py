"""The table of failures: every way pcsr can fail, its sentence, its next step and its exit code, by subject.

A module of this package holds one subject's rows. A row is called with the facts of the case and gives the error to
raise: ``raise pictures.NO_FILE(path=path) from error``. A module goes by its own name where it is imported, or, where
that is taken, by ``pictures_failures``.
"""

from dataclasses import dataclass
from string import Formatter

from pcsr_cli.errors import PcsrError


def in_full(number: float) -> str:
    """A number as it was given, such as 4, 0.5 or 4.0000001: one that was rounded could seem to be within a limit."""
    return repr(float(number)).removesuffix(".0")


class _InFull(Formatter):
    """Tells numbers in full unless a row says how to round them."""

    def format_field(self, value: object, format_spec: str) -> str:
        if isinstance(value, float) and not format_spec:
            return in_full(value)
        return str(super().format_field(value, format_spec))


_IN_FULL = _InFull()


@dataclass(frozen=True)
class Failure:
    """One row: the kind of error, what is wrong, what to do about it. ``{names}`` stand for the facts of a case."""

    kind: type[PcsrError]
    sentence: str
    next_step: str

    def __call__(self, **facts: object) -> PcsrError:
        """The error to raise; ``facts`` are those the row names, and all of them."""
        assert facts.keys() == self.facts, f"this row wants {sorted(self.facts)}"
        return self.kind(_IN_FULL.vformat(self.sentence, (), facts), _IN_FULL.vformat(self.next_step, (), facts))

    @property
    def facts(self) -> frozenset[str]:
        """The names a case has to give."""
        pieces = Formatter().parse(self.sentence + self.next_step)
        return frozenset(name for _, name, _, _ in pieces if name is not None)

    @property
    def exit_code(self) -> int:
        """What the command line returns."""
        return self.kind.exit_code
