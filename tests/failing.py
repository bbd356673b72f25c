"""Was it this failure? One way to ask, of an error raised and of what a command said."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from string import Formatter

import pytest

from pcsr_cli.errors import PcsrError
from pcsr_cli.failures import Failure


@contextmanager
def fails(row: Failure, **facts: object) -> Iterator[pytest.ExceptionInfo[PcsrError]]:
    """The block must raise this row's error. With facts, the very words; without, the row's words around any."""
    with pytest.raises(row.kind) as raised:
        yield raised
    assert tells(row, str(raised.value), **facts), f"another failure: {raised.value}"


def tells(row: Failure, said: str, **facts: object) -> bool:
    """Whether ``said`` holds the row's sentence and next step, line breaks apart; facts left out may be anything."""
    plain = " ".join(said.split())
    if facts:
        return " ".join(str(row(**facts)).split()) in plain
    pieces = Formatter().parse(f"{row.sentence} {row.next_step}")
    pattern = "".join(re.escape(piece) + (".*" if fact is not None else "") for piece, fact, _, _ in pieces)
    return re.search(pattern, plain) is not None
