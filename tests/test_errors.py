"""Errors: the exit code of every class is documented, and numbers in sentences are not rounded."""

from pathlib import Path

import pytest

from pcsr_cli import errors
from pcsr_cli.errors import PcsrError, in_full

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "exit-codes.md"
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PcsrError)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_exit_code_of_every_kind_is_documented(kind: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    (line,) = [line for line in document.splitlines() if line.startswith("| ") and f"`{kind}`" in line]
    assert line.startswith(f"| {getattr(errors, kind).exit_code} |")


@pytest.mark.parametrize(
    ("number", "text"), [(4.0, "4"), (-4, "-4"), (4.0000001, "4.0000001"), (0.5, "0.5"), (float("inf"), "inf")]
)
def test_numbers_are_not_rounded(number: float, text: str) -> None:
    assert in_full(number) == text
