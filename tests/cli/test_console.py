"""What commands print: errors with the option that helps, and stdout when it is closed, full or not UTF-8."""

import errno
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from pcsr_cli.cli import console
from pcsr_cli.cli.console import explain, print_message, printable, report_error
from pcsr_cli.errors import DeviceError, InputError, OutOfMemoryError, PcsrError, RefusedOutputError, UsageError
from tests.command import Pcsr
from tests.images import save


def test_an_error_is_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(InputError("The file is damaged.", "Replace it.")) == 1
    assert report_error(UsageError("The value is wrong.")) == 2
    assert capsys.readouterr().err == "pcsr: The file is damaged. Replace it.\npcsr: The value is wrong.\n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("Damaged."), "Damaged."),
        (RefusedOutputError("a.png exists.", setting="overwrite"), "a.png exists. To replace it, use --overwrite."),
        (UsageError("PNG has no quality.", "Write JPEG.", setting="quality"), "Write JPEG. See --quality."),
        (UsageError("Too many.", setting="skip_existing").within("a"), "a: Too many. See --skip-existing."),
        (DeviceError("There is no cuda."), "There is no cuda. See --device."),
        (OutOfMemoryError("Not enough memory."), "Not enough memory. Use a smaller --tile."),
    ],
)
def test_an_error_with_a_setting_gets_its_option(error: PcsrError, text: str) -> None:
    explained = explain(error)
    assert str(explained).endswith(text)
    assert type(explained) is type(error)
    assert "--" not in str(error)


def allocate_too_much() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def overflow_a_size() -> None:
    torch.empty(3, 2**31, 2**31, dtype=torch.uint8)


def raise_memory_error() -> None:
    raise MemoryError


@pytest.mark.parametrize("use", [allocate_too_much, overflow_a_size, raise_memory_error])
def test_running_out_of_memory_is_explained(use: object) -> None:
    assert callable(use)
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        use()
    text = str(explain(raised.value))
    assert "There is not enough memory." in text and "--tile" in text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_lack_of_memory_outside_of_tensors_is_explained(error: Exception) -> None:
    assert "There is not enough memory." in str(explain(error))


def test_a_limit_on_threads_is_explained() -> None:
    assert "The limit on the number of threads is reached." in str(explain(RuntimeError("can't start new thread")))


def test_a_bug_is_reported_as_an_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(KeyError("two\nlines")) == 1
    printed = capsys.readouterr().err
    assert "Internal error in pcsr (KeyError: 'two\\nlines')." in printed
    assert printed.count("\n") == 1


def test_debugging_raises_the_error_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCSR_DEBUG", "1")
    with pytest.raises(InputError):
        report_error(InputError("The file is damaged."))


@pytest.mark.parametrize(
    ("text", "printed"),
    [("bild ä 画.png", "bild ä 画.png"), ("\x1b[2J", "\\x1b[2J"), ("a\nb\tc", "a\\x0ab\\x09c"), ("\udcff", "\\xdcff")],
)
def test_control_characters_are_escaped(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 5.0, 10.0, 10.0, 15.0, 25.0, 25.0])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with console.progress_bar("x4 a.png", quiet=False) as progress:
        progress(0.1)
        progress(0.25)
        progress(0.3, "x4 b.png")
        progress(0.5)
    assert capsys.readouterr().err == "x4 a.png: 25%\nx4 b.png: 50%\n"


def test_a_message_is_wrapped_between_words_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Note: [red] and :dog: are kept; a line ends between words."
    print_message(text)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(console, "stderr_console", lambda: Console(stderr=True, force_terminal=True, width=20))
    print_message(text)
    whole, *lines = capsys.readouterr().err.splitlines()
    assert whole == text == " ".join(line.strip() for line in lines) and len(lines) > 2


def test_without_a_terminal_a_line_every_ten_seconds_shows_the_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 3.0, 9.9, *[10.1] * 2, 19.0, *[21.0] * 2])
    monkeypatch.setattr("pcsr_cli.cli.console.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(console, "stderr_console", lambda: Console(stderr=True, force_terminal=False))
    with console.progress_bar("5 images", quiet=False) as progress:
        for share in (0.1, 0.2, 0.3):
            progress(share)
        progress(0.4, "2/5 b.png")
        progress(0.5)
    assert capsys.readouterr().err.splitlines() == ["5 images: 30%", "2/5 b.png: 50%"]


TO_STDOUT = [
    ["--help"],
    ["--version"],
    ["models"],
    ["models", "--json"],
    ["upscale", "--model", "tiny", "in.png", "-", "--format", "png"],
    ["upscale", "--model", "tiny", "in.png", "out.png", "--json"],
]


@pytest.fixture
def pcsr(run_pcsr: Pcsr, tiny_folder: Path) -> Pcsr:
    """The command in a folder with an image and a model."""
    save(run_pcsr.cwd / "in.png")
    (run_pcsr.cwd / "tiny").symlink_to(tiny_folder)
    return run_pcsr


@pytest.mark.parametrize("arguments", TO_STDOUT, ids=" ".join)
def test_a_closed_stdout_is_an_error_before_any_work(pcsr: Pcsr, arguments: list[str]) -> None:
    pcsr(*arguments, stdout_is="closed").failed(2, "stdout is closed, but the output goes to stdout.")
    assert not (pcsr.cwd / "out.png").exists()


def test_an_unused_stdout_may_be_closed(pcsr: Pcsr) -> None:
    pcsr("upscale", "in.png", "out.png", "--model", "tiny", stdout_is="closed").succeeded()
    assert (pcsr.cwd / "out.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full")
@pytest.mark.parametrize("arguments", TO_STDOUT, ids=" ".join)
def test_a_full_stdout_is_an_error(pcsr: Pcsr, arguments: list[str]) -> None:
    ran = pcsr(*arguments, stdout_is="full").failed(1, "no space left")
    if arguments[-1] != "png":
        assert "Cannot write to stdout:" in ran.stderr


def test_characters_that_stdout_lacks_are_escaped(pcsr: Pcsr) -> None:
    (pcsr.cwd / "in.png").rename(pcsr.cwd / "画.png")
    ran = pcsr("plan", "画.png", "--model", "tiny", env={"PYTHONIOENCODING": "ascii"}).succeeded()
    assert "\\u753b.png" in ran.stdout
