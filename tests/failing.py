"""Was it this failure? One way to ask, of an error raised and of what a command said."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pcsr_cli.errors import PcsrError


@contextmanager
def fails(kind: type[PcsrError], *parts: str) -> Iterator[pytest.ExceptionInfo[PcsrError]]:
    """The block must raise an error of this kind that says each of the parts."""
    with pytest.raises(kind) as raised:
        yield raised
    assert tells(str(raised.value), *parts), f"another failure: {raised.value}"


def tells(said: str, *parts: str) -> bool:
    """Whether ``said`` holds each of the parts, line breaks apart."""
    plain = _plain(said)
    return all(_plain(part) in plain for part in parts)


def _plain(text: str) -> str:
    return " ".join(text.split())
