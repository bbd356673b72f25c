"""Invalid input is one line on stderr and an exit code, and leaves no files."""

import errno
import json
import os
import pickle
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pcsr_cli.errors import OutputError
from pcsr_cli.images import files
from tests.command import Pcsr
from tests.failing import tells
from tests.images import levels, load, save


@pytest.fixture
def picture(run_pcsr: Pcsr) -> Path:
    """An image in the folder of the command."""
    return save(run_pcsr.cwd / "in.png", levels(12, 12))


@pytest.fixture
def broken(run_pcsr: Pcsr, tiny_folder: Path, tmp_path: Path) -> Path:
    """A model to damage, outside the folder of the command."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


class Refused:
    """Runs ``pcsr upscale`` and checks that it fails with one line and leaves the folder unchanged."""

    def __init__(self, run_pcsr: Pcsr, model: Path) -> None:
        self.run_pcsr = run_pcsr
        self.model = model

    def __call__(self, code: int, *words: str, arguments: list[str | Path], largest_file: int | None = None) -> None:
        before = self.run_pcsr.files()
        model = () if "--model" in arguments else ("--model", self.model)
        ran = self.run_pcsr("upscale", *arguments, *model, largest_file=largest_file)
        ran.failed(code, *words)
        assert self.run_pcsr.files() == before


@pytest.fixture
def refused(run_pcsr: Pcsr, tiny_folder: Path, picture: Path) -> Refused:
    return Refused(run_pcsr, tiny_folder)


# What is read.


def test_missing_file(refused: Refused) -> None:
    refused(1, "no file nowhere.png", "Check the path", arguments=["nowhere.png", "out.png"])


def test_a_folder_needs_a_folder_for_its_results(refused: Refused, run_pcsr: Pcsr) -> None:
    (run_pcsr.cwd / "folder").mkdir()
    refused(2, "out.png is not a folder", "another name", arguments=["folder", "out.png"])
    refused(1, "No image found in folder", arguments=["folder", "results"])


@pytest.mark.parametrize("content", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0" * 999])
def test_not_an_image(refused: Refused, run_pcsr: Pcsr, content: bytes) -> None:
    (run_pcsr.cwd / "text.png").write_bytes(content)
    refused(1, "text.png is not an image", "Known formats: .png", arguments=["text.png", "out.png"])


def test_an_empty_file(refused: Refused, run_pcsr: Pcsr) -> None:
    (run_pcsr.cwd / "empty.png").touch()
    refused(1, "empty.png is empty", arguments=["empty.png", "out.png"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize(
    "command",
    ["upscale PIPE out.png", "plan PIPE", "models --registry PIPE", "models convert PIPE out", "train PIPE --out run"],
)
def test_a_named_pipe_is_refused_without_waiting(run_pcsr: Pcsr, command: str) -> None:
    os.mkfifo(run_pcsr.cwd / "pipe")
    run_pcsr(*command.replace("PIPE", "pipe").split()).failed(1, "pipe")
    assert run_pcsr.files() == ["pipe"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_image(refused: Refused, run_pcsr: Pcsr, suffix: str) -> None:
    whole = save(run_pcsr.cwd / f"whole{suffix}", levels(40, 40)).read_bytes()
    (run_pcsr.cwd / f"half{suffix}").write_bytes(whole[: len(whole) // 2])
    refused(1, f"half{suffix} is", "damaged", arguments=[f"half{suffix}", "out.png"])


def test_zero_size_image(refused: Refused, run_pcsr: Pcsr) -> None:
    header = b"GIF89a" + bytes([0, 0, 0, 0, 0, 0, 0]) + b"," + bytes(8) + b"\0\x02\x02\x4c\x01\0;"
    (run_pcsr.cwd / "empty.gif").write_bytes(header)
    refused(1, "empty.gif", arguments=["empty.gif", "out.png"])


def test_bomb(refused: Refused, run_pcsr: Pcsr) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (run_pcsr.cwd / "bomb.png").write_bytes(png)
    refused(1, "60,000 x 60,000 pixels", "--allow-huge", arguments=["bomb.png", "out.png"])


@pytest.mark.parametrize("name", ["in" * 200 + ".png", "in.png/in.png"])
@pytest.mark.parametrize(
    "command",
    [
        "upscale NAME out.png",
        "upscale in.png NAME",
        "upscale in.png --out-dir NAME",
        "upscale in.png out.png --map NAME",
        "upscale in.png out.png --force-heavy NAME",
        "plan NAME",
        "verify NAME",
        "sweep NAME",
        "sweep in.png --lr NAME",
        "sweep in.png --original NAME",
        "sweep in.png --csv NAME",
        "sweep in.png --plot NAME",
        "sweep in.png --report NAME",
        "bench NAME",
        "bench in.png --lr NAME",
        "bench in.png --original NAME",
        "bench in.png --csv NAME",
        "bench in.png --report NAME",
        "report page.html NAME",
        "report NAME in.png",
        "models --registry NAME",
        "models convert NAME folder",
        "train NAME --out run",
    ],
)
def test_an_impossible_path(run_pcsr: Pcsr, picture: Path, tiny_folder: Path, command: str, name: str) -> None:
    arguments: list[str | Path] = [*command.replace("NAME", name).split()]
    if arguments[0] not in {"models", "train"}:
        arguments += ["--model", tiny_folder]
    ran = run_pcsr(*arguments)
    ran.failed(2 if ran.code == 2 else 1)
    assert run_pcsr.files() == ["in.png"]


@pytest.mark.parametrize("name", ["out" * 200, "in.png/out"])
def test_a_plan_accepts_an_impossible_output(run_pcsr: Pcsr, picture: Path, tiny_folder: Path, name: str) -> None:
    run_pcsr("plan", "in.png", f"{name}/x.png", "--model", tiny_folder).succeeded()


def test_an_image_of_floating_point_numbers(refused: Refused, run_pcsr: Pcsr) -> None:
    Image.new("F", (8, 8)).save(run_pcsr.cwd / "float.tif")
    refused(1, "Floating-point", "16 bits", arguments=["float.tif", "out.png"])


# What is written.


@pytest.mark.parametrize("name", ["out.xyz", "out", ".png"])
def test_unknown_output_format(refused: Refused, name: str) -> None:
    refused(2, "format", ".png", ".jpg", "--format", arguments=["in.png", name])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_output_exists(refused: Refused, run_pcsr: Pcsr, suffix: str) -> None:
    there = save(run_pcsr.cwd / f"out{suffix}")
    before = there.read_bytes()
    refused(2, "exists", "--overwrite", arguments=["in.png", f"out{suffix}"])
    assert there.read_bytes() == before


def test_output_is_the_input(refused: Refused, run_pcsr: Pcsr, picture: Path) -> None:
    before = picture.read_bytes()
    (run_pcsr.cwd / "link.png").symlink_to(picture)
    for output in ("in.png", "./in.png", picture, "link.png"):
        refused(2, "is also an input", arguments=["in.png", output, "--overwrite"])
    assert picture.read_bytes() == before


def test_output_is_a_folder(refused: Refused, run_pcsr: Pcsr) -> None:
    (run_pcsr.cwd / "out.png").mkdir()
    refused(2, "folder", arguments=["in.png", "out.png", "--overwrite"])


@pytest.mark.parametrize("name", ["nowhere/out.png", "in.png/out.png", "out" * 100 + ".png"])
def test_an_impossible_output(refused: Refused, name: str) -> None:
    refused(1, "cannot be written", arguments=["in.png", name])


def test_read_only_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root may write anywhere, so the test does not use permissions.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="permission denied") as told, files.atomic_write(tmp_path / "out.png"):
        pass
    assert told.value.next_step


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_full_disk(refused: Refused, suffix: str) -> None:
    refused(1, "cannot be written", "large", arguments=["in.png", f"out{suffix}"], largest_file=400)


def test_a_full_disk_keeps_the_existing_file(refused: Refused, run_pcsr: Pcsr) -> None:
    there = save(run_pcsr.cwd / "out.png")
    before = there.read_bytes()
    refused(1, "cannot be written", arguments=["in.png", "out.png", "--overwrite"], largest_file=400)
    assert there.read_bytes() == before


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_a_format_without_transparency(refused: Refused, run_pcsr: Pcsr, suffix: str) -> None:
    save(run_pcsr.cwd / "clear.png", levels(channels=4))
    refused(2, "transparency", ".png", arguments=["clear.png", f"out{suffix}"])


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 4096), (".jpg", 16_376)])
def test_format_too_small_for_the_result(refused: Refused, run_pcsr: Pcsr, suffix: str, side: int) -> None:
    save(run_pcsr.cwd / "long.png", levels(1, side))
    refused(2, "pixels per side", ".png", arguments=["long.png", f"out{suffix}"])


# What is asked for.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--k", "1", "--adm"], ["--k and --adm", "exclude"]),
        (["--k", "1", "--threshold", "0.5"], ["--threshold and --k", "exclude"]),
        (["--threshold", "0.5", "--k", "1", "--adm"], ["exclude"]),
        (["--threshold", "1.5"], ["1.5", "0 to 1"]),
        (["--threshold", "nan"], ["nan", "0 to 1"]),
        (["--k", "inf"], ["out of range"]),
        (["--k", "nan"], ["out of range"]),
        (["--refine", "10"], ["--refine 10", "0"]),
        (["--refine", "-1"], ["--refine -1", "0"]),
        (["--tile", "0"], ["--tile 0", "auto"]),
        (["--memory", "lots"], ["--memory lots", "512M"]),
        (["--tile", "7"], ["--tile 7", "from 8"]),
        (["--tile", "big"], ["--tile big", "auto"]),
        (["--tile", "1.5"], ["--tile 1.5", "auto"]),
        (["--tile", "9" * 5000], ["--tile", "auto"]),
        (["--device", "toaster"], ["toaster", "cpu"]),
        (["--device", "cuda:7"], ["not available", "See --device"]),
        (["--device", "meta"], ["meta", "See --device"]),
        (["--device", ""], ["--device is empty"]),
        (["--precision", "fp64"], ["fp64", "fp32"]),
        (["--scale", "0.5"], ["0.5", "at least 1"]),
        (["--scale", "-4"], ["-4", "at least 1"]),
        (["--scale", "0"], ["at least 1"]),
        (["--scale", "nan"], ["nan", "at least 1"]),
        (["--scale", "inf"], ["inf", "at least 1"]),
        (["--scale", "big"], ["--scale", "--help"]),
        (["--scale", ""], ["--scale is empty"]),
        (["--out-dir="], ["--out-dir is empty"]),
        (["--refine", "3", "--no-refine"], ["exclude"]),
        (["--device", "cpu:7"], ["not available"]),
        (["--scale", "8"], ["trained for x4", "x8"]),
        (["--scale", "1e300"], ["trained for x4"]),
        (["--json", "--quiet"], ["exclude"]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_usage(refused: Refused, options: list[str | Path], words: list[str]) -> None:
    refused(2, *words, arguments=["in.png", "out.png", *options])


# Models.


@pytest.mark.parametrize("name", ["nonsense", "carn@main", "x" * 300, "a/b/c", "https://huggingface.co/a/b"])
def test_unknown_model(refused: Refused, name: str) -> None:
    refused(2, "no model", "carn", arguments=["in.png", "out.png", "--model", name])


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors", "folder/gone.pth"])
def test_missing_model_file(refused: Refused, name: str) -> None:
    refused(2, "no model", name, arguments=["in.png", "out.png", "--model", name])


def test_hub_unreachable_with_nothing_cached(refused: Refused) -> None:
    refused(1, "cannot be reached", "`pcsr models fetch carn`", arguments=["in.png", "out.png", "--model", "carn"])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


def set_first(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["classifier.imnet.layers.0.bias"][0] = value

    return change


def test_wrong_keys(refused: Refused, broken: Path) -> None:
    def rename(state: dict[str, torch.Tensor]) -> None:
        state["encoder.other"] = state.pop("encoder.head_conv.0.bias")

    change_weights(broken, rename)
    words = ["missing: encoder.head_conv.0.bias", "unexpected: encoder.other"]
    refused(1, *words, arguments=["in.png", "out.png", "--model", broken])


def test_wrong_shapes(refused: Refused, broken: Path) -> None:
    def cut(state: dict[str, torch.Tensor]) -> None:
        state["encoder.head_conv.0.bias"] = state["encoder.head_conv.0.bias"][:3].clone()

    change_weights(broken, cut)
    refused(1, "shape: encoder.head_conv.0.bias", arguments=["in.png", "out.png", "--model", broken])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(refused: Refused, broken: Path, value: float) -> None:
    change_weights(broken, set_first(value))
    refused(
        1, "infinite or NaN values: classifier.imnet.layers.0.bias", arguments=["in.png", "out.png", "--model", broken]
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"mean": 1}', "[" * 100_000, "\x00", '{"mean": NaN}'])
def test_an_invalid_config(refused: Refused, broken: Path, text: str) -> None:
    (broken / "config.json").write_text(text)
    refused(1, "config.json", arguments=["in.png", "out.png", "--model", broken])


def test_a_config_with_an_unknown_key(refused: Refused, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "\x1b[2Jcolour\n": 1}))
    # Text from a file must not control the terminal.
    refused(1, "unknown field `\\x1b[2Jcolour\\x0a`", arguments=["in.png", "out.png", "--model", broken])


def test_a_model_without_weights(refused: Refused, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    refused(1, "model.safetensors", arguments=["in.png", "out.png", "--model", broken])


def test_truncated_weights(refused: Refused, broken: Path) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(1, "model.safetensors", "again", arguments=["in.png", "out.png", "--model", broken])


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def pickled_by_torch(path: Path, content: object) -> None:
    torch.save(content, path)


def pickled_plainly(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [pickled_by_torch, pickled_plainly])
def test_code_in_a_pickle_never_runs(refused: Refused, tmp_path: Path, write: Callable[[Path, object], None]) -> None:
    write(tmp_path / "evil.pth", {"model": Malice(tmp_path / "owned")})
    refused(
        1, "more than tensors", "weights_only=True", arguments=["in.png", "out.png", "--model", tmp_path / "evil.pth"]
    )
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("write", [pickled_by_torch, pickled_plainly])
def test_code_in_place_of_a_tensor_never_runs(
    refused: Refused, broken: Path, tmp_path: Path, write: Callable[[Path, object], None]
) -> None:
    write(broken / "model.safetensors", {"model": Malice(tmp_path / "owned")})
    refused(1, "model.safetensors", arguments=["in.png", "out.png", "--model", broken])
    ran = refused.run_pcsr("bench", ".", "--original", broken / "model.safetensors", "--model", refused.model)
    ran.failed(1, "model.safetensors")
    (broken / "model.safetensors").rename(tmp_path / "original.pth")
    refused.run_pcsr("bench", ".", "--original", tmp_path / "original.pth", "--model", refused.model).failed(1, "pth")
    assert not (tmp_path / "owned").exists()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "hello")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.write_bytes(b"\x80\x02}q\x00"),
        write_zip,
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"model": {"sd": {}}}, path),
        lambda path: torch.jit.save(torch.jit.script(torch.nn.Identity()), path),
    ],
    ids=["empty", "text", "cut short", "zip", "list", "without arguments", "torchscript"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_invalid_pth(refused: Refused, tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "model.pth")
    refused(1, "model.pth", arguments=["in.png", "out.png", "--model", tmp_path / "model.pth"])


def test_other_files_are_not_models(refused: Refused) -> None:
    refused(1, "in.png is not a model", ".safetensors", arguments=["in.png", "out.png", "--model", "in.png"])


# Interruptions and permissions.


def test_debug_shows_the_traceback(run_pcsr: Pcsr) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", env={"PCSR_DEBUG": "1"})
    assert ran.code == 1
    assert "Traceback" in ran.stderr
    assert "InputError" in ran.stderr


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_an_interruption_leaves_no_files(run_pcsr: Pcsr, tiny_folder: Path, number: signal.Signals, code: int) -> None:
    save(run_pcsr.cwd / "big.png", levels(1500, 1500))
    before = run_pcsr.files()
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "big.png", "out.png", "--model", str(tiny_folder)]
    master, terminal = os.openpty()  # on a terminal the progress bar shows when the work starts
    with subprocess.Popen(
        command, cwd=run_pcsr.cwd, env={**run_pcsr.env, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        said = b""
        while b"big.png" not in said:
            said += os.read(master, 1000)
        time.sleep(0.5)
        assert process.poll() is None, "the picture should take longer"
        process.send_signal(number)
        assert process.wait(60) == code
        said = b""
        while True:
            try:
                if not (piece := os.read(master, 1000)):
                    break
            except OSError:  # a terminal raises this when the other side is closed
                break
            said += piece
    os.close(master)
    assert b"Traceback" not in said
    assert (b"no half-written file was left" in said) == (number is signal.SIGINT)
    assert run_pcsr.files() == before


def test_a_result_has_the_usual_permissions(run_pcsr: Pcsr, tiny_folder: Path, picture: Path) -> None:
    run_pcsr("upscale", "in.png", "out.png", "--model", tiny_folder).succeeded()
    (run_pcsr.cwd / "usual").touch()
    modes = [stat.S_IMODE((run_pcsr.cwd / name).stat().st_mode) for name in ("out.png", "usual")]
    assert modes[0] == modes[1]
    assert load(run_pcsr.cwd / "out.png").shape == (48, 48, 3)


MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the address space")
@pytest.mark.parametrize(
    ("most", "where"), [(20 * MIB, "reading"), (130 * MIB, "the strip of the result")], ids=["reading", "computing"]
)
@pytest.mark.parametrize("output", ["out.png", "out.jpg"])
def test_too_little_memory_is_one_line(run_pcsr: Pcsr, tiny_folder: object, output: str, most: int, where: str) -> None:
    save(run_pcsr.cwd / "in.png", np.full((1500, 2000, 3), 77, np.uint8))
    ran = run_pcsr("upscale", "in.png", output, "--model", str(tiny_folder), most_memory=most)
    assert tells(ran.failed(1).stderr, "There is not enough memory."), where
    assert run_pcsr.files() == ["in.png"]
