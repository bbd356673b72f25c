"""Methods are parsed, and invalid ones are refused."""

import pytest

from pcsr_cli.errors import UsageError
from pcsr_cli.evaluate.arguments import Method, parse_methods
from tests.failing import fails


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The list of methods is empty."),
        ("nonsense", "Unknown method"),
        ("budget", "Unknown method"),
        ("threshold=2", "threshold"),
        *((text, "Invalid method") for text in ("k=x", "adm=1", "patch=0", "patch=1.5", "patch=nan", "patch=inf")),
    ],
)
def test_invalid_methods_are_refused(text: str, message: str) -> None:
    with fails(UsageError, message):
        parse_methods(text)


def test_different_methods_have_different_labels() -> None:
    labels = [method.label for method in parse_methods("threshold=0.5,threshold=0.5000001,k=1,k=-1,patch=32")]
    assert labels == ["threshold 0.5", "threshold 0.5000001", "k = 1", "k = -1", "patch 32"]


def test_methods_are_parsed_with_defaults() -> None:
    assert parse_methods("all-heavy, patch,k=-1") == (Method("heavy"), Method("patch", 32), Method("k", -1))
