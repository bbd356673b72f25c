"""From exceptions to sentences."""

import pytest
import torch

from pcsr_cli.cli.console import printable
from pcsr_cli.cli.failures import explain, fail
from pcsr_cli.errors import InputError, UsageError
from tests.failing import tells


def test_errors_of_ours_are_told_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(InputError("It is broken.", "Mend it.")) == 1
    assert fail(UsageError("It is wrong.")) == 2
    assert capsys.readouterr().err == "pcsr: It is broken. Mend it.\npcsr: It is wrong.\n"


def allocate_far_too_much() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def allocate_more_than_can_be_counted() -> None:
    torch.empty(3, 2**31, 2**31, dtype=torch.uint8)


def run_out() -> None:
    raise MemoryError


@pytest.mark.parametrize("use", [allocate_far_too_much, allocate_more_than_can_be_counted, run_out])
def test_too_little_memory_is_told_with_a_way_out(use: object) -> None:
    assert callable(use)
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        use()
    assert tells(str(explain(raised.value)), "There is not enough memory for this.")


def test_mistakes_of_pcsr_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(KeyError("what\nnow")) == 1
    said = capsys.readouterr().err
    assert tells(said, "pcsr stumbled over its own mistake (KeyError: 'what\\nnow').")
    assert said.count("\n") == 1


def test_debugging_lets_errors_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCSR_DEBUG", "1")
    with pytest.raises(InputError):
        fail(InputError("It is broken."))


@pytest.mark.parametrize(
    ("text", "told"),
    [("bild ä 画.png", "bild ä 画.png"), ("\x1b[2J", "\\x1b[2J"), ("a\nb\tc", "a\\x0ab\\x09c"), ("\udcff", "\\xdcff")],
)
def test_what_is_printed_cannot_steer_a_terminal(text: str, told: str) -> None:
    assert printable(text) == told
