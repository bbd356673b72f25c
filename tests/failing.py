"""Checks of a raised error and of the output of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pcsr_cli.errors import PcsrError


@contextmanager
def fails(kind: type[PcsrError], *parts: str) -> Iterator[pytest.ExceptionInfo[PcsrError]]:
    """The block must raise an error of this kind that contains each of the parts."""
    with pytest.raises(kind) as raised:
        yield raised
    assert contains(str(raised.value), *parts), f"another error: {raised.value}"


def contains(text: str, *parts: str) -> bool:
    """Whether ``text`` contains each of the parts. Line breaks count as spaces."""
    plain = " ".join(text.split())
    return all(" ".join(part.split()) in plain for part in parts)
